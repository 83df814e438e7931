"""Measure decoding and writing on one core: audio formats to 16 kHz, and shards of a store.

    python benchmarks/rates.py --data LibriSpeech/dev-clean
    python benchmarks/rates.py --data LibriSpeech/dev-clean --seconds 60

Speech of the folder is converted to each format and read by `read_audio`, as `auricle extract`
does it. Shards are of random halves, in the library's own format, with their digests and parts of
the index. Time is the processor's; the median over the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile
import torch

import auricle
from auricle.audio.files import read_audio
from auricle.audio.inputs import AUDIO_SUFFIXES
from auricle.corpus.utterance import Utterance
from auricle.extraction.writers import open_format
from auricle.store.layout import LayerMeta, SelectionMeta, ShardKey, StoreMeta
from auricle.store.writer import StoreWriter

RESULTS = Path(__file__).parent / "results" / "rates.json"
RATE = 16_000
STUDIO_RATE = 44_100
FILE_SECONDS = 12
DIM = 768
SHARD_UTTERANCES = 256

FORMATS = {
    "WAV, 16 bit": ("wav", RATE),
    "FLAC": ("flac", RATE),
    "MP3": ("mp3", RATE),
    "Ogg Vorbis": ("ogg", RATE),
    "WAV, 44.1 kHz": ("wav", STUDIO_RATE),
    "FLAC, 44.1 kHz": ("flac", STUDIO_RATE),
    "MP3, 44.1 kHz": ("mp3", STUDIO_RATE),
}
"""Name -> suffix, rate in Hz."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path, help="folder of speech")
    parser.add_argument("--seconds", type=float, default=600.0, help="speech to take of it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"(default: {RESULTS})")
    arguments = parser.parse_args()
    speech = speech_of(arguments.data, arguments.seconds)
    with tempfile.TemporaryDirectory() as scratch:
        files = {name: write(speech, Path(scratch), name) for name in FORMATS}
        rates: dict[str, list[float]] = {name: [] for name in FORMATS}
        for _ in range(arguments.rounds):
            for name, paths in files.items():
                start = time.process_time()
                for path in paths:
                    read_audio(path, sample_rate=RATE)
                elapsed = time.process_time() - start
                rates[name].append(len(speech) / RATE / elapsed)
        decoding = {
            name: {
                "times_real_time": round(median(rates[name])),
                "kib_per_second": round(
                    sum(path.stat().st_size for path in files[name]) / len(speech) * RATE / 1024, 1
                ),
            }
            for name in FORMATS
        }
        figures = {
            "decoding": decoding,
            "writing_mib_per_second": round(
                median(write_rate(Path(scratch), number) for number in range(arguments.rounds))
            ),
        }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(table(figures))
    return 0


def speech_of(folder: Path, seconds: float) -> Any:
    """So much speech of a folder, mono at 16 kHz."""
    pieces, found = [], 0.0
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in AUDIO_SUFFIXES and found < seconds:
            pieces.append(read_audio(path, sample_rate=RATE).numpy())
            found += len(pieces[-1]) / RATE
    return np.concatenate(pieces)


def write(speech: Any, scratch: Path, name: str) -> list[Path]:
    """The speech in files of `FILE_SECONDS` of a format."""
    import soxr

    suffix, rate = FORMATS[name]
    samples = speech if rate == RATE else soxr.resample(speech, RATE, rate)
    folder = scratch / name.replace(" ", "_")
    folder.mkdir()
    paths = []
    for first in range(0, len(samples), FILE_SECONDS * rate):
        paths.append(folder / f"{first:09d}.{suffix}")
        piece = np.clip(samples[first : first + FILE_SECONDS * rate], -1, 1)
        soundfile.write(paths[-1], piece, rate)
    return paths


def write_rate(scratch: Path, number: int) -> float:
    """MiB of a shard in a second."""
    layer = LayerMeta(name="layer", dim=DIM, hop_samples=320)
    meta = StoreMeta(
        format="store",
        model="random",
        family="random",
        layers=(layer,),
        sample_rate=RATE,
        dtype="float16",
        selection=SelectionMeta(layers=(layer.name,)),
        encoder_dtype="float32",
        model_sha256="0" * 64,
        library_version=auricle.__version__,
    )
    writer = StoreWriter.begin(scratch / "store", open_format(meta))
    items = [
        (
            Utterance(id=f"u{n}", source="a.wav", seconds=12.0),
            {"layer": torch.rand(600, DIM).half()},
        )
        for n in range(SHARD_UTTERANCES)
    ]
    start = time.process_time()
    writer.write(ShardKey(0, number), items)
    return sum(x["layer"].nbytes for _, x in items) / 2**20 / (time.process_time() - start)


def table(figures: dict[str, Any]) -> str:
    """The figures as a table in Markdown."""
    lines = ["| format | x real time, one core | KiB per second of audio |", "|---|---|---|"]
    for name, found in figures["decoding"].items():
        lines.append(f"| {name} | {found['times_real_time']:,} | {found['kib_per_second']} |")
    lines.append(f"\nWriting: {figures['writing_mib_per_second']:,} MiB a second of one core.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
