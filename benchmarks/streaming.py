"""Streams of the small encoders: how far from the whole utterance, and how fast.

    python benchmarks/streaming.py --data LibriSpeech/dev-clean [--out FILE]
    python benchmarks/streaming.py --data speech --models apc_mini cpc_mini --seconds 30

Every folder with audio files in it is one speaker, whose files, in order of name, are put one after
the other: the first `--seconds` are the stream, as many after them what statistics are measured on.
Folders with less are left out. Of each second after the start, over all speakers: the root mean
square of the difference from the encoder's output for the whole, in standard deviations of that,

    running    each norm goes by all frames so far
    measured   each norm goes by statistics of the speaker's other speech
    whole      each norm goes by statistics of the stream itself, known beforehand

and of the first speaker's stream, in processor time of one thread, how many times faster than the
speech is pushes of 20 ms, 100 ms and 1 s are taken, and the median time of a push.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from auricle import Encoder

MINIS = (
    "cpc_mini",
    "modified_cpc_mini",
    "apc_mini",
    "vq_apc_mini",
    "wav2vec_mini",
    "vq_wav2vec_mini",
)
SAMPLE_RATE = 16_000
SHOWN_SECONDS = (1, 2, 5, 10, 20, 30)
"""Seconds after the start that are printed; all of them are written."""

PUSH_MS = (20, 100, 1000)
SUFFIXES = {".flac", ".wav"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of speakers' folders")
    parser.add_argument("--models", nargs="+", default=MINIS, metavar="NAME")
    parser.add_argument("--seconds", type=int, default=30, help="length of a stream (default: 30)")
    parser.add_argument("--max-speakers", type=int, default=20, help="(default: 20)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    arguments = parser.parse_args()

    import torch

    import auricle

    torch.set_num_threads(1)
    speakers = read_speakers(arguments.data, 2 * arguments.seconds, arguments.max_speakers)
    if not speakers:
        parser.error(f"{arguments.data} has no folder with {2 * arguments.seconds} s of speech")
    models = {}
    for name in arguments.models:
        encoder = auricle.load(name, device="cpu")
        models[name] = {
            "errors": errors(encoder, speakers, arguments.seconds),
            "speed": speed(encoder, speakers[0][: arguments.seconds * SAMPLE_RATE]),
        }
    figures = {"speakers": len(speakers), "seconds": arguments.seconds, "models": models}
    print(table(figures))
    if arguments.out is not None:
        arguments.out.write_text(f"{json.dumps(figures, indent=1)}\n", encoding="utf-8")
    return 0


def read_speakers(folder: Path, seconds: int, max_speakers: int) -> list[Tensor]:
    """So many seconds of each speaker."""
    import torch

    from auricle.audio.files import read_audio

    wanted = seconds * SAMPLE_RATE
    by_folder: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in SUFFIXES:
            by_folder.setdefault(path.parent, []).append(path)
    speakers: list[Tensor] = []
    for paths in by_folder.values():
        parts: list[Tensor] = []
        while paths and sum(map(len, parts)) < wanted:
            parts.append(read_audio(paths.pop(0), sample_rate=SAMPLE_RATE))
        if sum(map(len, parts)) >= wanted and len(speakers) < max_speakers:
            speakers.append(torch.cat(parts)[:wanted])
    return speakers


def errors(encoder: Encoder, speakers: list[Tensor], seconds: int) -> dict[str, list[float]]:
    """Of each way, the error in each second, in standard deviations of the whole's output."""
    import torch

    cut = seconds * SAMPLE_RATE
    sums: dict[str, Tensor] = {}
    for speech in speakers:
        stream = speech[:cut]
        with torch.inference_mode():
            (whole,) = encoder([stream])
        ways = {
            "running": "running",
            "measured": encoder.stream_statistics([speech[cut:]]),
            "whole": encoder.stream_statistics([stream]),
        }
        for way, normalisation in ways.items():
            session = encoder.stream(normalisation=normalisation)  # type: ignore[arg-type]
            frames = torch.cat([session.push(stream), session.finish()])
            squares = ((frames - whole) / whole.std()).square().mean(1)
            by_second = torch.stack([part.mean() for part in squares.tensor_split(seconds)])
            sums[way] = sums.get(way, torch.zeros(seconds)) + by_second
    return {way: (total / len(speakers)).sqrt().tolist() for way, total in sums.items()}


def speed(encoder: Encoder, speech: Tensor) -> dict[str, dict[str, float]]:
    """Of each length of push, seconds of speech per second, and the median push in ms."""
    figures = {}
    for push_ms in PUSH_MS:
        session = encoder.stream()
        session.push(speech[:SAMPLE_RATE])  # the first pushes have everything to set up
        times = []
        for samples in speech[SAMPLE_RATE:].split(push_ms * SAMPLE_RATE // 1000):
            start = time.process_time()
            session.push(samples)
            times.append(time.process_time() - start)
        figures[f"{push_ms} ms"] = {
            "times_real_time": (len(speech) / SAMPLE_RATE - 1) / sum(times),
            "median_push_ms": 1000 * median(times),
        }
    return figures


def table(figures: dict[str, Any]) -> str:
    """The figures in Markdown."""
    shown = [second for second in SHOWN_SECONDS if second <= figures["seconds"]]
    lines = [
        "| model | norms | " + " | ".join(f"second {second}" for second in shown) + " |",
        "| --- | --- |" + " ---: |" * len(shown),
    ]
    for name, model in figures["models"].items():
        for way, by_second in model["errors"].items():
            cells = " | ".join(f"{by_second[second - 1]:.2g}" for second in shown)
            lines.append(f"| `{name}` | {way} | {cells} |")
    pushes = list(next(iter(figures["models"].values()))["speed"])
    lines += [
        "",
        "| model | " + " | ".join(f"pushes of {push}" for push in pushes) + " |",
        "| --- |" + " ---: |" * len(pushes),
    ]
    for name, model in figures["models"].items():
        cells = " | ".join(
            f"{of_push['times_real_time']:.0f} x, {of_push['median_push_ms']:.1f} ms"
            for of_push in model["speed"].values()
        )
        lines.append(f"| `{name}` | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
