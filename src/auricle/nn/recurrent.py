"""Stacks of recurrent layers over padded batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn


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
            nn.GRU(input_dim if index == 0 else hidden_dim, hidden_dim, batch_first=True)
            for index in range(num_layers)
        )

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        """Yield each layer's output (B, T, hidden_dim) for the input `x` (B, T, input_dim)."""
        for index, layer in enumerate(self.layers):
            output, _ = layer(x)
            # The last layer's output goes to the prediction head as it is.
            if index + 1 < len(self.layers):
                output = F.dropout(output, self.dropout, self.training)
            x = x + output if self.residual and index > 0 else output
            yield x
