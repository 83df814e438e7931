"""One long waveform whole: the memory that its process takes at most, and how fast it is encoded.

    python benchmarks/long_audio.py [--minutes 60] [--out FILE]
    python benchmarks/long_audio.py --models npc wav2vec_mini --minutes 5 --codes
    python benchmarks/long_audio.py --render
    python benchmarks/long_audio.py --models tera_mini --window-seconds 20 --overlap-seconds 4

A model is a published size (with random weights, for neither memory nor time depends on them) or
one of the catalogue. The waveform is the speech that ships with the library, repeated under a gain
that never comes back to where it was. Each model has a process of its own, one layer is asked for,
and the peak is that of the whole process: Python, torch, weights, waveform and output with it. Time
is the processor's, so one thread tells most.

`--skip-attention` is for the memory of Transformers: attention over an hour takes hours but holds
nothing to speak of beyond its inputs and outputs, so each head's values stand for its contexts (and
a block of WavLM's bias is filled), and the time means nothing.

`--render` writes the hours of `results/long_audio.json` into docs/long-audio.md, no more.
Models that are in the file of `--out` already are kept there, those that are measured take the
place of what it says of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from page_marks import with_contents  # noqa: E402 - the path comes first

if TYPE_CHECKING:
    from torch import Tensor

MODELS = (
    "apc",
    "vq_apc",
    "npc",
    "cpc",
    "modified_cpc",
    "pase",
    "pase_plus",
    "wav2vec_large",
    "vq_wav2vec",
    "vq_wav2vec_kmeans",
    "fbank",
    "mel",
)
"""Measured where none is named: attention over an hour takes hours, so Transformers are not."""

RESULTS = ROOT / "benchmarks" / "results" / "long_audio.json"
PAGE = ROOT / "docs" / "long-audio.md"
TOOL = "python benchmarks/long_audio.py --render"

SAMPLE_RATE = 16_000
GAIN_PERIODS_SECONDS = (61.0, 97.3)
"""Of the two waves that the gain is the product of: their ratio is no ratio of small numbers."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME")
    parser.add_argument("--minutes", type=float, default=60.0, help="(default: 60)")
    parser.add_argument("--layer", help="name of the layer (default: the encoder's own)")
    parser.add_argument("--codes", action="store_true", help="take codes, not a layer")
    parser.add_argument("--window-seconds", type=float, help="encode windows of this length")
    parser.add_argument("--overlap-seconds", type=float, default=2.0, help="(default: 2)")
    parser.add_argument("--skip-attention", action="store_true", help="measure memory alone")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument(
        "--render", action="store_true", help="write the table of the documentation"
    )
    parser.add_argument("--measure", metavar="NAME", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measured(arguments.measure, arguments)))
        return 0
    if arguments.render:
        render()
        return 0
    runs = {} if arguments.out is None or not arguments.out.exists() else read(arguments.out)
    passed_on = sys.argv[1:]
    for name in arguments.models:
        command = (sys.executable, __file__, *passed_on, "--measure", name)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            print(f"{name}: failed with status {done.returncode}", file=sys.stderr)
            return 1
        run = json.loads(done.stdout.splitlines()[-1])
        runs[key(run)] = run
        if arguments.out is not None:
            text = json.dumps(list(runs.values()), indent=1)
            arguments.out.write_text(f"{text}\n", encoding="utf-8")
    print(table(list(runs.values())))
    return 0


