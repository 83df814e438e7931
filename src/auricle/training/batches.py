"""Batches of crops: planning of an epoch from its seed, and loading."""

from __future__ import annotations

import dataclasses
import hashlib
import signal
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from auricle.audio.files import read_audio
from auricle.errors import RecipeError
from auricle.models.base import SAMPLE_RATE
from auricle.nn.padding import pad_waveforms
from auricle.training.corpus import Corpus, Utterance
from auricle.training.recipe import DataOptions


@dataclasses.dataclass(frozen=True)
class Crop:
    """Samples `start` to `start + num_samples` of an utterance, by its index in the corpus."""

    utterance: int
    start: int
    num_samples: int


@dataclasses.dataclass(frozen=True)
class DataPosition:
    """A place in the data: the epoch and the first batch of it that is yet to come."""

    epoch: int = 0
    batch: int = 0


@dataclasses.dataclass(frozen=True)
class PlannedBatch:
    """What a batch is made of, and where the data goes on after it."""

    crops: tuple[Crop, ...]
    following: DataPosition


def draw(seed: int, epoch: int, *what: object) -> int:
    """A uniform number below 2^64 for `what`."""
    text = "\x1f".join(map(str, (seed, epoch, *what)))
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def cut_crops(corpus: Corpus, options: DataOptions, seed: int, epoch: int) -> list[Crop]:
    """The crops of an epoch, in the order of the corpus.

    An utterance gives as many crops as fit, side by side, behind a random offset; one that is no
    longer than a crop, or every one where there is no crop, stays whole.
    """
    crops = []
    crop = None if options.crop_seconds is None else round(options.crop_seconds * SAMPLE_RATE)
    for index, utterance in enumerate(corpus.utterances):
        if crop is None or utterance.num_samples <= crop:
            crops.append(Crop(index, 0, utterance.num_samples))
            continue
        num_crops, spare = divmod(utterance.num_samples, crop)
        offset = draw(seed, epoch, "crop", utterance.key) % (spare + 1)
        crops += [Crop(index, offset + place * crop, crop) for place in range(num_crops)]
    return crops


def plan_epoch(
    corpus: Corpus, options: DataOptions, seed: int, epoch: int
) -> list[tuple[Crop, ...]]:
    """The batches of an epoch in their order.

    Pieces are grouped into buckets by length, shuffled within them and dealt out, from the
    shortest bucket to the longest, so that count times longest stays within `batch_seconds`; a
    longer crop goes alone. What is left for the last batch is dropped if it is less than half of
    one: other crops are left over in the next epoch. Then the batches are shuffled.
    """
    crops = cut_crops(corpus, options, seed, epoch)

    def place(crop: Crop) -> int:
        return draw(seed, epoch, "piece", corpus.utterances[crop.utterance].key, crop.start)

    edges = _bucket_edges(sorted(crop.num_samples for crop in crops), options.num_buckets)
    crops.sort(key=lambda crop: (bisect_left(edges, crop.num_samples), place(crop)))
    capacity = round(options.batch_seconds * SAMPLE_RATE)
    batches: list[tuple[Crop, ...]] = []
    batch: list[Crop] = []
    longest = 0
    for crop in crops:
        longest = max(longest, crop.num_samples)
        if batch and (len(batch) + 1) * longest > capacity:
            batches.append(tuple(batch))
            batch, longest = [], crop.num_samples
        batch.append(crop)
    if not batches or 2 * sum(crop.num_samples for crop in batch) >= capacity:
        batches.append(tuple(batch))
    order = sorted(range(len(batches)), key=lambda index: draw(seed, epoch, "batch", index))
    return [batches[index] for index in order]


