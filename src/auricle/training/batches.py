"""Batches of crops: deterministic planning of an epoch, and loading.

Crops, shuffling and batches are functions of seed and epoch by hashing, not draws of a generator.
The order is therefore the same on every machine and library version, and a resumed training needs
no more than its position.
"""

from __future__ import annotations

import dataclasses
import hashlib
import signal
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from auricle.errors import RecipeError
from auricle.info import SAMPLE_RATE
from auricle.training.building import Corpus
from auricle.training.recipe import DataOptions
from auricle.training.targets import NO_UNIT, CorpusUnits


@dataclasses.dataclass(frozen=True)
class Crop:
    """Samples `start` to `start + num_samples` of the utterance with this index in the corpus."""

    utterance: int
    start: int
    num_samples: int


@dataclasses.dataclass(frozen=True)
class DataPosition:
    """Position in the data: the epoch, and its first batch that is still to come."""

    epoch: int = 0
    batch: int = 0


@dataclasses.dataclass(frozen=True)
class PlannedBatch:
    """Crops of a batch, and the position in the data after it."""

    crops: tuple[Crop, ...]
    following: DataPosition


def draw(seed: int, epoch: int, *what: object) -> int:
    """Uniform integer below 2^64, a hash of seed, epoch and `what`."""
    text = "\x1f".join(map(str, (seed, epoch, *what)))
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def cut_crops(corpus: Corpus, options: DataOptions, seed: int, epoch: int) -> list[Crop]:
    """Crops of an epoch, in the order of the corpus.

    An utterance yields as many adjacent crops as fit after a random offset. An utterance no longer
    than a crop, or any utterance if `crop_seconds` is None, is one crop.
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
    """Batches of an epoch in their order.

    Crops are grouped by length into buckets, shuffled within them, and batched from the shortest
    bucket to the longest so that count times longest stays within `batch_seconds`; a longer crop is
    a batch of its own. A last batch of less than half that size is dropped; the crops it holds
    differ from epoch to epoch. Then the batches are shuffled.
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
    """Endless batches of one process, epoch after epoch from `start`.

    The batches of an epoch are dealt to the processes in turn; those left over at the end of an
    epoch are dropped.
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
"""Batches that each worker prefetches."""


class TrainingBatch(NamedTuple):
    """Waveforms (B, S), zero on padding, and the position in the data after them.

    `targets` are the units of their frames (B, T, K), -1 on padding, for a loss that predicts them.
    """

    waveforms: Tensor
    num_samples: list[int]
    following: DataPosition
    targets: Tensor | None = None


class CropDataset(Dataset[TrainingBatch]):
    """Map-style dataset from planned batches to waveforms.

    `decoded` are the waveforms of all utterances, if decoded beforehand; without them each crop is
    read from its file. `units` are those of the corpus, for a loss that predicts them.
    """

    def __init__(
        self,
        corpus: Corpus,
        decoded: Sequence[Tensor] | None = None,
        units: CorpusUnits | None = None,
    ) -> None:
        self.utterances = corpus.utterances
        self.decoded = decoded
        self.units = units

    def __getitem__(self, order: PlannedBatch) -> TrainingBatch:
        waveforms = [self._read(crop) for crop in order.crops]
        num_samples = [len(waveform) for waveform in waveforms]
        padded = pad_sequence(waveforms, batch_first=True)
        targets = None
        if self.units is not None:
            rows = [self.units.of(c.utterance, c.start, c.num_samples) for c in order.crops]
            targets = pad_sequence(rows, batch_first=True, padding_value=NO_UNIT)
        return TrainingBatch(padded, num_samples, order.following, targets)

    def _read(self, crop: Crop) -> Tensor:
        utterance = self.utterances[crop.utterance]
        if self.decoded is not None:
            return self.decoded[crop.utterance][crop.start : crop.start + crop.num_samples]
        return utterance.read(crop.start, crop.num_samples)


def load_batches(
    stream: BatchStream,
    *,
    num_workers: int,
    decoded: Sequence[Tensor] | None,
    pin_memory: bool,
    units: CorpusUnits | None = None,
) -> Iterator[TrainingBatch]:
    """Load the batches of a stream in its order, whatever the number of workers.

    Args:
        stream: The planned batches.
        num_workers: Worker processes; 0 loads in this process.
        decoded: Waveforms of all utterances, or None to read the files.
        pin_memory: Whether to put batches into pinned memory, for faster transfers to a GPU.
        units: Units of the corpus, for a loss that predicts them.

    Raises:
        AudioError: A file cannot be decoded.
    """
    loader = DataLoader(
        CropDataset(stream.corpus, decoded, units),
        batch_size=None,
        sampler=stream,
        num_workers=num_workers,
        prefetch_factor=PREFETCHED_BATCHES if num_workers else None,
        collate_fn=_identity,
        worker_init_fn=_leave_signals_to_parent,
        pin_memory=pin_memory,
        # The loader draws a seed for its workers, not from the global generator of dropout.
        generator=torch.Generator(),
    )
    return iter(loader)


def _identity(batch: Any) -> Any:
    return batch


def _leave_signals_to_parent(_worker: int) -> None:
    # Ctrl-C also reaches the workers, while the trainer still needs data for its last step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
