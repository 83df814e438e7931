"""Stages that several families share: each frame by itself, and recurrence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import Tensor, nn


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
