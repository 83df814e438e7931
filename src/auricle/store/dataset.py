"""Data set of a store for training: examples, padded batches of similar length; means, times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler, default_collate

from auricle.errors import LayerError, StoreError
from auricle.store.layout import StoreMeta

IGNORED_LABEL = -100
"""Padding of labels of frames, which `torch.nn.functional.cross_entropy` ignores by default."""

LENGTH_JITTER = 0.1
"""Share by which lengths are varied before they are sorted, so that batches differ by epoch."""


class Readable(Protocol):
    """The part of a store that a data set reads."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of what is kept of every utterance."""

    def id_at(self, index: int) -> str:
        """The id at `index` in sorted order."""

    def at(self, index: int, *, layer: str | None = None) -> Tensor | dict[str, Tensor]:
        """The arrays, or one layer, of the id at `index` in sorted order."""

    def num_frames(self, utterance_id: str, *, layer: str | None = None) -> int:
        """Rows of an array, without reading it."""


class StoreDataset(Dataset[tuple[Any, ...]]):
    """Examples of a store; `Store.dataset` makes it.

    An example is `(id, frames)`, or `(id, frames, label)` where labels are given; frames are (T, D)
    or a dict of such by layer. It can be pickled, so that processes of a `DataLoader` read it.
    """

    def __init__(
        self,
        store: Readable,
        places: Sequence[int],
        layer: str | None,
        labels: Mapping[str, Any] | None,
    ) -> None:
        self._store = store
        self._places = places
        self._layer = layer
        self._labels = labels
        if labels is not None:
            missing = [one for one in map(store.id_at, places) if one not in labels]
            if missing:
                raise StoreError(
                    f"{len(missing)} of {len(places)} utterances have no label, such as "
                    f"{missing[0]!r}; pass ids= with those that have one, or label them"
                )

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        place = self._places[index]
        name, frames = self._store.id_at(place), self._store.at(place, layer=self._layer)
        return (name, frames) if self._labels is None else (name, frames, self._labels[name])

    @property
    def lengths(self) -> list[int]:
        """Rows of each example, without reading it; of several layers those of the longest."""
        layers = self._store.layers if self._layer is None else (self._layer,)
        return [
            max(self._store.num_frames(self._store.id_at(place), layer=name) for name in layers)
            for place in self._places
        ]

    def batches(
        self,
        max_frames: int,
        *,
        batch_size: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> LengthBatches:
        """Batches of examples of similar length, for `DataLoader(batch_sampler=...)`.

        Args:
            max_frames: Rows of a batch, padding included; what is longer is a batch of its own.
            batch_size: Most examples of a batch; None for as many as fit.
            shuffle: Whether batches, and their order, differ from epoch to epoch.
            seed: Decides the batches; an epoch's are those of `seed` plus its number.

        Raises:
            StoreError: A size is not positive.
        """
        return LengthBatches(
            self.lengths, max_frames, batch_size=batch_size, shuffle=shuffle, seed=seed
        )

    @staticmethod
    def collate(examples: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
        """Pad examples into one batch; the `collate_fn` of a `DataLoader`.

        Args:
            examples: Of a data set of a store, one or more.

        Returns:
            `"ids"`, a list of B; `"frames"` (B, T, D), zeros after their ends, and `"lengths"`
            (B,), int64, both dicts by layer where frames are. `"labels"`, where examples have
            them: numbers and strings as `torch.utils.data.default_collate` joins them; tensors
            padded to the longest, integers by -100.

        Raises:
            StoreError: There are none.
        """
        if not examples:
            raise StoreError("there are no examples to collate: pass one or more")
        ids, frames, *rest = zip(*examples, strict=True)
        if isinstance(frames[0], Mapping):
            padded = {name: _padded([one[name] for one in frames]) for name in frames[0]}
            batch = {
                "ids": list(ids),
                "frames": {name: x for name, (x, _) in padded.items()},
                "lengths": {name: lengths for name, (_, lengths) in padded.items()},
            }
        else:
            x, lengths = _padded(frames)
            batch = {"ids": list(ids), "frames": x, "lengths": lengths}
        return {**batch, "labels": _joined(rest[0])} if rest else batch


class LengthBatches(Sampler[list[int]]):
    """Batches of indices of similar length, the same for a seed and an epoch; nothing is dropped.

    Each iteration is an epoch; `set_epoch` says which is next, as where training resumes.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        max_frames: int,
        *,
        batch_size: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        for name, value in (("max_frames", max_frames), ("batch_size", batch_size or 1)):
            if value < 1:
                raise StoreError(f"{name} must be positive, but is {value}")
        self._lengths = torch.tensor(lengths, dtype=torch.int64)
        self._max_frames = max_frames
        self._batch_size = batch_size or math.inf
        self._shuffle = shuffle
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch, counted from 0, the next iteration is."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Batches of the next epoch."""
        return len(self._planned())

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._planned()
        self._epoch += 1
        return iter(batches)

    def _planned(self) -> list[list[int]]:
        """Batches of the epoch, in order: cut from the indices sorted by jittered length."""
        if not self._shuffle:
            return self._cut(self._lengths.sort(stable=True).indices.tolist())
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        jitter = 1 + LENGTH_JITTER * torch.rand(len(self._lengths), generator=generator)
        batches = self._cut((self._lengths * jitter).argsort(stable=True).tolist())
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def _cut(self, order: Sequence[int]) -> list[list[int]]:
        lengths = self._lengths.tolist()
        batches: list[list[int]] = []
        longest = 0
        for index in order:
            longest = max(longest, lengths[index])
            size = len(batches[-1]) + 1 if batches else math.inf
            if size > self._batch_size or size * longest > self._max_frames:
                batches.append([])
                longest = lengths[index]
            batches[-1].append(index)
        return batches


def mean_rows(arrays: Iterable[Tensor], shape: tuple[int, int], dtype: str) -> Tensor:
    """Means (N, D), float32, over the rows of arrays (T, D), one after the other.

    Raises:
        StoreError: They are integers.
    """
    if dtype.startswith("int"):
        raise StoreError(
            f"the store keeps {dtype}, units or codes, which have no mean; read them by id"
        )
    matrix = torch.empty(shape)
    for row, x in zip(matrix, arrays, strict=True):
        torch.mean(x, dim=0, dtype=torch.float32, out=row)
    return matrix


def frame_spans(meta: StoreMeta, layer: int, num_frames: int, seconds: float) -> Tensor:
    """Start and end (T, 2) of frames in seconds, float64, clipped to the utterance.

    Raises:
        LayerError: Rows are not frames.
        StoreError: An earlier version began the store, which recorded no windows.
    """
    one = meta.layers[layer]
    if one.hop_samples is None:
        raise LayerError(
            f"rows of {one.name} are pooled utterances or runs of units, which have no times; "
            "extract without pool= (--pool) and deduplicate= (--deduplicate)"
        )
    if one.window_samples is None or one.start_samples is None:
        raise StoreError(
            f"this store was begun by auricle {meta.library_version}, which recorded no windows; "
            "call frame_times of its encoder"
        )
    frames = torch.arange(num_frames, dtype=torch.float64)
    starts = one.start_samples + frames * one.hop_samples
    spans = torch.stack([starts, starts + one.window_samples], dim=1)
    last = None if math.isnan(seconds) else round(seconds * meta.sample_rate)
    return spans.clamp(min=0, max=last) / meta.sample_rate


def _padded(arrays: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Arrays (B, T, D), zeros after their ends, and their lengths (B,)."""
    lengths = torch.tensor([len(x) for x in arrays])
    return pad_sequence(list(arrays), batch_first=True), lengths


def _joined(labels: Sequence[Any]) -> Any:
    if not all(isinstance(one, Tensor) and one.ndim for one in labels):
        return default_collate(list(labels))
    padding = 0.0 if labels[0].is_floating_point() else IGNORED_LABEL
    return pad_sequence(list(labels), batch_first=True, padding_value=padding)
