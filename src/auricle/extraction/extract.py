"""From a corpus to a store of representations: what `auricle.extract` and the command line do."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from auricle.audio.inputs import checked_pad_short
from auricle.audio.notes import gathering
from auricle.corpus.in_memory import peeked, spooled
from auricle.corpus.listing import input_texts, list_utterances
from auricle.corpus.utterance import Listing
from auricle.errors import AudioError, AuricleError, ChecksumError
from auricle.extraction.engines import LocalEngine, RayEngine, all_devices, import_ray
from auricle.extraction.forecast import LongAudioHint, survey
from auricle.extraction.plan import DEFAULT_BATCH_SECONDS, DEFAULT_SHARD_BYTES, PlanLimits
from auricle.extraction.record import (
    check_arguments,
    check_program_inputs,
    check_streaming,
    check_units,
    describe,
    model_of,
)
from auricle.extraction.run import Progress, Run, Summary
from auricle.extraction.selection import DType, Selection, Windows, type_name
from auricle.extraction.spooling import GROUP_ROWS, Stream, open_stream
from auricle.extraction.streams import extract_streams
from auricle.extraction.worker import FLUSH_SECONDS, Engine, Loaded, LoadOn, Worker
from auricle.extraction.writers import open_format
from auricle.hub.load import load
from auricle.hub.location import is_location, looks_like_path
from auricle.inference.approximate import Precision
from auricle.info import FinalNorm
from auricle.models.base import Encoder
from auricle.models.outputs import Pool
from auricle.store.folder import open_folder
from auricle.store.layout import read_meta
from auricle.store.writer import StoreWriter
from auricle.units.codebook import Units, load_units

Layers: TypeAlias = Sequence[int | str] | Literal["all"]

DEFAULT_OVERLAP_SECONDS = 5.0
"""Overlap of windows by default."""

MAX_REASONS = 3
"""Reasons that are given where not one input can be used."""


class Silence:
    """Ignores the events of a run."""

    def start(self, seconds: float | None, num_utterances: int | None) -> None:
        """Ignore the start."""

    def measure(self, num_done: int, num_all: int) -> None:
        """Ignore measured files."""

    def advance(self, seconds: float) -> None:
        """Ignore encoded audio."""

    def fail(self, reason: str) -> None:
        """Ignore a failure; errors.jsonl holds it."""


@gathering
def extract(
    inputs: str | Path | Iterable[Any],
    out: str | Path,
    *,
    model: str | Path | Encoder | None = None,
    checkpoint: str | Path | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    refresh: bool = False,
    precision: Precision = "float32",
    devices: str | Sequence[str] = "auto",
    layers: Layers | int | str | None = None,
    final_norm: FinalNorm | None = None,
    weights: Sequence[float] | None = None,
    pool: Pool | None = None,
    codes: bool = False,
    units: str | Path | Units | None = None,
    deduplicate: bool = False,
    check_weights: bool = True,
    dtype: DType | torch.dtype = "float32",
    output_format: str = "store",
    compress: Literal["auto", "two-byte", "one-byte"] | None = None,
    input_format: str | None = None,
    root: str | Path | None = None,
    streaming: bool = False,
    channel: int | None = None,
    ids: Literal["relative", "path"] = "relative",
    window_seconds: float | None = None,
    overlap_seconds: float = DEFAULT_OVERLAP_SECONDS,
    pad_short: bool = False,
    on_error: Literal["report", "stop"] = "report",
    batch_seconds: float = DEFAULT_BATCH_SECONDS,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    num_workers: int | None = 0,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    num_actors: int | None = None,
    flush_seconds: float = FLUSH_SECONDS,
    dry_run: bool = False,
    progress: Progress | None = None,
    short: Literal["error", "pad"] | None = None,
) -> Summary:
    """Write the representations of a corpus into a store that `auricle.open` reads.

    What the store holds already is left as it is: a run that was killed goes on where it was, and
    a corpus that has grown costs what is new.

    Args:
        inputs: Files, folders, patterns, manifests, archives, data sets by name. Or audio of the
            program: (id, waveform) pairs, also from a generator, a dict of them, a Lhotse CutSet, a
            Hugging Face Dataset, a DataFrame with a column of paths, a DataLoader.
        out: Folder of the store, or an address that fsspec knows (`s3://bucket/features`).
        model: As `auricle.load` takes it; or an encoder, which runs where it is. None for that of
            `units`, or a bundled one.
        checkpoint: As `auricle.load` takes it.
        config: As `auricle.load` takes it.
        refresh: Encode again what the store holds under an id whose audio is another one now,
            which is an error without it. Weights are downloaded again, as `auricle.load` does,
            for a new store or where what is cached of them is damaged.
        precision: How many bits the model computes with, as `auricle.load` takes it.
        devices: As torch names them, with a process for each where there are several; `"auto"`
            for all CUDA GPUs, or the CPU where there are none.
        layers: Indices or names, "all", or None for the default layer.
        final_norm: As in a call of the encoder; None for that of `units`, or "keep".
        weights: Of a sum of the layers, one each; None to keep them apart.
        pool: "mean", "max" or "meanstd" over the frames; None to keep them.
        codes: Keep the quantiser's codes instead of layers.
        units: Keep these units instead of their layer: from `auricle.load_units`, or their file.
        deduplicate: Keep runs of equal units as one row, with their durations in frames.
        check_weights: Refuse units that were fitted with other weights.
        dtype: Type in which layers are kept.
        output_format: "store", "npy", "kaldi", "webdataset", "hdf5", "arrow" or, of codes and
            units, "text".
        compress: Of Kaldi: a byte a value with a scale for each column ("auto", as `copy-feats
            --compress`), or one or two bytes with one scale for all; None for float32.
        input_format: Kind of the inputs, where it does not follow from their names and contents.
        root: A folder that no audio may lie outside of.
        streaming: Read Hugging Face data sets row after row instead of downloading them first; a
            group of rows at a time lies in the system's temporary folder.
        channel: Counted from 0; None for the mean of all.
        ids: What ids are that come from paths: "relative" for what lies below the input's folder,
            "path" for all of the path as the input gives it, so that `tr/1.wav` is not `te/1.wav`.
        window_seconds: Encode what is longer in windows of this length, see
            `auricle.encode_windows`; None to encode everything whole.
        overlap_seconds: What neighbouring windows have in common.
        pad_short: Append zeros to audio shorter than the encoder's minimum, which is a failure
            otherwise.
        on_error: Whether an utterance that gives nothing is reported or ends the run.
        batch_seconds: Audio that goes through the model at once, padding included.
        shard_bytes: Size at which a shard ends.
        num_workers: Processes that decode for each device; 0 for a thread, None for what suits
            (in a script then, calls belong under `if __name__ == "__main__"`).
        engine: "local" for this machine, "ray" for a Ray cluster.
        address: Of the cluster; "auto" for the one that this machine is in, None to start one.
        num_actors: How many processes encode on the cluster; None for as many as fit.
        flush_seconds: Time after which what is encoded of a shard that is not whole is flushed to
            disk. So much, a batch and the time of a write are what a kill may lose.
        dry_run: Write nothing, and say in the summary what a run would do: hours, frames, bytes,
            and a time measured on a minute of noise at most.
        progress: Hears how it goes on; None for no reports.
        short: Deprecated: `"pad"` is `pad_short=True`, `"error"` is `pad_short=False`.

    Returns:
        What was done.

    Raises:
        AudioError: Inputs cannot be read, hold nothing usable, or two utterances have one id.
        AuricleError: The encoder cannot be loaded, does not give what is asked for, or is not that
            of the units.
        OutputError: `out` holds another extraction, or other audio under an id; it cannot be
            written.
        ExtractionError: An utterance gave nothing, and `on_error` is "stop".
    """
    arguments = locals()
    check_arguments(**arguments)
    inputs, is_of_program = peeked(inputs)
    if is_of_program:
        check_program_inputs(input_format, root, engine, streaming)
        with spooled(inputs, open_folder(out).location, channel=channel) as listed:
            return extract(**{**arguments, "inputs": listed})
    if isinstance(units, str | Path):
        units = load_units(units)
    if model is None:
        model, checkpoint = model_of(units, checkpoint)
    pad_short = checked_pad_short(pad_short, short)
    streams: list[Stream] = []
    listing = Listing()
    if isinstance(inputs, Listing):
        listing = _not_empty(inputs, "the list")
    elif streaming:
        check_streaming(input_format, root, engine, dry_run)
        streams = [open_stream(text) for text in input_texts(inputs)]
    else:
        texts = input_texts(inputs)
        listing = _list(texts, input_format, root, channel, ids_by_path=ids == "path")
    chosen = (devices,) if isinstance(devices, str) else tuple(devices)
    chosen = all_devices() if chosen in ((), ("auto",)) else chosen
    runner: Engine = LocalEngine(chosen)
    if engine == "ray":
        import_ray()  # before anything is written
        runner = RayEngine(address, num_actors)
    encoder, load_on = _encoder(
        model,
        runner,
        refresh,
        {"checkpoint": checkpoint, "config": config, "precision": precision},
        holds_store=read_meta(open_folder(out)) is not None,
    )
    windows = None
    if window_seconds is not None:
        windows = Windows(window_seconds=window_seconds, overlap_seconds=overlap_seconds)
    chosen_layers = [layers] if isinstance(layers, int | str) and layers != "all" else layers
    if units is not None:
        check_units(encoder, units, chosen_layers, final_norm)
        selection = Selection.of_units(
            encoder, units, deduplicate=deduplicate, windows=windows, check_weights=check_weights
        )
    else:
        selection = Selection.of(
            encoder,
            chosen_layers,
            weights=weights,
            pool=pool,
            wants_codes=codes,
            dtype=type_name(dtype),
            windows=windows,
            final_norm=final_norm or "keep",
        )
    meta = describe(
        encoder,
        selection,
        model=encoder.info.name if isinstance(model, Encoder) else str(model),
        store_format=output_format,
        channel=channel,
        compression=compress,
        short="pad" if pad_short else "error",
        library_version=import_module("auricle").__version__,
    )
    worker = Worker(
        load=load_on,
        selection=selection,
        pad_short=pad_short,
        writer=StoreWriter.begin(out, open_format(meta), writes=not dry_run),
        num_workers=num_workers,
        flush_seconds=flush_seconds,
    )
    limits = PlanLimits(batch_seconds=batch_seconds, shard_bytes=shard_bytes)
    progress = progress or Silence()
    if dry_run:
        return survey(
            listing,
            worker.writer,
            selection,
            load_on(device=chosen[0]) if engine == "local" else encoder,
            num_devices=len(chosen) if engine == "local" else None,
            progress=progress,
            limits=limits,
            refresh=refresh,
        )
    with worker.writer.folder.locked():
        run = Run(
            worker,
            runner,
            num_bytes=functools.partial(selection.num_bytes, encoder, selection.kept(encoder)),
            progress=progress,
            limits=limits,
            stops=on_error == "stop",
            notice=LongAudioHint(selection, encoder, is_here=isinstance(load_on, Loaded)),
        )
        if streaming:
            group_rows = GROUP_ROWS * len(chosen)
            return extract_streams(run, streams, channel=channel, group_rows=group_rows)
        return run.extract(listing, refresh=refresh)


def _list(
    texts: Sequence[str],
    input_format: str | None,
    root: str | Path | None,
    channel: int | None,
    *,
    ids_by_path: bool,
) -> Listing:
    """Utterances of inputs, of which there are some."""
    listing = list_utterances(
        texts,
        input_format=input_format,
        root=None if root is None else Path(root),
        channel=channel,
        ids_by_path=ids_by_path,
    )
    return _not_empty(listing, ", ".join(texts[:MAX_REASONS]))


def _not_empty(listing: Listing, name: str) -> Listing:
    """A listing, or AudioError where there is nothing in it."""
    if not listing.utterances:
        reasons = "; ".join(map(str, listing.problems[:MAX_REASONS])) or f"{name} names none"
        raise AudioError(f"no audio to extract: {reasons}")
    return listing


def _encoder(
    model: str | Path | Encoder,
    runner: Engine,
    refresh: bool,
    options: Mapping[str, Any],
    *,
    holds_store: bool,
) -> tuple[Encoder, LoadOn]:
    """The encoder here, and what gives it to each process that encodes."""
    only_device = None
    if isinstance(runner, LocalEngine) and len(runner.devices) == 1:
        (only_device,) = runner.devices
    if isinstance(model, Encoder):
        if only_device is None:
            raise AuricleError(
                "an encoder that is loaded runs in this process alone; pass the name or the path "
                "of the model to use several devices, or Ray"
            )
        if model.training:
            raise AuricleError(
                "the encoder is in training mode, where dropout changes every frame; call "
                "encoder.eval() first"
            )
        return model, Loaded(model)
    device = only_device or "cpu"
    try:
        # Of a store that is there the weights are settled: others would be refused.
        encoder = load(model, device=device, refresh=refresh and not holds_store, **options)
    except ChecksumError:
        if not (refresh and holds_store):
            raise
        encoder = load(model, device=device, refresh=True, **options)
    if only_device is not None:
        return encoder, Loaded(encoder)
    # A process may run in another folder, and need not fetch again what has just been fetched.
    is_path = looks_like_path(model)
    elsewhere = {
        name: value if name == "precision" else _absolute(value) for name, value in options.items()
    }
    return encoder, functools.partial(
        load, _absolute(Path(model)) if is_path else model, **elsewhere
    )


def _absolute(option: Any) -> Any:
    """An option of `load`, with a path made absolute."""
    is_path = isinstance(option, str | Path) and not is_location(option)
    return Path(option).absolute() if is_path else option
