"""Measure the difference of encoding in windows from encoding whole, on minutes of speech.

    python benchmarks/window_error.py --data LibriSpeech/train-clean-100/19 [--out FILE]
    python benchmarks/window_error.py --data talk/ --models tera --windows 30 --overlaps 5

The utterances of the folder are concatenated up to the given minutes; choose a folder of one
speaker, as a long recording would be. Each model encodes them whole and by
`auricle.encode_windows`. Figures are of |windows - whole|, in standard deviations of the whole:
the root mean square over everything, and the 99th percentile.

Windows differ for three reasons, which are separated by giving windows the values of the whole:
utterance statistics are those of the window (mean and variance of features, group norm over time);
sinusoidal positions of Mockingjay, TERA and Audio ALBERT restart in each window; attention and
recurrence end at the edges of the window. `same statistics` is the error with the statistics of the
whole, `and positions` that with its positions too: the effect of the edges alone.

The small encoders of those three split every utterance into chunks of at most 3 s of equal length;
windows split it elsewhere. They are measured unchanged, and as `uncut`, attending to all frames.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from auricle.models.base import Encoder
    from auricle.nn.batch import Batch

MODELS = (
    "tera_mini",
    "mockingjay_mini",
    "audio_albert_mini",
    "wav2vec2_mini",
    "npc_mini",
    "cpc_mini",
)
WINDOWS = (10.0, 20.0, 30.0, 60.0)
OVERLAPS = (1.0, 2.0, 5.0, 10.0)
SAMPLE_RATE = 16_000
MAX_PLACES = 2**24
"""Whole numbers that float32 has: 17 minutes of samples."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=5.0, help="(default: 5)")
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME")
    parser.add_argument("--windows", nargs="+", type=float, default=WINDOWS, metavar="SECONDS")
    parser.add_argument(
        "--overlaps",
        nargs="+",
        type=float,
        default=OVERLAPS,
        metavar="SECONDS",
        help="those of at most a quarter of a window are measured",
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(arguments.threads)
    waveform = speech(arguments.data, arguments.minutes)
    pairs = [
        (window, overlap)
        for window in arguments.windows
        for overlap in arguments.overlaps
        if 4 * overlap <= window < arguments.minutes * 60
    ]
    runs: list[dict[str, Any]] = []
    for label, encoder in encoders(arguments.models):
        runs += measured(label, encoder, waveform, pairs)
        if arguments.out is not None:
            text = json.dumps({"minutes": arguments.minutes, "runs": runs}, indent=1)
            arguments.out.write_text(f"{text}\n", encoding="utf-8")
    print(table(runs))
    return 0


def speech(folder: Path, minutes: float) -> Tensor:
    """The first minutes (S,) of the folder's audio files, in the order of their names."""
    import torch

    from auricle.audio.inputs import as_waveforms, list_audio_files

    num_samples = round(minutes * 60 * SAMPLE_RATE)
    pieces: list[Tensor] = []
    missing = num_samples
    for path in list_audio_files(folder):
        if missing <= 0:
            break
        pieces += as_waveforms([path], sample_rate=SAMPLE_RATE, min_samples=1)
        missing -= len(pieces[-1])
    if missing > 0:
        found = (num_samples - missing) / SAMPLE_RATE / 60
        raise SystemExit(
            f"{folder} has {found:.1f} minutes of audio, but {minutes:g} were asked for; name "
            "another folder, or fewer --minutes"
        )
    return torch.cat(pieces)[:num_samples]


def encoders(names: Sequence[str]) -> Iterator[tuple[str, Encoder]]:
    """Models by name, and those that cut utterances a second time, without."""
    import msgspec

    import auricle

    for name in names:
        encoder = auricle.load(name, device="cpu")
        yield name, encoder
        if cuts_utterances(encoder):
            config: Any = encoder.config
            transformer = msgspec.structs.replace(config.transformer, max_chunk_frames=0)
            uncut = type(encoder)(msgspec.structs.replace(config, transformer=transformer))
            uncut.load_state_dict(encoder.state_dict())
            yield f"{name}, uncut", uncut.eval()


def cuts_utterances(encoder: Encoder) -> bool:
    """Return true if chunks of an utterance are encoded independently."""
    return hasattr(encoder, "bert") and encoder.bert.config.max_chunk_frames > 0


def measured(
    label: str, encoder: Encoder, waveform: Tensor, pairs: list[tuple[float, float]]
) -> list[dict[str, Any]]:
    """The figures of one model for each window and overlap."""
    import torch

    import auricle

    runs = []
    with torch.inference_mode():
        (whole,) = encoder([waveform])
        scale = float(whole.std())
        for window, overlap in pairs:
            seconds = {"window_seconds": window, "overlap_seconds": overlap}
            (windowed,) = auricle.encode_windows(encoder, [waveform], **seconds)
            total = figures(windowed - whole, scale)
            same_statistics = same_positions = total
            if encoder.uses_utterance_statistics:
                with statistics_of(encoder, waveform) as stand_in:
                    (alike,) = auricle.encode_windows(encoder, [stand_in], **seconds)
                same_statistics = same_positions = figures(alike - whole, scale)
            if hasattr(encoder, "bert") and not cuts_utterances(encoder):
                with statistics_of(encoder, waveform, positions=True) as stand_in:
                    (alike,) = auricle.encode_windows(encoder, [stand_in], **seconds)
                same_positions = figures(alike - whole, scale)
            runs.append(
                {
                    "model": label,
                    "layer": encoder.default_layer,
                    **seconds,
                    "total": total,
                    "same_statistics": same_statistics,
                    "same_statistics_and_positions": same_positions,
                }
            )
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    return runs


def figures(difference: Tensor, scale: float) -> dict[str, float]:
    """Root mean square and 99th percentile of the absolute value, over a scale."""
    import torch

    values = difference.flatten().abs().double() / scale
    rank = max(round(0.99 * len(values)), 1)
    return {
        "rms": float(values.square().mean().sqrt()),
        "p99": float(torch.kthvalue(values, rank).values),
    }


@contextmanager
def statistics_of(
    encoder: Encoder, waveform: Tensor, *, positions: bool = False
) -> Iterator[Tensor]:
    """Inside, windows get their features (or latents) from those of the whole waveform.

    With `positions` they get its sinusoids too, which must be those of spectral Transformers.

    Gives what stands for the waveform: the place of each sample, so that a window tells where it
    lies.
    """
    import torch

    from auricle.inference import approximate
    from auricle.models import spectral_transformer
    from auricle.nn.batch import Batch

    if len(waveform) > MAX_PLACES:
        raise SystemExit(
            f"positions of samples are float32 numbers, exact up to {MAX_PLACES}, but the waveform "
            f"has {len(waveform)}; lower --minutes"
        )
    features = whole_features(encoder, waveform)
    geometry = encoder.layer_infos[0].geometry
    first = [0]

    def parts(batch: Batch) -> Batch:
        """The features (B, T, D) of the windows whose places `batch` (B, S) holds."""
        rows = []
        for places in batch.rows():
            start = int(places[0]) // geometry.hop_samples
            rows.append(features[start : start + geometry.num_frames(len(places))])
            first[0] = start
        return Batch.of(rows)

    def encode(batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        frames = parts(batch)
        states = encoder.transformer(frames.values, frames.layout)
        for info, state in zip(encoder.layer_infos, states, strict=True):
            yield info.name, Batch(state, frames.layout)

    def moved(num_frames: int, dim: int, *, start: int = 0) -> Tensor:
        return sinusoidal_positions(num_frames, dim, start=start + first[0])

    sinusoidal_positions, batch = (
        spectral_transformer.sinusoidal_positions,
        approximate.MAX_BATCH_SECONDS,
    )
    name, stand_in = ("features", parts) if hasattr(encoder, "features") else ("encode", encode)
    setattr(encoder, name, stand_in)
    if positions:  # one window at a time, for a batch has one first position
        spectral_transformer.sinusoidal_positions, approximate.MAX_BATCH_SECONDS = moved, 0.0
    try:
        yield torch.arange(len(waveform), dtype=torch.float32)
    finally:
        delattr(encoder, name)
        spectral_transformer.sinusoidal_positions, approximate.MAX_BATCH_SECONDS = (
            sinusoidal_positions,
            batch,
        )


def whole_features(encoder: Encoder, waveform: Tensor) -> Tensor:
    """Features (T, D) of the whole waveform, after all utterance statistics."""
    from auricle.nn.batch import Batch

    if hasattr(encoder, "features"):
        features: Tensor = encoder.features(Batch.of([waveform])).values[0]
        return features
    if not hasattr(encoder, "transformer"):
        raise SystemExit(f"{encoder.info.name} keeps no features apart; leave it out of --models")
    captured: list[Tensor] = []
    hook = encoder.transformer.register_forward_pre_hook(
        lambda _, inputs: captured.append(inputs[0][0].clone())
    )
    encoder([waveform], 0)
    hook.remove()
    return captured[0]


def table(runs: list[dict[str, Any]]) -> str:
    """The runs as a Markdown table."""
    rows = [
        "| model | window s | overlap s | rms | 99th percentile | rms, same statistics "
        "| rms, and positions |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for run in runs:
        alike = run["same_statistics"], run["same_statistics_and_positions"]
        values = (run["total"]["rms"], run["total"]["p99"], *(part["rms"] for part in alike))
        rows.append(
            f"| {run['model']} | {run['window_seconds']:g} | {run['overlap_seconds']:g} | "
            + " | ".join(f"{value:.2g}" for value in values)
            + " |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
