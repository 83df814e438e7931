"""From a plan of batches to padded waveforms, decoded ahead by worker processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from auricle.nn.padding import pad_waveforms
from auricle.training.batches import BatchStream, Order, Piece, Position
from auricle.training.corpus import Corpus

PREFETCHED_BATCHES = 4
"""Batches that each worker keeps ready."""


class Batch(NamedTuple):
    """Waveforms (B, S) with zeros past their true ends, and where the data goes on."""

    waveforms: Tensor
    num_samples: list[int]
    following: Position


class PieceReader(Dataset[Batch]):
    """Decodes what a batch is made of.

    `decoded` holds each utterance's waveform where all have been decoded beforehand; without it
    each piece is read from its file.
    """

    def __init__(self, corpus: Corpus, decoded: Sequence[Tensor] | None = None) -> None:
        self.utterances = corpus.utterances
        self.decoded = decoded

    def __getitem__(self, order: Order) -> Batch:
        waveforms = [self._read(piece) for piece in order.pieces]
        num_samples = [len(waveform) for waveform in waveforms]
        return Batch(pad_waveforms(waveforms), num_samples, order.following)

    def _read(self, piece: Piece) -> Tensor:
        utterance = self.utterances[piece.utterance]
        if self.decoded is not None:
            return self.decoded[piece.utterance][piece.start : piece.start + piece.num_samples]
        return utterance.read(piece.start, piece.num_samples)


def load_batches(
    stream: BatchStream,
    *,
    num_workers: int,
    decoded: Sequence[Tensor] | None,
    pin_memory: bool,
) -> Iterator[Batch]:
    """The batches of a stream, in its order, whatever the number of workers; 0 decodes in place.

    `pin_memory` puts them where a GPU fetches them faster.

    Raises:
        AudioError: A file cannot be decoded.
    """
    loader = DataLoader(
        PieceReader(stream.corpus, decoded),
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
