"""Removal of offset and level from waveforms, each by its own statistics, in padded batches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from auricle.nn.batch import Lengths, as_tensor, padding_mask, zero_padding
from auricle.nn.chunks import chunks


def centred(waveforms: Tensor, lengths: Lengths) -> Tensor:
    """Waveforms (B, S) less the mean of each over its true samples, zeros past each true end."""
    deviations = _Deviations(waveforms, lengths)
    return _joined(deviations.of(part).to(waveforms.dtype) for part in deviations.parts)


def normalized(waveforms: Tensor, lengths: Lengths, *, eps: float) -> Tensor:
    """Waveforms (B, S) of zero mean and unit variance each, zeros past each true end.

    `(x - mean) / sqrt(var + eps)`, the variance biased, over the true samples of each.
    """
    deviations = _Deviations(waveforms, lengths)
    squares = [deviations.of(part).square().sum(1, keepdim=True) for part in deviations.parts]
    scale = (sum(squares[1:], squares[0]) / deviations.counts + eps).rsqrt()
    return _joined((deviations.of(part) * scale).to(waveforms.dtype) for part in deviations.parts)


class _Deviations:
    """Deviations from each waveform's mean, zeros past each true end, float64, part by part.

    In float64 a sum of float32 samples is exact for minutes of audio, so neither padding nor an
    offset leaves a trace, and a constant waveform becomes zeros.
    """

    def __init__(self, waveforms: Tensor, lengths: Lengths) -> None:
        self.waveforms = waveforms
        self.padding = padding_mask(lengths, waveforms.shape[1], waveforms.device)
        self.counts = as_tensor(lengths, waveforms.device).double().unsqueeze(1)
        self.parts = chunks(waveforms.shape[1], len(waveforms) * torch.float64.itemsize, ())
        sums = [self._true(part).sum(1, keepdim=True) for part in self.parts]
        self.means = sum(sums[1:], sums[0]) / self.counts

    def of(self, part: slice) -> Tensor:
        """The deviations of the samples of a part."""
        return self._zero_padding(self._true(part) - self.means, part)

    def _true(self, part: slice) -> Tensor:
        return self._zero_padding(self.waveforms[:, part].double(), part)

    def _zero_padding(self, x: Tensor, part: slice) -> Tensor:
        return zero_padding(x, None if self.padding is None else self.padding[:, part], time_dim=1)


def _joined(parts: Iterable[Tensor]) -> Tensor:
    pieces = list(parts)
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)
