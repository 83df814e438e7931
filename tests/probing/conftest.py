"""Corpora of tones: what a label is can be heard from the pitch alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from auricle.probing.abx_report import AbxLayer, AbxResult, AbxSettings
from auricle.probing.report import LayerResult, ProbeResult

RATE = 16_000
PITCHES = {"A": 300.0, "B": 1200.0, "C": 3500.0}


def tones(labels: Iterable[str], seconds: float, seed: int) -> NDArray[np.float64]:
    """One tone of `seconds` for each label, one after the other, in a little noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = np.concatenate([0.3 * np.sin(2 * np.pi * PITCHES[label] * time) for label in labels])
    return wave + 0.01 * np.random.default_rng(seed).standard_normal(len(wave))


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A tab-separated table."""
    lines = ["\t".join(header), *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _save(path: Path, wave: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, RATE)


def probe_result(
    model: str, task: str, accuracies: dict[str, float], **changes: Any
) -> ProbeResult:
    """A result of these accuracies by layer, the last of them the default."""
    layers = tuple(
        LayerResult(
            name=name,
            dim=8,
            hop_samples=160,
            accuracy=accuracy,
            fold_accuracies=(accuracy,),
            num_examples=30,
            num_train=20,
            num_test=10,
            frame_step=8,
            converged=True,
        )
        for name, accuracy in accuracies.items()
    )
    example = ProbeResult(
        model=model,
        family="apc",
        num_parameters=10,
        weights_sha256=None,
        task=task,
        folds=("one", "two"),
        seed=0,
        num_classes=2,
        majority_accuracy=0.182,
        default_layer=list(accuracies)[-1],
        layers=layers,
        skipped_layers=(),
        encoding_seconds=7.4,
        fitting_seconds=2.0,
    )
    return msgspec.structs.replace(example, **changes)


ABX_SETTINGS = AbxSettings(
    items_sha256="ab12",
    span="phone",
    context="within",
    distance="angular",
    max_group=10,
    max_speakers=5,
    seed=0,
    versions={"auricle": "1"},
)


def abx_result(
    model: str, errors: dict[str, tuple[float | None, float | None]], **changes: Any
) -> AbxResult:
    """A result of these errors within and across by layer, the last of them the default."""
    layers = tuple(
        AbxLayer(
            name=name,
            dim=8,
            hop_samples=160,
            within=within,
            across=across,
            num_within_cells=12,
            num_across_cells=34,
            num_empty_items=0,
        )
        for name, (within, across) in errors.items()
    )
    example = AbxResult(
        model=model,
        family="apc",
        num_parameters=10,
        weights_sha256=None,
        items="x.item",
        num_items=56,
        num_phones=7,
        num_speakers=2,
        default_layer=list(errors)[-1],
        layers=layers,
        skipped_layers=(),
        encoding_seconds=7.4,
        scoring_seconds=2.0,
    )
    return msgspec.structs.replace(example, **changes)


@pytest.fixture
def librispeech(tmp_path: Path) -> Path:
    """Three speakers with phones, and three with six utterances each to identify."""
    folder = tmp_path / "librispeech"
    rows, phones = [], []
    for speaker in range(3):
        for take in range(2):
            name = f"train/{speaker}/{speaker}-{take}.wav"
            labels = ("A", "B", "C", "B", "A")[take:]
            _save(folder / name, tones(labels, 0.2, seed=10 * speaker + take))
            rows.append((name, "train", speaker))
            phones += [(name, label, 20 * place, 20) for place, label in enumerate(labels)]
    for number, (speaker, label) in enumerate(zip("xyz", PITCHES, strict=True)):
        for take in range(6):
            name = f"speakers/{speaker}/{speaker}-{take}.wav"
            _save(folder / name, tones(label, 0.1 + 0.02 * take, seed=100 + 10 * number + take))
            rows.append((name, "speakers", speaker))
    write_table(folder / "manifest.tsv", ("path", "split", "speaker"), rows)
    write_table(folder / "phones.tsv", ("path", "phone", "start_frame_10ms", "frames"), phones)
    return folder


@pytest.fixture
def arabic_words(tmp_path: Path) -> Path:
    """Two words, said five times each: three to train on, one in `val`, one to test."""
    folder = tmp_path / "arabic_words"
    rows = []
    for number, (word, label) in enumerate((("low", "A"), ("high", "C"))):
        for take, split in enumerate(("train", "train", "train", "val", "test")):
            name = f"{take}/{word}.wav"
            _save(folder / name, tones(label, 0.1, seed=10 * number + take))
            rows.append((name, split, word))
    write_table(folder / "manifest.tsv", ("path", "split", "word"), rows)
    return folder
