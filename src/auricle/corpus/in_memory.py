"""Waveforms and tables of a program as utterances: written to a folder while they are needed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from auricle.audio.inputs import as_waveforms
from auricle.corpus.columns import read_columns
from auricle.corpus.datasets import id_column, id_of_row, undecoded
from auricle.corpus.listing import list_utterances
from auricle.corpus.utterance import Listing, Problem, Utterance, id_reason
from auricle.errors import AudioError, AuricleError, OutputError
from auricle.files.atomic import LOCK_SUFFIX, locked
from auricle.info import SAMPLE_RATE
from auricle.optional import optional

FOLDER_PREFIX = "auricle-memory-"

NAME = "the waveforms"
"""Name of the inputs in messages."""

MAX_WAV_BYTES = 2**32 - 1024

FORMS = (
    "(id, waveform) pairs, a dict of them, a Lhotse CutSet, a Hugging Face Dataset, a DataFrame, "
    "or a DataLoader whose batches are lists of such pairs, or dicts with 'id', 'waveforms' and "
    "'lengths', as auricle.collate makes them"
)


def peeked(inputs: Any) -> tuple[Any, bool]:
    """Inputs of an extraction, and whether they are a program's own rather than names of files.

    An iterator is looked into, and comes back as one that still has its first item.
    """
    if isinstance(inputs, str | os.PathLike | Listing):
        return inputs, False
    if isinstance(inputs, Mapping | DataLoader) or _library_of(inputs) or _is_table(inputs):
        return inputs, True
    if isinstance(inputs, Iterator):
        first = list(next(zip(inputs, strict=False), ()))
        return chain(first, inputs), bool(first) and _is_pair(first[0])
    is_list = isinstance(inputs, Iterable) and hasattr(inputs, "__len__")
    first = list(next(zip(inputs, strict=False), ())) if is_list else []
    return inputs, bool(first) and _is_pair(first[0])


@contextmanager
def spooled(inputs: Any, location: str, *, channel: int | None = None) -> Iterator[Listing]:
    """List a program's own audio for one extraction, what is no file of its own in a folder.

    Waveforms are written as float32 at 16 kHz, 230 MB an hour, to a folder of the system's
    temporary one that is removed at the end. It is the same for every run into a store, so that a
    run that was killed goes on where it was.

    Args:
        inputs: One of `FORMS`.
        location: Path or address of the store.
        channel: Counted from 0, of cuts and files; None for the mean of all.

    Raises:
        AudioError: Inputs are in another form, or two have one id.
        OutputError: The folder cannot be written, or another run uses it.
        MissingExtraError: A package that reads them is not installed.
    """
    digest = hashlib.sha256(location.encode("utf-8", "surrogateescape")).hexdigest()
    folder = Path(tempfile.gettempdir(), f"{FOLDER_PREFIX}{digest[:16]}")
    busy = OutputError(f"another run writes waveforms to {location}; wait for it")
    with ExitStack() as stack:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            stack.enter_context(locked(folder, 0.0, busy))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            for path in folder.iterdir():
                if path.name != LOCK_SUFFIX:
                    path.unlink()
            listing = _list(inputs, _Spool(folder, channel), channel)
        except AuricleError:
            raise
        except OSError as error:
            raise OutputError(
                f"cannot write {folder}, where waveforms are kept until they are encoded: "
                f"{error.strerror or error}; let TMPDIR name a folder that has space left"
            ) from error
        yield listing


def _list(inputs: Any, spool: _Spool, channel: int | None) -> Listing:
    if _is_table(inputs):
        return list_utterances([str(_write_table(inputs, spool.folder))], channel=channel)
    library = _library_of(inputs)
    if library == "lhotse":
        cuts = spool.folder / "cuts.jsonl"
        with cuts.open("w", encoding="utf-8") as file:
            for cut in inputs:
                if _is_part_of_file(cut):
                    file.write(json.dumps(_with_whole_paths(cut.to_dict())) + "\n")
                else:
                    spool.add_samples(cut.id, partial(_cut_samples, cut, channel))
        if cuts.stat().st_size:
            spool.listing.extend(list_utterances([str(cuts)], channel=channel))
    elif library == "datasets":
        _add_rows(inputs, spool)
    else:
        for name, waveform in _pairs(inputs):
            spool.add(name, waveform)
    ids = [utterance.id for utterance in spool.listing.utterances]
    if len(set(ids)) < len(ids):
        twice = next(one for place, one in enumerate(ids) if one in ids[:place])
        raise AudioError(f"the id {twice!r} comes twice among {NAME}; give each an id of its own")
    return spool.listing


class _Spool:
    """Writes waveforms to files of a folder, and lists them."""

    def __init__(self, folder: Path, channel: int | None) -> None:
        self.folder = folder
        self.listing = Listing()
        self._channel = channel

    def add(self, name: object, waveform: Any) -> None:
        """Add a waveform as an encoder takes it; a path is read where it lies."""
        if isinstance(waveform, str | os.PathLike):
            self.add_file(name, os.path.abspath(waveform))  # noqa: PTH100 - a link keeps its place
        else:
            self.add_samples(name, lambda: waveform)

    def add_samples(self, name: object, samples: Callable[[], Any]) -> None:
        """Add samples, or the reason why there are none."""
        if not isinstance(name, str):
            raise AudioError(f"an id must be text, but is {name!r}; inputs are {FORMS}")
        try:
            (x,) = as_waveforms([samples()], sample_rate=SAMPLE_RATE, min_samples=1)
            path = self.folder / f"{_digest(name)}.wav"
            _write_wav(path, x.detach().cpu())
        except AudioError as error:
            self._fail(name, str(error).removeprefix("waveform 0: "))
        else:
            self.add_file(name, str(path), has_channels=False)

    def add_bytes(self, name: str, contents: bytes, suffix: str) -> None:
        """Add the bytes of a file of audio."""
        path = self.folder / f"{_digest(name)}{suffix}"
        path.write_bytes(contents)
        self.add_file(name, str(path))

    def add_file(self, name: object, path: str, *, has_channels: bool = True) -> None:
        """Add a file."""
        if not isinstance(name, str):
            raise AudioError(f"an id must be text, but is {name!r}; inputs are {FORMS}")
        if reason := id_reason(name):
            self._fail(name, reason)
            return
        channel = self._channel if has_channels else None
        self.listing.utterances.append(Utterance(id=name, source=path, channel=channel))

    def _fail(self, name: str, reason: str) -> None:
        self.listing.problems.append(Problem(manifest=NAME, id=name, reason=f"{name}: {reason}"))


def _pairs(inputs: Any) -> Iterator[tuple[Any, Any]]:
    """Pairs of id and waveform, from pairs, a dict or the batches of a loader."""
    if isinstance(inputs, Mapping):
        yield from inputs.items()
    elif isinstance(inputs, DataLoader):
        for batch in inputs:
            yield from _pairs_of_batch(batch)
    else:
        for item in inputs:
            if not _is_pair(item):
                raise AudioError(f"got {type(item).__name__} among {NAME}; inputs are {FORMS}")
            yield item


def _pairs_of_batch(batch: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(batch, list | tuple) and all(map(_is_pair, batch)):
        yield from batch
    elif isinstance(batch, Mapping) and {"id", "waveforms", "lengths"} <= batch.keys():
        rows = zip(batch["id"], batch["waveforms"], batch["lengths"], strict=True)
        for name, row, length in rows:
            yield name, row[: int(length)]
    else:
        found = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise AudioError(f"a batch of the DataLoader is {found}; inputs are {FORMS}")


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)


def _is_table(inputs: Any) -> bool:
    return hasattr(inputs, "columns") and hasattr(inputs, "to_csv")


def _library_of(inputs: Any) -> str | None:
    """The library that a collection of audio is of: "lhotse", "datasets" or None."""
    for library, names in (("lhotse", ("CutSet",)), ("datasets", ("Dataset", "IterableDataset"))):
        module = sys.modules.get(library)
        if module is not None and isinstance(inputs, tuple(getattr(module, n) for n in names)):
            return library
    return None


def _write_table(table: Any, folder: Path) -> Path:
    """A DataFrame as a file; its relative paths are those of the current folder."""
    path = folder / "table.csv"
    for column in read_columns(map(str, table.columns)).of["path"]:
        table = table.assign(**{column.name: table[column.name].map(_whole_path)})
    table.to_csv(path, index=False)
    return path


def _whole_path(path: Any) -> Any:
    if not isinstance(path, str) and hasattr(path, "__len__"):
        raise AudioError(
            f"a DataFrame names files, but its column of paths holds {type(path).__name__}: pass "
            "waveforms as (id, waveform) pairs, such as zip(table['id'], table['audio'])"
        )
    is_local = isinstance(path, str | os.PathLike) and path != "" and "://" not in str(path)
    return os.path.abspath(path) if is_local else path  # noqa: PTH100 - a link keeps its place


def _is_part_of_file(cut: Any) -> bool:
    """True for a cut whose audio is a part of one file, unchanged."""
    recording = getattr(cut, "recording", None)
    return (
        type(cut).__name__ in ("MonoCut", "MultiCut")
        and recording is not None
        and not recording.transforms
        and all(source.type == "file" for source in recording.sources)
    )


def _with_whole_paths(cells: dict[str, Any]) -> dict[str, Any]:
    for source in cells["recording"]["sources"]:
        source["source"] = _whole_path(source["source"])
    return {key: value for key, value in cells.items() if key != "features"}


def _cut_samples(cut: Any, channel: int | None) -> tuple[Any, int]:
    """Samples (S,) of a cut, and their rate."""
    samples = cut.load_audio()
    if samples is None:
        raise AudioError("the cut has no recording: there is no audio in it")
    mono = samples.mean(axis=0) if channel is None or len(samples) == 1 else samples[channel]
    return mono, int(cut.sampling_rate)


def _add_rows(rows: Any, spool: _Spool) -> None:
    """Add the rows of a data set of Hugging Face; files are kept as they are."""
    with optional("datasets", "a data set of Hugging Face"):
        import datasets
    split = str(rows.split or "train")
    rows = undecoded(datasets, rows)
    features = rows.features or {}
    ids = id_column(features)
    for number, cells in enumerate(rows):
        name = id_of_row(cells.get(ids) if ids else None, split, number)
        audio = [cell for cell in cells.values() if _is_audio(cell)]
        cell = cells["audio"] if _is_audio(cells.get("audio")) else audio[0] if audio else {}
        if cell.get("bytes") is not None:
            spool.add_bytes(name, cell["bytes"], Path(cell.get("path") or "").suffix or ".audio")
        elif "array" in cell:
            samples = torch.as_tensor(cell["array"], dtype=torch.float32)
            spool.add_samples(name, partial(_pair, samples, cell["sampling_rate"]))
        elif cell.get("path") and isinstance(rows, datasets.Dataset):
            spool.add_file(name, cell["path"])
        else:
            found = ", ".join(map(str, cells))
            spool.add_samples(name, partial(_refuse, found))


def _pair(samples: Tensor, sample_rate: int) -> tuple[Tensor, int]:
    return samples, sample_rate


def _is_audio(cell: Any) -> bool:
    return isinstance(cell, Mapping) and bool({"array", "bytes"} & cell.keys())


def _refuse(columns: str) -> Any:
    # A table that is streamed must not choose among the files of this machine.
    raise AudioError(f"the row holds no audio in its columns {columns}, expected bytes or samples")


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _write_wav(path: Path, x: Tensor) -> None:
    """Write samples (S,) as float32; equal samples give equal bytes, unlike by libsndfile."""
    data = x.to(torch.float32).contiguous().numpy().astype("<f4", copy=False)
    if data.nbytes > MAX_WAV_BYTES:
        raise AudioError(f"it has {len(data)} samples, too many for a file; cut it, or pass a path")
    form = struct.pack("<HHIIHH", 3, 1, SAMPLE_RATE, 4 * SAMPLE_RATE, 4, 32)  # 3: IEEE float
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    head += b"data" + struct.pack("<I", data.nbytes)
    with path.open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", len(head) + data.nbytes) + head)
        file.write(data.data)
