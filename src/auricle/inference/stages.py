"""Steps of an encoder over a stream, the stages that run them, and norms by running moments.

A stream does not know the moments of the utterance that is still to come. Either each frame is
normalised by the moments of all frames up to itself, or every frame by the same ones, measured
before.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.frontends import FbankConfig
from auricle.info import Window
from auricle.nn.conv_features import AggregatorLayer, ExtractorLayer
from auricle.nn.norms import UtteranceGroupNorm

NormFunction = Callable[[Tensor], Tensor]
"""Takes new frames (1, D, T) to normalised ones."""


@dataclasses.dataclass(frozen=True)
class Moments:
    """Means and variances, float64, each (G, T): of G groups, for each frame or (T of 1) for all.

    A variance is 0 exactly where all values are the same.
    """

    mean: Tensor
    variance: Tensor


class StreamNorm(Protocol):
    """A norm over the utterance: the moments it needs, and the frames it gives by them.

    Attributes:
        num_groups: G, groups of neighbouring channels that share moments.
        is_unbiased: Whether the variance is that of the sample less one.
        refuses_running: Reason why running moments do not serve the norm; None where they do.
    """

    @property
    def num_groups(self) -> int: ...

    @property
    def is_unbiased(self) -> bool: ...

    @property
    def refuses_running(self) -> str | None: ...

    def normalised(self, x: Tensor, moments: Moments) -> Tensor:
        """Frames (1, D, T) of `x` (1, D, T), in its type."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamGroupNorm:
    """Group norm over channels and time, in a stream; `auricle.nn.norms` has that of utterances."""

    num_groups: int
    weight: Tensor | None = None
    bias: Tensor | None = None
    eps: float = 1e-5
    refuses_running: str | None = None

    @classmethod
    def of(cls, norm: UtteranceGroupNorm, *, refuses_running: str | None = None) -> StreamGroupNorm:
        """The stream's form of a norm of whole utterances."""
        return cls(
            num_groups=norm.num_groups,
            weight=norm.weight,
            bias=norm.bias,
            refuses_running=refuses_running,
        )

    @property
    def is_unbiased(self) -> bool:
        return False

    def normalised(self, x: Tensor, moments: Moments) -> Tensor:
        """Frames (1, D, T) of `x` (1, D, T), in its type."""
        scale = (moments.variance + self.eps).rsqrt().unsqueeze(1)
        normed = (_grouped(x, self.num_groups) - moments.mean.unsqueeze(1)) * scale
        normed = normed.view(x.shape)
        if self.weight is not None:
            normed = normed * self.weight.view(-1, 1)
        if self.bias is not None:
            normed = normed + self.bias.view(-1, 1)
        return normed.to(x.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamCmvn:
    """Running mean and variance normalisation of each dimension (CMVN).

    A dimension that has been constant is 0.
    """

    dim: int
    epsilon: float
    is_unbiased = True
    refuses_running = None

    @property
    def num_groups(self) -> int:
        return self.dim

    def normalised(self, x: Tensor, moments: Moments) -> Tensor:
        """Frames (1, D, T) of `x` (1, D, T), in its type."""
        normed = (x.double() - moments.mean) / (moments.variance.sqrt() + self.epsilon)
        return normed.masked_fill(moments.variance == 0, 0.0).to(x.dtype)


class RunningMoments:
    """Moments over all frames up to and including each frame.

    Sums are float64, of deviations from the mean of the first frame, so that neither an offset nor
    the length of the stream costs the variance digits.
    """

    def __init__(self, norm: StreamNorm) -> None:
        self._num_groups = norm.num_groups
        self._is_unbiased = norm.is_unbiased
        self._num_frames = 0
        self._origin: Tensor | None = None
        self._sums: Tensor | None = None

    def push(self, x: Tensor) -> Moments:
        """Moments (G, T) for each of the new frames `x` (1, D, T), T of 1 or more."""
        groups = _grouped(x, self._num_groups)
        if self._origin is None or self._sums is None:
            self._origin = groups[:, :, :1].mean(1, keepdim=True)  # (G, 1, 1)
            self._sums = groups.new_zeros(2, self._num_groups, 1)
        deviations = groups - self._origin
        sums = torch.stack([deviations.sum(1), deviations.square().sum(1)])  # (2, G, T)
        # The running sum is the first term, so that rounding does not depend on the pushes.
        sums = torch.cat([self._sums, sums], dim=2).cumsum(2)[:, :, 1:]
        self._sums = sums[:, :, -1:].clone()
        counts = torch.arange(1, x.shape[2] + 1, dtype=torch.float64, device=x.device)
        counts = (counts + self._num_frames) * groups.shape[1]
        self._num_frames += x.shape[2]
        first, second = sums
        divisors = (counts - 1).clamp(min=1) if self._is_unbiased else counts
        variance = ((second - first * first / counts) / divisors).clamp(min=0)
        return Moments(mean=self._origin[:, :, 0] + first / counts, variance=variance)


def running(norm: StreamNorm) -> NormFunction:
    """The norm by the moments of all frames up to each frame."""
    moments = RunningMoments(norm)
    return lambda x: norm.normalised(x, moments.push(x)) if x.shape[2] else x


def _grouped(x: Tensor, num_groups: int) -> Tensor:
    """`x` (1, D, T) as (G, D / G, T), float64."""
    return x.double().reshape(num_groups, x.shape[1] // num_groups, x.shape[2])


CODES = "codes"
"""Name of the step that gives codes."""

BLOCK_ROWS = 4
"""Rows of a matrix that are multiplied in one way, whatever their number; fewer in another."""


class Stage(Protocol):
    """A running step: its state and its update function."""

    def __call__(self, x: Tensor, *, is_last: bool) -> Tensor:
        """New frames (1, D', T') out of new ones `x` (1, D, T); T and T' may be 0.

        `is_last` is said once, at the end of the stream. Before it nothing comes of nothing: where
        T is 0 a stage may be passed over.
        """


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of an encoder over a stream.

    Attributes:
        name: The layer that it gives, `CODES`, or any other name that no step has.
        build: Makes a stage, at the start of a stream; the function that it is given normalises,
            and changes nothing where there is no norm.
        norm: The norm over the utterance in it; None where there is none.
    """

    name: str
    build: Callable[[NormFunction], Stage]
    norm: StreamNorm | None = None


@dataclasses.dataclass(frozen=True)
class PerFrame:
    """A function of each frame by itself, without state."""

    function: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor, *, is_last: bool) -> Tensor:
        """New frames (1, D', T) out of new ones `x` (1, D, T)."""
        return self.function(x)


class Recurrent:
    """Recurrent layers that carry their state from push to push."""

    def __init__(self, rnn: nn.RNNBase, *, residual: bool = False) -> None:
        """`rnn` looks at the past alone; with `residual` it adds its input to its output."""
        self._rnn = rnn
        self._residual = residual
        self._state: object = None

    def __call__(self, x: Tensor, *, is_last: bool) -> Tensor:
        """New frames (1, D', T) out of new ones `x` (1, D, T)."""
        if x.shape[2] == 0:
            return x.new_zeros(1, self._rnn.hidden_size, 0)
        frames: Tensor
        frames, self._state = self._rnn(x.transpose(1, 2), self._state)
        output = frames.transpose(1, 2)
        return x + output if self._residual else output


class StreamWindows:
    """Buffer of a stream that gives the inputs of windows as soon as whole windows are there.

    Inputs that later windows need as well are kept: less than one window.
    """

    def __init__(
        self, window: Window, *, padding: Literal["zeros", "first"] = "zeros", min_inputs: int = 1
    ) -> None:
        """Windows with the paddings of `window` at both ends of the stream.

        Args:
            window: Size, stride and paddings.
            padding: Whether zeros or copies of the first input stand before it.
            min_inputs: Inputs to wait for before the first window comes out, or the end.
        """
        self._window = window
        self._padding = padding
        self._min_inputs = min_inputs
        self._kept: Tensor | None = None
        self._num_inputs = 0
        self._num_to_skip = 0

    def __call__(self, x: Tensor, *, is_last: bool) -> Tensor:
        """Inputs (1, D, S) that new windows cover, for new inputs `x` (1, D, T); S is 0 for none.

        The first of the windows begins at the first input given and the last ends at the last.
        """
        window = self._window
        self._num_inputs += x.shape[2]
        if self._num_inputs == 0:  # padding alone makes no frames
            return x
        inputs = torch.cat([self._kept if self._kept is not None else self._before(x), x], dim=2)
        if is_last:
            inputs = F.pad(inputs, (0, window.pad_right))
        skipped = min(self._num_to_skip, inputs.shape[2])
        self._num_to_skip -= skipped
        inputs = inputs[:, :, skipped:]
        num_windows = max((inputs.shape[2] - window.size) // window.stride + 1, 0)
        if self._num_inputs < self._min_inputs and not is_last:
            num_windows = 0
        step = num_windows * window.stride
        self._num_to_skip += max(step - inputs.shape[2], 0)
        # A copy: a view would keep all of what has been pushed, which may be the caller's own.
        self._kept = inputs[:, :, step:].clone()
        span = step - window.stride + window.size if num_windows else 0
        return inputs[:, :, :span]

    def _before(self, x: Tensor) -> Tensor:
        """Padding before the first input of `x` (1, D, T)."""
        past = x[:, :, :1].expand(-1, -1, self._window.pad_left)
        return torch.zeros_like(past) if self._padding == "zeros" else past


def convolved(conv: nn.Conv1d, inputs: Tensor) -> Tensor:
    """`conv`, without its padding, over the inputs (1, D, S) that whole windows cover: (1, D', T).

    A product of matrices: a convolution of few frames takes several times as long, and which of
    its kernels adds up a frame would depend on how samples arrive. `conv` has one group.
    """
    if inputs.shape[2] == 0:
        return inputs.new_zeros(1, conv.out_channels, 0)
    windows = inputs[0].unfold(1, conv.kernel_size[0], conv.stride[0])  # (D, T, size)
    rows = windows.transpose(0, 1).flatten(1)
    num_frames = len(rows)
    rows = F.pad(rows, (0, 0, 0, -num_frames % BLOCK_ROWS))
    bias = None if conv.bias is None else conv.bias.to(inputs.dtype)
    frames = F.linear(rows, conv.weight.flatten(1).to(inputs.dtype), bias)
    return frames[:num_frames].T.unsqueeze(0)


class ExtractorStage:
    """Convolution, norm, activation, and a residual if asked."""

    def __init__(self, layer: ExtractorLayer, is_compressed: bool, norm: NormFunction) -> None:
        """With `is_compressed` the output is `log(|x| + 1)`."""
        size, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
        self._layer = layer
        self._is_compressed = is_compressed
        self._norm = norm
        self._is_first = True
        # With fewer inputs the ratio of inputs to frames, and the residual, vary with their count.
        min_inputs = 2 * size - 1 if layer.residual_scale is not None else 1
        self._windows = StreamWindows(Window(size=size, stride=stride), min_inputs=min_inputs)

    def __call__(self, x: Tensor, *, is_last: bool) -> Tensor:
        """New frames (1, C, T) out of new ones `x` (1, D, S)."""
        layer = self._layer
        inputs = self._windows(x, is_last=is_last)
        y = layer.activation(self._norm(convolved(layer.conv, inputs)))
        num_frames = y.shape[2]
        if layer.residual_scale is not None and num_frames > 0:
            step = inputs.shape[2] // num_frames if self._is_first else 1
            y = (y + inputs[:, :, ::step][:, :, :num_frames]) * math.sqrt(layer.residual_scale)
            self._is_first = False
        return torch.log1p(y.abs()) if self._is_compressed else y


class AggregatorStage:
    """Causal convolution, norm, activation, and a residual if asked."""

    def __init__(self, layer: AggregatorLayer, norm: NormFunction) -> None:
        size, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
        self._layer = layer
        self._num_past = size - 1
        self._norm = norm
        self._windows = StreamWindows(
            Window(size=size, stride=stride, pad_left=size - 1),
            padding="zeros" if layer.zero_padding else "first",
        )

    def __call__(self, x: Tensor, *, is_last: bool) -> Tensor:
        """New frames (1, C, T) out of new ones `x` (1, D, S)."""
        layer = self._layer
        inputs = self._windows(x, is_last=is_last)
        y = layer.activation(self._norm(convolved(layer.conv, inputs)))
        if layer.residual_scale is not None:
            # Strides are 1 here, so each frame has an input of its own.
            own = inputs[:, :, self._num_past :]
            if isinstance(layer.residual, nn.Conv1d):
                own = convolved(layer.residual, own)
            y = (y + own) * math.sqrt(layer.residual_scale)
        return y


BLOCK_FRAMES = 16
"""Frames that are transformed at once, always as many.

A product of matrices rounds by the count of their rows, which would be that of the frames in a
push; and mean and variance normalisation divides by what is left of a band that stands still.
"""


class FbankStage:
    """Filterbank frames (Kaldi's) of a stream, with or without a norm."""

    def __init__(self, features: FbankConfig, dtype: torch.dtype, norm: NormFunction) -> None:
        self._config = msgspec.structs.replace(features, cmvn=False)
        self._windows = StreamWindows(features.geometry.windows[0])
        self._norm = norm
        self._dtype = dtype

    def __call__(self, x: Tensor, *, is_last: bool) -> Tensor:
        """New frames (1, D, T) out of new samples `x` (1, 1, S)."""
        samples = self._windows(x, is_last=is_last)[0]
        config = self._config
        num_frames = config.num_frames(samples.shape[1])
        frames = samples.new_zeros(1, num_frames, config.dim)
        hop = config.hop_samples
        num_block_samples = (BLOCK_FRAMES - 1) * hop + config.frame_samples
        for start in range(0, num_frames, BLOCK_FRAMES):
            block = samples[:, start * hop :][:, :num_block_samples]
            block = F.pad(block, (0, num_block_samples - block.shape[1]))
            target = frames[:, start : start + BLOCK_FRAMES]
            target.copy_(config.features(block, [num_block_samples])[:, : target.shape[1]])
        return self._norm(frames.transpose(1, 2)).to(self._dtype)


def feature_step(features: FbankConfig, dtype: torch.dtype) -> Step:
    """The front end of an encoder as a step called `features`; frames come out as `dtype`."""
    norm = StreamCmvn(dim=features.dim, epsilon=features.cmvn_epsilon) if features.cmvn else None
    return Step("features", lambda function: FbankStage(features, dtype, function), norm)
