"""Stacks of recurrent layers over padded batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn import gru
from auricle.nn.batch import Lengths
from auricle.nn.cpu.policy import acts, may_bypass, may_overwrite
from auricle.nn.stretches import by_stretches

GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
"""Vectors of the hidden width that each kind of layer computes of its input."""


class GruStack(nn.Module):
    """Unidirectional GRU layers that can be read after each one (APC, arXiv:1904.03240).

    From the second layer on, `residual` adds the layer's input to its output. The layers look
    at the past alone, so padding on the right never reaches a true frame.
    """

    def __init__(
        self, *, input_dim: int, hidden_dim: int, num_layers: int, dropout: float, residual: bool
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.residual = residual
        self.layers = nn.ModuleList(
            gru.Gru(input_dim if index == 0 else hidden_dim, hidden_dim, batch_first=True)
            for index in range(num_layers)
        )

    def forward(self, x: Tensor, lengths: Lengths | None = None) -> Iterable[Tensor]:
        """Each layer's output (B, T, hidden_dim) for `x` (B, T, input_dim), as asked for.

        `lengths` tells the true ones; what lies past them is anything.
        """
        outputs = self._outputs(x, lengths)
        return tuple(outputs) if acts(self) else outputs

    def _outputs(self, x: Tensor, lengths: Lengths | None) -> Iterator[Tensor]:
        for index, layer in enumerate(self.layers):
            output = recur(layer, x, lengths)
            # The last layer's output goes to the prediction head as it is.
            if index + 1 < len(self.layers):
                output = F.dropout(output, self.dropout, self.training)
            if self.residual and index > 0:
                output = output.add_(x) if may_overwrite(layer) else output + x
            x = output
            yield x


def recur(rnn: nn.Module, x: Tensor, lengths: Lengths | None = None) -> Tensor:
    """Output (B, T, hidden) of forward recurrent layers for the input `x` (B, T, D).

    What lies past the true `lengths` may be left out where they are given.
    A long input is read a stretch at a time, each from the state that the one before it left:
    torch makes room for the gates of all that it reads at once.
    """
    if not (isinstance(rnn, nn.RNNBase) and may_bypass(rnn)):
        whole: Tensor = rnn(x)[0]
        return whole
    if not isinstance(lengths, Tensor) and gru.is_fast(rnn, x):
        return gru.run(rnn, x, [x.shape[1]] * len(x) if lengths is None else lengths)
    state = None

    def read(stretch: slice) -> Tensor:
        nonlocal state
        output: Tensor
        output, state = rnn(x[:, stretch], state)
        return output

    widest = max(GATES[rnn.mode] * rnn.hidden_size, rnn.input_size)
    return by_stretches(read, x.shape[1], x.shape[0] * widest * x.element_size(), (rnn,))
