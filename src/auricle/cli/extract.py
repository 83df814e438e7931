"""`auricle extract`: representations of many files, each written whole or not at all."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from tqdm import tqdm

from auricle.audio.files import read_audio, read_header
from auricle.cli.arrays import write_npy, write_safetensors
from auricle.cli.batches import group_by_length
from auricle.cli.encoders import choose_model, find_layer, layer_argument, load_encoder
from auricle.cli.folders import check_folder
from auricle.cli.inputs import Job, plan_jobs
from auricle.cli.metadata import encoder_metadata, source_metadata
from auricle.errors import AudioError, AuricleError, OutputError
from auricle.hub import catalogue
from auricle.hub.locations import is_location
from auricle.models.base import SAMPLE_RATE, Encoder

Output: TypeAlias = Tensor | dict[str, Tensor]
"""What the encoder gives for one waveform: (T, D) or codes (T, K), (L, T, D), or layers by name."""

ONE_FILE_ERRORS = frozenset(
    {errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EILSEQ}
)
"""Reasons that lie in the name of one output; after any other (full disk) the rest fails too."""


class Progress:
    """A bar on standard error where that is a terminal, a line for each failure, a summary."""

    def __init__(self, num_files: int) -> None:
        self.num_files = num_files
        self.num_written = 0
        self.num_failed = 0
        self._bar = tqdm(total=num_files, unit="file", disable=None, leave=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._bar.close()
        parts = [f"wrote {self.num_written} of {self.num_files}"]
        if self.num_failed:
            parts.append(f"{self.num_failed} failed")
        if error is not None:
            parts.append("stopped")
        print("; ".join(parts))

    def written(self) -> None:
        """Count an output."""
        self.num_written += 1
        self._bar.update()

    def failed(self, source: Path, error: AuricleError) -> None:
        """Count a failure and report it, with its path, in one line."""
        self.num_failed += 1
        self._bar.update()
        reason = " ".join(str(error).split())
        if str(source) not in reason:
            reason = f"{source}: {reason}"
        tqdm.write(f"auricle: error: {reason}", file=sys.stderr)


def run(arguments: argparse.Namespace) -> int:
    """Extract as the arguments say; the status is 1 if a file failed.

    Raises:
        AuricleError: Nothing can be extracted, or nothing more can be written.
    """
    choose_model(arguments)
    jobs = plan_jobs(arguments.inputs, arguments.out, f".{arguments.format}")
    check_folder(arguments.out)
    extractor = None
    if any(job.source.is_file() for job in jobs):  # a mistyped path need not download a model
        extractor = Extractor(load_encoder(arguments), arguments)
    with Progress(len(jobs)) as progress:
        timed = _read_lengths(jobs, arguments.batch_seconds, progress)
        if extractor is not None:
            for batch in group_by_length(timed, arguments.batch_seconds):
                extractor.extract(batch, progress)
    return 1 if progress.num_failed else 0


def _read_lengths(
    jobs: Sequence[Job], open_seconds: float, progress: Progress
) -> list[tuple[Job, float]]:
    """Jobs whose files look like audio, with their lengths in seconds; the others have failed.

    A length that the header leaves open is taken to be `open_seconds`.
    """
    timed = []
    for job in jobs:
        try:
            seconds = read_header(job.source).seconds
        except AudioError as error:
            progress.failed(job.source, error)
        else:
            timed.append((job, open_seconds if seconds is None else seconds))
    return timed


class Extractor:
    """An encoder, and how its output is to be taken and written."""

    def __init__(self, encoder: Encoder, arguments: argparse.Namespace) -> None:
        self.encoder = encoder
        self.model: str = arguments.model
        self.channel: int | None = arguments.channel
        self.short: Literal["error", "pad"] = arguments.short
        self.format: str = arguments.format
        self.wants_codes: bool = arguments.codes
        self.layer = _chosen_layer(encoder, arguments)
        is_all = self.layer == "all"
        layers = encoder.layer_infos if is_all else (find_layer(encoder, self.layer),)
        self.names = ["codes"] if self.wants_codes else [info.name for info in layers]
        shapes = {(info.dim, info.geometry.frame_rule) for info in layers}
        if self.format == "npy" and len(shapes) > 1:
            raise OutputError(
                f"the layers of {self.model} differ in width or rate, so one npy array cannot "
                "hold them all; use --format safetensors, or choose one --layer"
            )
        checkpoint = arguments.checkpoint
        if checkpoint is None and catalogue.looks_like_path(self.model):
            checkpoint = Path(self.model)
        elif is_location(checkpoint):
            checkpoint = None  # the encoder knows the digest of what was fetched
        self.metadata = encoder_metadata(encoder, self.model, checkpoint, layers)
        if self.wants_codes:
            del self.metadata["layers"]  # which tells the width of vectors, not of codes

    def extract(self, batch: Sequence[Job], progress: Progress) -> None:
        """Encode the files of a batch together and write the output of each.

        Raises:
            OutputError: Nothing can be written any more.
        """
        read = []
        for job in batch:
            try:
                read.append((job, self._read(job)))
            except AudioError as error:
                progress.failed(job.source, error)
        for job, output in self._encode(read, progress):
            try:
                self._write(job, output)
            except OutputError as error:
                if getattr(error.__cause__, "errno", None) not in ONE_FILE_ERRORS:
                    raise
                progress.failed(job.source, error)
            else:
                progress.written()

    def _read(self, job: Job) -> Tensor:
        waveform = read_audio(job.source, sample_rate=SAMPLE_RATE, channel=self.channel)
        min_samples = self.encoder.min_samples
        if len(waveform) < min_samples and self.short == "error":
            raise AudioError(
                f"{job.source} has {len(waveform)} samples at {SAMPLE_RATE} Hz, but {self.model} "
                f"needs at least {min_samples}; leave it out or pass --short pad"
            )
        return waveform

    def _encode(
        self, read: Sequence[tuple[Job, Tensor]], progress: Progress
    ) -> list[tuple[Job, Output]]:
        """Outputs of the files that can be encoded; the others have failed."""
        try:
            outputs = self._run([waveform for _, waveform in read])
        except AuricleError as error:
            if len(read) > 1:
                # One by one, so that a file's fault stays its own.
                return [done for pair in read for done in self._encode([pair], progress)]
            progress.failed(read[0][0].source, error)
            return []
        return [(job, output) for (job, _), output in zip(read, outputs, strict=True)]

    def _run(self, waveforms: list[Tensor]) -> list[Output]:
        try:
            with torch.inference_mode():
                outputs: list[Any]
                if self.wants_codes:
                    outputs = self.encoder.codes(waveforms, short=self.short)
                else:
                    outputs = self.encoder(waveforms, layer=self.layer, short=self.short)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            seconds = sum(map(len, waveforms)) / SAMPLE_RATE
            raise AuricleError(
                f"out of memory with {seconds:.0f} s of audio at once; lower --batch-seconds, or "
                "cut the file if it is this long"
            ) from error
        return [_on_cpu(output) for output in outputs]

    def _write(self, job: Job, output: Output) -> None:
        if self.format == "npy":
            assert isinstance(output, Tensor)
            write_npy(job.output, output.numpy())
            return
        if isinstance(output, Tensor):
            rows = output.unbind() if output.dim() == 3 else [output]
            output = dict(zip(self.names, rows, strict=True))
        arrays = {name: layer.numpy() for name, layer in output.items()}
        metadata = {**self.metadata, **source_metadata(job.source)}
        write_safetensors(job.output, arrays, metadata)


def _chosen_layer(encoder: Encoder, arguments: argparse.Namespace) -> int | str | None:
    """The layer that is asked for; with `--codes` the one that the quantiser reads.

    Raises:
        AuricleError: There is no quantiser, or a layer is asked for besides.
    """
    if not arguments.codes:
        return layer_argument(arguments.layer)
    if arguments.layer is not None:
        raise AuricleError("--codes come from the quantiser's own layer; leave --layer out")
    if encoder.codes_layer is None:
        raise AuricleError(
            f"{arguments.model} has no quantiser, so it gives no codes; leave --codes out, or take "
            "a model such as vq_wav2vec, vq_apc or npc"
        )
    return encoder.codes_layer


def _on_cpu(output: Output) -> Output:
    """An output on the CPU, checked to be numbers.

    Raises:
        AuricleError: It holds NaN or infinity, as narrow weights make them.
    """
    layers: Mapping[str, Tensor] = {"": output} if isinstance(output, Tensor) else output
    layers = {name: layer.cpu() for name, layer in layers.items()}
    if not all(bool(torch.isfinite(layer).all()) for layer in layers.values()):
        raise AuricleError(
            "the representation holds NaN or infinity; use --dtype float32 if it is another, or "
            "check the checkpoint"
        )
    return layers[""] if isinstance(output, Tensor) else dict(layers)


def _is_out_of_memory(error: Exception) -> bool:
    # The CPU's allocator raises a bare RuntimeError that only its text tells apart.
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or (
        "DefaultCPUAllocator" in str(error)
    )
