from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

import auricle
from auricle.audio.files import read_audio
from auricle.audio.inputs import sample_paths
from auricle.corpus.utterance import Listing, Problem, Utterance
from auricle.extraction.run import Run, Summary
from auricle.extraction.selection import Selection
from auricle.extraction.worker import Worker
from auricle.extraction.writers import open_format
from auricle.info import SAMPLE_RATE
from auricle.models.base import Encoder
from auricle.store.layout import LayerMeta, SelectionMeta, StoreMeta
from auricle.store.reader import open as open_store
from auricle.store.writer import StoreWriter

MODEL = "apc_mini"


def extract(
    utterances: Sequence[Utterance],
    worker: Worker,
    engine: Any,
    *,
    known_seconds: Mapping[str, float] | None = None,
    problems: Sequence[Problem] = (),
    refresh: bool = False,
    on_error: str = "report",
    **options: Any,
) -> Summary:
    """Run over utterances into the store of a worker."""
    listing = Listing(
        utterances=list(utterances),
        problems=list(problems),
        known_seconds=dict(known_seconds or {}),
    )
    with worker.writer.folder.locked():
        run = Run(worker, engine, stops=on_error == "stop", **options)
        return run.extract(listing, refresh=refresh)


def bytes_of(out: Path) -> dict[str, bytes]:
    store = open_store(out)
    return {name: store[name].numpy().tobytes() for name in store.ids}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return auricle.load(MODEL)


@pytest.fixture
def corpus(tmp_path: Path) -> list[Utterance]:
    """Twelve files of speech of a quarter of a second to two seconds."""
    speech = read_audio(sample_paths()[0], sample_rate=SAMPLE_RATE)
    utterances = []
    for index in range(12):
        name = f"s{index % 3}/u{index}"
        path = tmp_path / "corpus" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        piece = speech[500 * index : 500 * index + 4000 + 2500 * index]
        soundfile.write(path, piece.numpy(), SAMPLE_RATE)
        utterances.append(Utterance(id=name, source=str(path)))
    return utterances


@pytest.fixture
def make_worker(encoder: Encoder) -> Callable[[Path], Worker]:
    """What writes the default layer into a store at a path."""

    def make(
        out: Path,
        selection: Selection | None = None,
        num_workers: int = 0,
        form: str = "store",
        flush_seconds: float = 30.0,
    ) -> Worker:
        selection = selection or Selection.of(encoder)
        kept = selection.kept(encoder)
        meta = StoreMeta(
            format=form,
            model=MODEL,
            family=encoder.family,
            layers=tuple(
                LayerMeta(name=one.name, dim=one.dim, hop_samples=one.hop_samples) for one in kept
            ),
            sample_rate=SAMPLE_RATE,
            dtype=selection.dtype,
            selection=SelectionMeta(layers=selection.layers),
            encoder_dtype="float32",
            model_sha256="0" * 64,
            library_version="1",
        )
        return Worker(
            load=functools.partial(auricle.load, MODEL),
            selection=selection,
            pad_short=False,
            writer=StoreWriter.begin(out, open_format(meta)),
            num_workers=num_workers,
            flush_seconds=flush_seconds,
        )

    return make


@dataclasses.dataclass
class Heard:
    """Progress, as a test looks at it."""

    seconds: float = 0.0
    num_utterances: int = 0
    advanced: float = 0.0
    measured: tuple[int, int] = (0, 0)
    failures: list[str] = dataclasses.field(default_factory=list)

    def start(self, seconds: float, num_utterances: int) -> None:
        self.seconds, self.num_utterances = seconds, num_utterances

    def measure(self, num_done: int, num_all: int) -> None:
        self.measured = (num_done, num_all)

    def advance(self, seconds: float) -> None:
        self.advanced += seconds

    def fail(self, reason: str) -> None:
        self.failures.append(reason)


@dataclasses.dataclass
class Stopping:
    """Progress that stops a run like Ctrl-C, after so many batches."""

    num_batches: int
    num_encoded: int = 0

    def start(self, seconds: float, num_utterances: int) -> None: ...
    def measure(self, num_done: int, num_all: int) -> None: ...
    def fail(self, reason: str) -> None: ...

    def advance(self, seconds: float) -> None:
        self.num_encoded += 1
        if self.num_encoded == self.num_batches:
            raise KeyboardInterrupt


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small models lose more to the handing over between threads than they gain."""
    torch.set_num_threads(1)
