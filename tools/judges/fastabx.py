"""ABX of spoken digits by fastabx, on the frames and the items of `auricle probe --task abx`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import soundfile
import torch

import auricle
from auricle.audio.files import read_audio
from auricle.models.base import Encoder
from auricle.probing.abx_report import abx_settings, measure_abx
from auricle.probing.items import PhoneItem, read_item_task, write_items
from judges.verdict import MODELS, Verdict, digits

PARTS = {"first": (0.1031, 0.4531), "second": (0.4531, 0.8531)}
"""Halves of a word, which stand for contexts -> when they begin and end, between frames."""

LIMIT = 1e-3
"""Difference in errors from 0 to 1."""


def write_words() -> list[PhoneItem]:
    """Write the words of the speakers who say each twice as WAV; gives two items of each."""
    Path("words").mkdir()
    items = []
    for row in digits():
        if row["split"] == "test":
            name = f"{row['speaker']}-{row['word']}-{row['take']}"
            soundfile.write(f"words/{name}.wav", read_audio(row["path"]).numpy(), 16_000)
            items += [
                PhoneItem(
                    file=name, onset=onset, offset=offset, phone=row["word"],
                    previous=part, following=part, speaker=row["speaker"],
                )
                for part, (onset, offset) in PARTS.items()
            ]  # fmt: skip
    return items


def write_frames(encoder: Encoder, items: list[PhoneItem], folder: Path) -> Path:
    """Write the frames of words, and the items by the times that fastabx gives frames."""
    folder.mkdir()
    for name in sorted({item.file for item in items}):
        with torch.no_grad():
            (x,) = encoder([f"words/{name}.wav"])
        torch.save(x.clone(), folder / f"{name}.pt")
    first = float(encoder.frame_centres(16_000)[0])
    early = first - encoder.hop_seconds / 2
    moved = [replace(one, onset=one.onset - early, offset=one.offset - early) for one in items]
    write_items(folder / "moved.item", moved)
    return folder / "moved.item"


def by_fastabx(path: Path, encoder: Encoder, **options: Any) -> float:
    """The error that fastabx finds on all items."""
    import fastabx

    return fastabx.zerospeech_abx(
        path, path.parent, frequency=round(1 / encoder.hop_seconds), device="cpu", progress=False,
        max_size_group=None, max_x_across=None, **options,
    )  # fmt: skip


def main() -> int:
    """Compare both within speakers and across, in contexts and in any."""
    verdict = Verdict("fastabx", "fastabx")
    items = write_words()
    write_items(Path("words.item"), items)
    task = read_item_task("words", Path("words.item"))
    largest: dict[str, float] = {}
    num_errors = 0
    for name in MODELS:
        encoder = auricle.load(name)
        path = write_frames(encoder, items, Path(name))
        for context in ("within", "any"):
            settings = abx_settings(
                task, any_context=context == "any", max_group=None, max_speakers=None
            )
            (ours,) = measure_abx(encoder, task, settings, layers=[encoder.default_layer]).layers
            for speaker in ("within", "across"):
                theirs = by_fastabx(path, encoder, speaker=speaker, context=context)
                difference = abs(getattr(ours, speaker) - theirs)
                key = f"{speaker} speakers, {context} context"
                largest[key] = max(largest.get(key, 0.0), difference)
                num_errors += 0 < theirs < 1
    for key, difference in largest.items():
        verdict.at_most(f"difference {key}", difference, LIMIT)
    verdict.equal("errors compared, none of them 0 or 1", num_errors, 4 * len(MODELS))
    return verdict.finish()


if __name__ == "__main__":
    sys.exit(main())
