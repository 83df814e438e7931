"""Arguments of an extraction, and its records in the store: meta.json and errors.jsonl."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import msgspec
import torch

from auricle.catalogue.record import DEFAULT_MODEL
from auricle.corpus.utterance import Problem, Utterance
from auricle.errors import AuricleError, ExtractionError, StoreError
from auricle.extraction.selection import Selection
from auricle.files.safetensors import raw_bytes
from auricle.inference.approximate import precision_of
from auricle.info import SAMPLE_RATE, FinalNorm
from auricle.models.base import Encoder
from auricle.models.outputs import Pool
from auricle.store.folder import Folder
from auricle.store.layout import ERRORS, LayerMeta, SelectionMeta, StoreMeta
from auricle.store.shards import KALDI_METHODS, path_text
from auricle.units.codebook import Units, known_sha256

_Rule: TypeAlias = tuple[str, Callable[[Any], bool]]


def _one_of(*choices: str | bool | None) -> _Rule:
    *names, last = map(repr, choices)
    return (
        f"{', '.join(names)} or {last}",
        lambda x: isinstance(x, str | bool | None) and x in choices,
    )


def _number(kind: type, text: str, is_right: Callable[[Any], bool]) -> _Rule:
    return text, lambda x: isinstance(x, kind) and not isinstance(x, bool) and is_right(x)


def _or_none(rule: _Rule) -> _Rule:
    return f"None or {rule[0]}", lambda x: x is None or rule[1](x)


_FLAG = _one_of(False, True)
_SECONDS = _number(Real, "a positive number of seconds", lambda x: x > 0)
_NOT_NEGATIVE = _number(Real, "a number of seconds that is not negative", lambda x: x >= 0)
_COUNT = _or_none(_number(Integral, "a whole number from 0", lambda x: x >= 0))

_RULES: Mapping[str, _Rule] = {
    "pool": _one_of(None, *get_args(Pool)),
    "ids": _one_of("relative", "path"),
    "compress": _one_of(None, *KALDI_METHODS),
    "on_error": _one_of("report", "stop"),
    "engine": _one_of("local", "ray"),
    **dict.fromkeys(
        ("refresh", "codes", "deduplicate", "check_weights", "streaming", "dry_run"), _FLAG
    ),
    "batch_seconds": _SECONDS,
    "window_seconds": _or_none(_SECONDS),
    "overlap_seconds": _NOT_NEGATIVE,
    "flush_seconds": _NOT_NEGATIVE,
    "shard_bytes": _number(Real, "a positive number of bytes", lambda x: x > 0),
    "channel": _COUNT,
    "num_workers": _COUNT,
    "num_actors": _or_none(_number(Integral, "a whole number from 1", lambda x: x >= 1)),
}
"""Argument of `extract` -> what it must be, in words and as a test."""


def check_arguments(model: str | Path | Encoder | None, **arguments: Any) -> None:
    """Raise AuricleError where an argument is wrong, or would be ignored beside another one."""
    for name, (expected, is_right) in _RULES.items():
        if not is_right(arguments[name]):
            raise AuricleError(f"{name} must be {expected}, but is {arguments[name]!r}")
    if arguments["engine"] == "local":
        for name in ("address", "num_actors"):
            if arguments[name] is not None:
                raise AuricleError(
                    f"got {name}={arguments[name]!r}, which is for a Ray cluster, with "
                    f'engine="local"; pass engine="ray", or leave {name} out'
                )
    _check_options_of_units(arguments)
    if isinstance(model, Encoder):
        for name, default in (("checkpoint", None), ("config", None), ("precision", "float32")):
            if arguments[name] != default:
                raise AuricleError(
                    f"got {name}={arguments[name]!r} and an encoder that is loaded; pass {name} to "
                    "auricle.load, or the name of the model here"
                )


def _check_options_of_units(arguments: Mapping[str, Any]) -> None:
    """Raise AuricleError where units are kept and options are for layers, or the other way."""
    if arguments["units"] is None:
        if arguments["deduplicate"] or not arguments["check_weights"]:
            raise AuricleError(
                "deduplicate=True (--deduplicate) and check_weights=False (--other-weights) are "
                "for units: pass units= (--units) too, or leave them out"
            )
        return
    if arguments["weights"] is not None or arguments["pool"] is not None or arguments["codes"]:
        raise AuricleError(
            "units are of one layer, frame by frame: leave weights= (--weights), pool= (--pool) "
            "and codes= (--codes) out, or units= (--units)"
        )
    if arguments["dtype"] not in ("float32", torch.float32):
        raise AuricleError(
            f"units are integers, but dtype= (--dtype) is {arguments['dtype']}; leave it out"
        )


def model_of(units: Units | None, checkpoint: Any) -> tuple[str, Any]:
    """The model and the checkpoint to load where no model is named.

    Raises:
        AuricleError: The units name none.
    """
    if units is None:
        return DEFAULT_MODEL, checkpoint
    if units.model is None:
        raise AuricleError(
            f"these units of {units.layer} name no model that could be loaded; pass model= "
            "(--model), the encoder that they are of"
        )
    return units.model, units.checkpoint if checkpoint is None else checkpoint


def check_units(
    encoder: Encoder,
    units: Units,
    layers: Sequence[int | str] | Literal["all"] | None,
    final_norm: FinalNorm | None,
) -> None:
    """Raise AuricleError where another layer is asked for than that of the units."""
    if layers is not None:
        names = encoder.layer_names(layers)
        if names != [units.layer]:
            raise AuricleError(
                f"these units are of {units.layer}, but layers= (--layer) names "
                f"{', '.join(names)}; leave it out"
            )
    if final_norm not in (None, units.final_norm):
        raise AuricleError(
            f"these units are of {units.layer} with final_norm={units.final_norm!r}, but "
            f"final_norm= (--final-norm) is {final_norm!r}; leave it out"
        )


def check_program_inputs(
    input_format: str | None, root: str | Path | None, engine: str, streaming: bool
) -> None:
    """Raise AuricleError where options do not go with waveforms and tables of the program."""
    for name, value in (("input_format", input_format), ("root", root)):
        if value is not None:
            raise AuricleError(
                f"got {name}={value!r}, which is for names of files, with audio of the program; "
                "leave it out"
            )
    if streaming or engine == "ray":
        raise AuricleError(
            "audio of the program lies on this machine until it is encoded: leave streaming= and "
            "engine= out, or pass names of files or data sets"
        )


def check_streaming(
    input_format: str | None, root: str | Path | None, engine: str, dry_run: bool
) -> None:
    """Raise AuricleError where options do not go with streams."""
    if input_format not in (None, "dataset") or root is not None:
        raise AuricleError(
            "streams are data sets whose rows hold their audio: leave input_format= "
            "(--input-format) and root= (--root) out"
        )
    if dry_run:
        raise AuricleError(
            "how much a stream holds is not known before it is read: leave dry_run=True "
            "(--dry-run) out, or streaming=True (--streaming)"
        )
    if engine == "ray":
        raise AuricleError(
            "rows of a stream lie on this machine until they are encoded, where a cluster does not "
            'see them: pass engine="local" (--engine local), or leave streaming=True (--streaming) '
            "out"
        )


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
