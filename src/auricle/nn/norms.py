"""Norms over utterances, over valid frames of a batch, over waveforms and over channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.errors import AudioError
from auricle.nn.batch import Lengths, as_ints, as_tensor, padding_mask, zero_padding
from auricle.nn.cpu.policy import chunks, is_traced, joins_frames, runs_on_cpu

EPS = 1e-5
"""Added to a variance (torch's default)."""

CPU_BLOCK_ELEMENTS = 2**18
"""Elements that one step of a sum takes on the CPU, so that its copies stay in the cache."""

DEVICE_BLOCK_ELEMENTS = 2**26
"""The same on an accelerator, where memory alone limits it."""


def masked_group_norm(
    x: Tensor,
    lengths: Lengths,
    *,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = EPS,
) -> Tensor:
    """Group norm of each utterance of a padded batch, as it is of the utterance alone.

    Mean and variance of a group run over its channels and the utterance's valid frames. They are
    taken in two passes, the mean in float64: an offset does not swamp the variance, and what is
    constant comes out as 0 exactly, whatever its length.

    Args:
        x: (B, C, T); on padding it may hold any finite values.
        lengths: Valid frames of each row of `x`, at least 1 each.
        num_groups: Groups of neighbouring channels that share statistics: 1 for all of them
            together, C for each channel on its own. It must divide C.
        weight: Scale of each channel (C,); None for 1.
        bias: Shift of each channel (C,); None for 0.
        eps: What is added to the variance.

    Returns:
        (B, C, T) in the type of `x`. Frames on padding hold the bias, up to
        rounding.
    """
    values = x if x.dtype == torch.float64 else x.float()
    count, mean, deviations, squares = _moments(values, lengths, num_groups)
    _, scale, shift = _norm_terms(
        mean, squares / count, x.shape[1], values.dtype, weight, bias, eps
    )
    # Without gradients nothing needs the deviations any more, so the result takes their place.
    is_own = not (torch.is_grad_enabled() or is_traced())
    result = torch.addcmul(shift, deviations, scale, out=deviations if is_own else None)
    return result.to(x.dtype)


class UtteranceGroupNorm(nn.Module):
    """Group norm over channels and time of each utterance, with a scale and a shift per channel."""

    def __init__(self, *, num_groups: int, dim: int, affine: bool = True) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.dim = dim
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None
        self.bias = nn.Parameter(torch.zeros(dim)) if affine else None

    def forward(self, x: Tensor, num_frames: Lengths) -> Tensor:
        """Normalised (B, C, T) of `x` (B, C, T), whose rows have `num_frames` valid frames."""
        return masked_group_norm(
            x, num_frames, num_groups=self.num_groups, weight=self.weight, bias=self.bias
        )


class UtteranceStatistics:
    """Mean and variance of each utterance's groups of channels, gathered a chunk at a time.

    Chunks are merged in float64 by their means and sums of squared deviations (Chan, Golub &
    LeVeque 1979), which keeps what `masked_group_norm` does: no offset swamps a variance, and what
    is constant has a variance of exactly 0.
    """

    def __init__(self, num_utterances: int, num_groups: int, device: torch.device) -> None:
        self.num_groups = num_groups
        zeros = torch.zeros(num_utterances, num_groups, 1, dtype=torch.float64, device=device)
        self.count, self.mean, self.squares = zeros[:, :1].clone(), zeros, zeros.clone()

    def add(self, x: Tensor, lengths: Lengths, rows: Sequence[int]) -> None:
        """Count in a chunk `x` (b, C, T) of utterances `rows`, of which `lengths` are valid."""
        values = x if x.dtype == torch.float64 else x.float()
        added, mean, _, squares = _moments(values, lengths, self.num_groups)
        index = torch.tensor(rows, device=x.device)
        known = self.count[index]
        count = known + added
        share = added / count
        step = mean - self.mean[index]
        self.mean[index] += step * share
        self.squares[index] += squares + step.square() * known * share
        self.count[index] = count

    def terms(self, norm: UtteranceGroupNorm, dtype: torch.dtype) -> NormTerms:
        """Scale and shift of `norm` by these statistics, for values in `dtype`."""
        return NormTerms(
            *_norm_terms(
                self.mean,
                self.squares / self.count,
                norm.dim,
                dtype,
                norm.weight,
                norm.bias,
                EPS,
            )
        )


class NormTerms:
    """A norm whose statistics are known: mean, scale and shift (B, C, 1)."""

    def __init__(self, mean: Tensor, scale: Tensor, shift: Tensor) -> None:
        self.mean, self.scale, self.shift = mean, scale, shift

    def __call__(self, x: Tensor, rows: Sequence[int]) -> Tensor:
        """Normalised (b, C, T), in the type of `x` (b, C, T), a chunk of utterances `rows`."""
        index = torch.tensor(rows, device=x.device)
        deviations = x.to(self.mean.dtype) - self.mean[index]
        return torch.addcmul(self.shift[index], deviations, self.scale[index], out=deviations).to(
            x.dtype
        )


def _moments(
    values: Tensor, lengths: Lengths, num_groups: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Count, mean and deviations of each group's valid values of (B, C, T).

    Returns counts (B, 1, 1) and means (B, G, 1), float64; deviations (B, C, T) from the means as
    rounded to the type of `values`, zeros on padding; sums (B, G, 1) of their squares.
    """
    num_channels, num_frames = values.shape[1:]
    per_channel = num_channels // num_groups
    padding = padding_mask(lengths, num_frames, values.device)
    is_true = None if padding is None else padding.logical_not().unsqueeze(1).to(values.dtype)
    count = as_tensor(lengths, values.device).double().view(-1, 1, 1)
    count = count * per_channel

    # Of an utterance without valid frames here, sums are 0.
    mean = _group_sums(_time_sums(values, is_true), num_groups) / count.clamp(min=1)
    deviations = values - mean.repeat_interleave(per_channel, dim=1).to(values.dtype)
    if is_true is not None:
        deviations.mul_(is_true)
    return count, mean, deviations, _group_sums(_time_sums_of_squares(deviations), num_groups)


def _norm_terms(
    mean: Tensor,
    variance: Tensor,
    num_channels: int,
    dtype: torch.dtype,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rounded mean, scale and shift (B, C, 1) in `dtype`, of statistics (B, G, 1) in float64."""
    per_channel = num_channels // mean.shape[1]
    mean = mean.repeat_interleave(per_channel, dim=1)
    rounded_mean = mean.to(dtype)
    scale = (variance + eps).rsqrt().repeat_interleave(per_channel, dim=1)
    if weight is not None:
        scale = scale * weight.view(-1, 1)
    shift = (rounded_mean - mean) * scale
    if bias is not None:
        shift = shift + bias.view(-1, 1)
    return rounded_mean, scale.to(dtype), shift.to(dtype)


def _time_sums(x: Tensor, is_true: Tensor | None) -> Tensor:
    """Sums (B, C, 1), float64, over the valid frames of `x` (B, C, T)."""
    sums = x.new_zeros(x.shape[0], x.shape[1], 1, dtype=torch.float64)
    # One split, not many slices: each slice would have a gradient of the size of `x`.
    blocks = _blocks(x, _block_frames(x))
    kept = () if is_true is None else _blocks(is_true, _block_frames(x))
    for index, block in enumerate(blocks):
        values = block.double() * kept[index] if kept else block.double()
        sums = sums + values.sum(2, keepdim=True)
    return sums


def _time_sums_of_squares(x: Tensor) -> Tensor:
    """Sums (B, C, 1), float64, over the squares of `x` (B, C, T)."""
    sums = x.new_zeros(x.shape[0], x.shape[1], 1, dtype=torch.float64)
    for block in _blocks(x, _block_frames(x)):
        # Squares are all of one sign, so within a block their own type keeps them well enough.
        sums = sums + block.square().sum(2, keepdim=True)
    return sums


def _blocks(x: Tensor, block_frames: int) -> Sequence[Tensor]:
    """Blocks (B, C, frames) of `x` (B, C, T), the last one shorter; one under a compiler."""
    # A number of blocks that depends on the length would be a graph of its own.
    return (x,) if is_traced() else torch.split(x, block_frames, dim=2)


def _block_frames(x: Tensor) -> int:
    """Frames that one step of a sum over `x` (B, C, T) takes."""
    elements = CPU_BLOCK_ELEMENTS if runs_on_cpu(x) else DEVICE_BLOCK_ELEMENTS
    return max(elements // (x.shape[0] * x.shape[1]), 1)


def _group_sums(channel_sums: Tensor, num_groups: int) -> Tensor:
    """Sums (B, G, 1) over the channels of each group, from sums (B, C, 1) per channel."""
    return channel_sums.reshape(channel_sums.shape[0], num_groups, -1, 1).sum(2)


def check_variance(num_frames: int) -> None:
    """Raise AudioError unless batch norm can be trained by so many valid frames of a batch."""
    if num_frames < 2:
        raise AudioError(
            "the waveforms of this batch give one frame in all, and in train mode batch norm needs "
            "the variance of two at least: train on longer waveforms or on more at once, or call "
            "encoder.eval()"
        )


def over_valid_frames(norm: nn.Module, x: Tensor, num_frames: Lengths) -> Tensor:
    """Output (B, C, T) of a batch norm for `x` (B, C, T) with valid lengths `num_frames`.

    A norm of torch's in the place of the library's own, such as `SyncBatchNorm`, sees in training
    one row (1, C, N) of the valid frames.
    """
    if is_traced():  # the kernel's output is contiguous, but compilers expect the input's layout
        x = x.contiguous()
    if isinstance(norm, BatchNorm) or not isinstance(norm, nn.modules.batchnorm._NormBase):
        normed: Tensor = norm(x, num_frames)
        return normed
    return _over_valid_frames(norm, x, num_frames) if norm.training else norm(x)


def _over_valid_frames(norm: Callable[[Tensor], Tensor], x: Tensor, num_frames: Lengths) -> Tensor:
    """Output of `norm` for the valid frames of all rows together; zeros on padding."""
    length, counts = x.shape[2], as_ints(num_frames)
    if all(count == length for count in counts):
        return norm(x)
    # Slices of rows, not a mask: the gradient of indexing by a mask is slow.
    true = torch.cat([row[:, :count] for row, count in zip(x, counts, strict=True)], dim=1)
    normed = norm(true.unsqueeze(0)).squeeze(0)
    rows = torch.split(normed, counts, dim=1)
    return torch.stack([F.pad(row, (0, length - row.shape[1])) for row in rows])


class BatchNorm(nn.BatchNorm1d):
    """Batch norm over the valid frames of a padded batch.

    In training, mean and variance are those of the valid frames of all utterances together, and so
    are the running statistics that evaluation uses: padding changes neither.
    """

    def forward(self, x: Tensor, num_frames: Lengths) -> Tensor:  # type: ignore[override]
        """Output (B, C, T) for the input `x` (B, C, T) with valid lengths `num_frames`.

        What it holds on padding is finite, nothing more.

        Raises:
            AudioError: In training, the batch has one valid frame alone.
        """
        if not self.training and joins_frames(x):
            return self._by_running_statistics(x)
        if not self.training:
            return super().forward(x)
        check_variance(sum(as_ints(num_frames)))
        return _over_valid_frames(super().forward, x, num_frames)

    def _by_running_statistics(self, x: Tensor) -> Tensor:
        """As in evaluation, in one pass whatever the layout of `x` is."""
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = (self.running_var + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -self.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        return torch.addcmul(shift.unsqueeze(1), x, scale.unsqueeze(1))


def centred(waveforms: Tensor, lengths: Lengths) -> Tensor:
    """Waveforms (B, S) less the mean of each over its valid samples, zeros on padding."""
    deviations = _Deviations(waveforms, lengths)
    return _concatenated(deviations.of(part).to(waveforms.dtype) for part in deviations.parts)


def normalized(waveforms: Tensor, lengths: Lengths, *, eps: float) -> Tensor:
    """Waveforms (B, S) of zero mean and unit variance each, zeros on padding.

    `(x - mean) / sqrt(var + eps)`, the variance biased, over the valid samples of each.
    """
    deviations = _Deviations(waveforms, lengths)
    squares = [deviations.of(part).square().sum(1, keepdim=True) for part in deviations.parts]
    scale = (sum(squares[1:], squares[0]) / deviations.counts + eps).rsqrt()
    return _concatenated(
        (deviations.of(part) * scale).to(waveforms.dtype) for part in deviations.parts
    )


class _Deviations:
    """Deviations from each waveform's mean, zeros on padding, float64, part by part.

    In float64 a sum of float32 samples is exact for minutes of audio, so neither padding nor an
    offset leaves a trace, and a constant waveform becomes zeros.
    """

    def __init__(self, waveforms: Tensor, lengths: Lengths) -> None:
        self.waveforms = waveforms
        self.padding = padding_mask(lengths, waveforms.shape[1], waveforms.device)
        self.counts = as_tensor(lengths, waveforms.device).double().unsqueeze(1)
        self.parts = chunks(waveforms.shape[1], waveforms.shape[0] * torch.float64.itemsize, ())
        sums = [self._true(part).sum(1, keepdim=True) for part in self.parts]
        self.means = sum(sums[1:], sums[0]) / self.counts

    def of(self, part: slice) -> Tensor:
        """The deviations of the samples of a part."""
        return self._zero_padding(self._true(part) - self.means, part)

    def _true(self, part: slice) -> Tensor:
        return self._zero_padding(self.waveforms[:, part].double(), part)

    def _zero_padding(self, x: Tensor, part: slice) -> Tensor:
        return zero_padding(x, None if self.padding is None else self.padding[:, part], time_dim=1)


def _concatenated(parts: Iterable[Tensor]) -> Tensor:
    pieces = list(parts)
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)


CHANNEL_EPS = 1e-5
"""Added to the variance (the reference implementation)."""


class ChannelNorm(nn.Module):
    """Norm over the channels of each frame, with unbiased variance, then scale and shift."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, num_channels, 1))
        self.bias = nn.Parameter(torch.zeros(1, num_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, C, T), in the type of `x`, for the input `x` (B, C, T)."""
        values = x if x.dtype == torch.float64 else x.float()
        num_channels = x.shape[1]
        # Layer norm divides by the biased variance; this makes up for it, epsilon included.
        share = (num_channels - 1) / num_channels
        normed = F.layer_norm(
            values.transpose(1, 2),
            (num_channels,),
            self.weight.flatten().to(values.dtype) * math.sqrt(share),
            self.bias.flatten().to(values.dtype),
            CHANNEL_EPS * share,
        )
        return normed.transpose(1, 2).to(x.dtype)
