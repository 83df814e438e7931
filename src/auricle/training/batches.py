"""Which audio stands in which batch: a function of seed and epoch alone, so it never needs saving.

No generator is drawn from: numbers come from a hash of what they are for, so that they are the same
on every machine, in every version of every library, and from whichever place a training goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
from bisect import bisect_left
from collections.abc import Iterator

from auricle.errors import RecipeError
from auricle.outputs import SAMPLE_RATE
from auricle.training.corpus import Corpus
from auricle.training.recipe import DataOptions


@dataclasses.dataclass(frozen=True)
class Piece:
    """Samples `start` to `start + num_samples` of an utterance, by its index in the corpus."""

    utterance: int
    start: int
    num_samples: int


@dataclasses.dataclass(frozen=True)
class Position:
    """A place in the data: the epoch and the first batch of it that is yet to come."""

    epoch: int = 0
    batch: int = 0


@dataclasses.dataclass(frozen=True)
class Order:
    """What a batch is made of, and where the data goes on after it."""

    pieces: tuple[Piece, ...]
    following: Position


def draw(seed: int, epoch: int, *what: object) -> int:
    """A uniform number below 2^64 for `what`."""
    text = "\x1f".join(map(str, (seed, epoch, *what)))
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def cut(corpus: Corpus, options: DataOptions, seed: int, epoch: int) -> list[Piece]:
    """The pieces of an epoch, in the order of the corpus.

    An utterance gives as many crops as fit, side by side, behind a random offset; one that is no
    longer than a crop, or every one where there is no crop, stays whole.
    """
    pieces = []
    crop = None if options.crop_seconds is None else round(options.crop_seconds * SAMPLE_RATE)
    for index, utterance in enumerate(corpus.utterances):
        if crop is None or utterance.num_samples <= crop:
            pieces.append(Piece(index, 0, utterance.num_samples))
            continue
        num_crops, spare = divmod(utterance.num_samples, crop)
        offset = draw(seed, epoch, "crop", utterance.key) % (spare + 1)
        pieces += [Piece(index, offset + place * crop, crop) for place in range(num_crops)]
    return pieces


def plan_epoch(
    corpus: Corpus, options: DataOptions, seed: int, epoch: int
) -> list[tuple[Piece, ...]]:
    """The batches of an epoch in their order.

    Pieces are grouped into buckets by length, shuffled within them and dealt out, from the
    shortest bucket to the longest, so that count times longest stays within `batch_seconds`; a
    longer piece goes alone. What is left for the last batch is dropped if it is less than half of
    one: other pieces are left over in the next epoch. Then the batches are shuffled.
    """
    pieces = cut(corpus, options, seed, epoch)

    def place(piece: Piece) -> int:
        return draw(seed, epoch, "piece", corpus.utterances[piece.utterance].key, piece.start)

    edges = _bucket_edges(sorted(piece.num_samples for piece in pieces), options.num_buckets)
    pieces.sort(key=lambda piece: (bisect_left(edges, piece.num_samples), place(piece)))
    capacity = round(options.batch_seconds * SAMPLE_RATE)
    batches: list[tuple[Piece, ...]] = []
    batch: list[Piece] = []
    longest = 0
    for piece in pieces:
        longest = max(longest, piece.num_samples)
        if batch and (len(batch) + 1) * longest > capacity:
            batches.append(tuple(batch))
            batch, longest = [], piece.num_samples
        batch.append(piece)
    if not batches or 2 * sum(piece.num_samples for piece in batch) >= capacity:
        batches.append(tuple(batch))
    order = sorted(range(len(batches)), key=lambda index: draw(seed, epoch, "batch", index))
    return [batches[index] for index in order]


def _bucket_edges(lengths: list[int], num_buckets: int) -> list[int]:
    """Longest length of each bucket but the last; pieces of equal length share a bucket."""
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
    start: Position = Position()
    rank: int = 0
    num_processes: int = 1

    def __iter__(self) -> Iterator[Order]:
        position = self.start
        while True:
            batches = plan_epoch(self.corpus, self.options, self.seed, position.epoch)
            if len(batches) < self.num_processes:
                raise RecipeError(
                    f"an epoch has {len(batches)} batches, but there are {self.num_processes} "
                    "processes: use fewer, lower batch_seconds or train on more audio"
                )
            while position.batch + self.num_processes <= len(batches):
                pieces = batches[position.batch + self.rank]
                position = Position(position.epoch, position.batch + self.num_processes)
                yield Order(pieces, position)
            position = Position(position.epoch + 1, 0)
