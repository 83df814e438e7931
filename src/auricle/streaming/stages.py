"""Steps of an encoder over a stream, and the stages that run them.

A step describes a part of an encoder; its stage is that part running: it keeps the state between
two pushes and turns new frames into new frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.outputs import Window
from auricle.streaming.norms import NormFunction, StreamNorm

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
    """A function of each frame by itself, which remembers nothing."""

    function: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor, *, is_last: bool) -> Tensor:
        """New frames (1, D', T) out of new ones `x` (1, D, T)."""
        return self.function(x)


class Recurrent:
    """Recurrent layers that go on where they were."""

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
    """The inputs that the windows of a stream cover, as soon as whole windows are there.

    Inputs that later windows need as well are kept, never more than a window of them.
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
        """What new windows cover, for new inputs `x` (1, D, T): (1, D, S), S of 0 for none.

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
        """What stands before the first input of `x` (1, D, T)."""
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