def measured(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Encode one long waveform in this process."""
    import torch

    import auricle
    from auricle.catalogue.search import list_sizes

    torch.set_num_threads(arguments.threads)
    if arguments.skip_attention:
        skip_attention()
    encoder = auricle.build(name) if name in list_sizes() else auricle.load(name, device="cpu")
    waveform = long_waveform(arguments.minutes)
    start = time.process_time()
    with torch.inference_mode():
        if arguments.codes:
            (output,) = encoder.codes([waveform])
        elif arguments.window_seconds is not None:
            from auricle.inference.approximate import encode_windows

            (output,) = encode_windows(
                encoder,
                [waveform],
                arguments.layer,
                window_seconds=arguments.window_seconds,
                overlap_seconds=arguments.overlap_seconds,
            )
        else:
            (output,) = encoder([waveform], arguments.layer)
    seconds = time.process_time() - start
    windows = arguments.window_seconds is not None
    return {
        "model": name,
        "layer": "codes" if arguments.codes else arguments.layer or encoder.default_layer,
        "minutes": arguments.minutes,
        "window_seconds": arguments.window_seconds,
        "overlap_seconds": arguments.overlap_seconds if windows else None,
        "frames": len(output),
        "output_bytes": output.numel() * output.element_size(),
        "peak_bytes": peak_bytes(),
        "attention": not arguments.skip_attention,
        "seconds": None if arguments.skip_attention else round(seconds, 1),
        "threads": arguments.threads,
    }


def skip_attention() -> None:
    """Let values stand for contexts in every Transformer."""
    import torch

    from auricle.nn import attention

    def values(self: object, query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
        for bias in rest[2:]:  # (H, T, T) as a view: the kernel is given a block of it at a time
            num_heads, num_frames, _ = bias.shape
            block = attention.MAX_BIAS_ELEMENTS // (num_heads * num_frames)
            torch.ones(num_heads, min(max(block, 1), num_frames), num_frames)
        return torch.empty_like(query).copy_(value)

    attention.SelfAttention.attend = values  # type: ignore[method-assign, assignment]


def long_waveform(minutes: float) -> Tensor:
    """Speech of so many minutes, (S,), made without more memory than it takes."""
    import soundfile
    import torch

    from auricle.audio.inputs import sample_paths

    waveform = torch.empty(round(minutes * 60 * SAMPLE_RATE))
    pieces = [torch.from_numpy(soundfile.read(p, dtype="float32")[0]) for p in sample_paths()]
    start = 0
    while start < len(waveform):
        for piece in pieces:
            part = piece[: len(waveform) - start]
            seconds = (start + torch.arange(len(part), dtype=torch.float64)) / SAMPLE_RATE
            gain = torch.full_like(seconds, 0.9)
            for period in GAIN_PERIODS_SECONDS:
                gain *= 0.6 + 0.4 * torch.sin(2 * torch.pi * seconds / period)
            waveform[start : start + len(part)] = part * gain
            start += len(part)
    return waveform


def peak_bytes() -> int:
    """Most resident memory that this process has had at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def read(path: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {key(run): run for run in json.loads(path.read_text(encoding="utf-8"))}


def key(run: dict[str, Any]) -> tuple[Any, ...]:
    """Key by which a run replaces an earlier one."""
    names = ("model", "layer", "minutes", "window_seconds", "overlap_seconds", "attention")
    return tuple(run[name] for name in names)


def render() -> None:
    """Write the tables of an hour between their marks."""
    contents = tables(list(read(RESULTS).values()))
    PAGE.write_text(
        with_contents(PAGE.read_text(encoding="utf-8"), contents, TOOL), encoding="utf-8"
    )


def tables(runs: list[dict[str, Any]]) -> dict[str, str]:
    """The tables of the page by name: an hour whole, whole without attention, and in windows."""
    hours = [run for run in runs if run["minutes"] == 60]
    whole = [run for run in hours if run["window_seconds"] is None]
    return {
        "hour": hour_table([run for run in whole if run["attention"]]),
        "hour-without-attention": hour_table([run for run in whole if not run["attention"]]),
        "hour-in-windows": hour_table([run for run in hours if run["window_seconds"] == 30]),
    }


def hour_table(runs: list[dict[str, Any]]) -> str:
    """Table of memory, and of time if all rows have it, for an hour of audio, as Markdown."""
    is_timed = all(run["seconds"] is not None for run in runs)
    rows = ["| model | peak GB | of that output |", "|---|---:|---:|"]
    if is_timed:
        rows = [f"{rows[0]} minutes of one thread |", f"{rows[1]}---:|"]
    for run in sorted(runs, key=lambda run: str(run["model"])):
        peak, output = run["peak_bytes"] / 1e9, run["output_bytes"] / 1e9
        row = f"| `{run['model']}` | {peak:.2f} | {output:.2f} |"
        rows.append(f"{row} {run['seconds'] / 60:.1f} |" if is_timed else row)
    return "\n".join(rows)


def table(runs: list[dict[str, Any]]) -> str:
    """The runs as a Markdown table."""
    rows = [
        "| model | layer | minutes | windows | peak GB | of that output | seconds | x real time |",
        "|---|---|---:|---|---:|---:|---:|---:|",
    ]
    for run in runs:
        windows = "whole"
        if run["window_seconds"] is not None:
            windows = f"{run['window_seconds']:g} s, {run['overlap_seconds']:g} s overlap"
        speed = "not measured | |"
        if run["seconds"] is not None:
            speed = f"{run['seconds']:.0f} | {run['minutes'] * 60 / run['seconds']:.1f} |"
        rows.append(
            f"| {run['model']} | {run['layer']} | {run['minutes']:g} | {windows} "
            f"| {run['peak_bytes'] / 1e9:.2f} | {run['output_bytes'] / 1e9:.2f} | {speed}"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
