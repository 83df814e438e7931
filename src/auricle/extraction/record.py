"""Records of an extraction in its store: meta.json, and utterances that failed (errors.jsonl)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from auricle.corpus.utterance import Problem, Utterance
from auricle.errors import ExtractionError, StoreError
from auricle.extraction.selection import Selection
from auricle.files.safetensors import raw_bytes
from auricle.geometry import SAMPLE_RATE
from auricle.inference.approximate import precision_of
from auricle.models.base import Encoder
from auricle.store.folder import Folder
from auricle.store.layout import ERRORS, LayerMeta, SelectionMeta, StoreMeta
from auricle.store.shards import path_text
from auricle.units.codebook import Units, known_sha256


def describe(
    encoder: Encoder,
    selection: Selection,
    *,
    model: str,
    store_format: str,
    channel: int | None,
    short: str,
    compression: str | None = None,
    library_version: str,
) -> StoreMeta:
    """The meta.json of what `selection` keeps of an encoder.

    Args:
        encoder: What encodes.
        selection: What is kept.
        model: What the user calls the encoder.
        store_format: One of `formats.registry.FORMAT_NAMES`.
        channel: Which channel is taken where the inputs name none; None for the mean.
        short: What happens to audio shorter than the encoder's minimum.
        compression: One of `KALDI_METHODS`; None for none.
        library_version: Version of this library.
    """
    info = encoder.info
    windows = selection.windows
    has_frames = not (selection.pool or selection.deduplicate)
    layers = tuple(
        LayerMeta(
            name=one.name,
            dim=one.dim,
            hop_samples=one.geometry.hop_samples if has_frames else None,
            window_samples=one.geometry.window_samples if has_frames else None,
            start_samples=one.geometry.start_samples if has_frames else None,
        )
        for one in selection.kept(encoder)
    )
    return StoreMeta(
        format=store_format,
        model=model,
        family=encoder.family,
        layers=layers,
        sample_rate=SAMPLE_RATE,
        dtype=selection.kept_dtype,
        selection=SelectionMeta(
            layers=selection.layers,
            weights=selection.weights,
            pool=selection.pool,
            codes=selection.wants_codes,
            units_sha256=None if selection.units is None else units_sha256(selection.units),
            deduplicate=selection.deduplicate,
            window_seconds=windows.window_seconds if windows else None,
            overlap_seconds=windows.overlap_seconds if windows else None,
            final_norm=selection.final_norm,
        ),
        channel=channel,
        compression=compression,
        short=short,
        encoder_dtype=precision_of(encoder),
        model_sha256=known_sha256(encoder),
        config=info.changed_config,
        checkpoint_sha256=info.sha256,
        source_url=info.source_url,
        licence=info.licence,
        library_version=library_version,
    )


def units_sha256(units: Units) -> str:
    """Digest, in hex, of all that decides the units of an encoder's frames.

    It is the same whatever is said of their origin, and wherever their encoder lies.
    """
    facts = (units.layer, units.final_norm, units.normalization)
    digest = hashlib.sha256(msgspec.json.encode(facts))
    for x in (units.centroids, units.mean, units.scale):
        if x is not None:
            digest.update(f"{tuple(x.shape)}".encode())
            digest.update(raw_bytes(x).data)
    return digest.hexdigest()


class Failures:
    """Failed utterances in errors.jsonl, a line of JSON each.

    An entry with an id stays until it is tried again; entries without are those of the last run.
    """

    def __init__(self, folder: Folder, report: Callable[[str], None], *, stops: bool) -> None:
        """Read the failures of earlier runs.

        Args:
            folder: Location of the store.
            report: Called with a line for each new failure.
            stops: Whether the first new one ends the run.
        """
        self.num_new = 0
        self._folder = folder
        self._report = report
        self._stops = stops
        self._entries = {entry["id"]: entry for entry in _read_errors(folder) if entry["id"]}
        self._old = set(self._entries)

    @property
    def num_old(self) -> int:
        """Failures of earlier runs that have not been tried again."""
        return len(self._old & self._entries.keys())

    def forget(self, ids: Iterable[str]) -> None:
        """Drop what is to be tried again."""
        for name in ids:
            self._entries.pop(name, None)
            self._old.discard(name)

    def add(self, utterance: Utterance, reason: str) -> None:
        """Note and report a failure.

        Raises:
            ExtractionError: The run is to stop at the first.
        """
        self._add(utterance.id, utterance.origin, reason)

    def add_problem(self, problem: Problem) -> None:
        """The same for a row of an input that is no utterance."""
        self._add(problem.id, problem.source, str(problem))

    def _add(self, name: str, source: str, reason: str) -> None:
        source = path_text(source)
        reason = " ".join(reason.split())
        self._old.discard(name)
        self._entries[name or reason] = {"id": name, "source": source, "error": reason}
        self.num_new += 1
        where = " ".join(part for part in (name, f"({source})" if source else "") if part)
        line = reason if source in reason and name in reason else f"{where}: {reason}"
        if self._stops:
            self.write()
            raise ExtractionError(
                f"{line}; repair it or leave it out and run the same command again, or go on past "
                'such files with on_error="report" (--on-error report)'
            )
        self._report(line)

    def write(self) -> None:
        """Write the file, or remove it where there are none.

        Raises:
            OutputError: It cannot be written.
        """
        if not self._entries:
            self._folder.remove(ERRORS)
            return
        lines = (json.dumps(entry, ensure_ascii=False) for entry in self._entries.values())
        text = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")

        def write(temporary: Path) -> None:
            temporary.write_bytes(text)

        self._folder.write_whole(ERRORS, write)


def _read_errors(folder: Folder) -> Iterator[dict[str, Any]]:
    try:
        with folder.open(ERRORS) as file:
            text = file.read()
    except FileNotFoundError:
        return
    try:
        for line in text.decode().splitlines():
            entry = json.loads(line)
            yield {**entry, "id": str(entry["id"])}
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{folder.where(ERRORS)} is not what a run wrote: {error}; remove it, what failed is "
            "tried again in any case"
        ) from error


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an error, as `add_note` does from Python 3.11 on."""
    notes: list[str] = getattr(error, "__notes__", [])
    error.__notes__ = [*notes, note]  # type: ignore[attr-defined]  # of Python 3.11