def _bucket_edges(lengths: list[int], num_buckets: int) -> list[int]:
    """Longest length of each bucket but the last; crops of equal length share a bucket."""
    places = (len(lengths) * bucket // num_buckets for bucket in range(1, num_buckets))
    return sorted({lengths[place] for place in places if place < len(lengths)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchStream:
    """The batches of one process of several, epoch after epoch without end, from `start` on.

    Each turn gives the processes one batch each; an epoch's last batches, too few for all of
    them, are left out.
    """

    corpus: Corpus
    options: DataOptions
    seed: int
    start: DataPosition = DataPosition()
    rank: int = 0
    num_processes: int = 1

    def __iter__(self) -> Iterator[PlannedBatch]:
        position = self.start
        while True:
            batches = plan_epoch(self.corpus, self.options, self.seed, position.epoch)
            if len(batches) < self.num_processes:
                raise RecipeError(
                    f"an epoch has {len(batches)} batches, but there are {self.num_processes} "
                    "processes: use fewer, lower batch_seconds or train on more audio"
                )
            while position.batch + self.num_processes <= len(batches):
                crops = batches[position.batch + self.rank]
                position = DataPosition(position.epoch, position.batch + self.num_processes)
                yield PlannedBatch(crops, position)
            position = DataPosition(position.epoch + 1, 0)


PREFETCHED_BATCHES = 4
"""Batches that each worker keeps ready."""


class TrainingBatch(NamedTuple):
    """Waveforms (B, S) with zeros past their true ends, and where the data goes on."""

    waveforms: Tensor
    num_samples: list[int]
    following: DataPosition


class CropDataset(Dataset[TrainingBatch]):
    """Decodes what a batch is made of.

    `decoded` holds each utterance's waveform where all have been decoded beforehand; without it
    each crop is read from its file.
    """

    def __init__(self, corpus: Corpus, decoded: Sequence[Tensor] | None = None) -> None:
        self.utterances = corpus.utterances
        self.decoded = decoded

    def __getitem__(self, order: PlannedBatch) -> TrainingBatch:
        waveforms = [self._read(crop) for crop in order.crops]
        num_samples = [len(waveform) for waveform in waveforms]
        return TrainingBatch(pad_waveforms(waveforms), num_samples, order.following)

    def _read(self, crop: Crop) -> Tensor:
        utterance = self.utterances[crop.utterance]
        if self.decoded is not None:
            return self.decoded[crop.utterance][crop.start : crop.start + crop.num_samples]
        if crop.num_samples == utterance.num_samples:
            return decode(utterance)
        return read_audio(
            utterance.path,
            sample_rate=SAMPLE_RATE,
            start_seconds=crop.start / SAMPLE_RATE,
            duration_seconds=crop.num_samples / SAMPLE_RATE,
        )


def decode(utterance: Utterance) -> Tensor:
    """The waveform (S,) of an utterance, of the length that the corpus counts."""
    waveform = read_audio(utterance.path, sample_rate=SAMPLE_RATE)
    return waveform[: utterance.num_samples]


def load_batches(
    stream: BatchStream,
    *,
    num_workers: int,
    decoded: Sequence[Tensor] | None,
    pin_memory: bool,
) -> Iterator[TrainingBatch]:
    """The batches of a stream, in its order, whatever the number of workers; 0 decodes in place.

    `pin_memory` puts them where a GPU fetches them faster.

    Raises:
        AudioError: A file cannot be decoded.
    """
    loader = DataLoader(
        CropDataset(stream.corpus, decoded),
        batch_size=None,
        sampler=stream,
        num_workers=num_workers,
        prefetch_factor=PREFETCHED_BATCHES if num_workers else None,
        collate_fn=_as_it_is,
        worker_init_fn=_leave_signals_to_parent,
        pin_memory=pin_memory,
        # It draws a seed for its workers, which must not come from the generator of dropout.
        generator=torch.Generator(),
    )
    return iter(loader)


def _as_it_is(batch: Any) -> Any:
    return batch


def _leave_signals_to_parent(_worker: int) -> None:
    # A terminal's Ctrl-C reaches them too, while the trainer still needs data for its last step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
