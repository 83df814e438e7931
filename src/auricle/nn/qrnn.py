"""Quasi-recurrent layers: gates by convolution, then a running average (arXiv:1611.01576)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn.linear import Linear
from auricle.nn.stretches import by_stretches

CHUNK_FRAMES = 64
"""Frames that the running average takes one by one; chunks of them go in parallel."""


class QrnnStack(nn.Module):
    """Quasi-recurrent layers that look one frame back, each on the output of the one before.

    They look at the past alone, so padding on the right never reaches a true frame.
    """

    def __init__(self, *, input_dim: int, hidden_dim: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.hidden_dim = hidden_dim
        self.layers = nn.ModuleList(
            Linear(2 * (input_dim if index == 0 else hidden_dim), 3 * hidden_dim)
            for index in range(num_layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, T, hidden_dim) for the input `x` (B, T, input_dim)."""
        for index, layer in enumerate(self.layers):
            if index > 0:
                x = F.dropout(x, self.dropout, self.training)
            x = _layer_output(layer, x, self.hidden_dim)
        return x


def _layer_output(layer: nn.Module, x: Tensor, hidden_dim: int) -> Tensor:
    """One layer's output (B, T, hidden_dim) for `x` (B, T, input_dim), a stretch at a time."""
    before, average = torch.zeros_like(x[:, :1]), None

    def read(stretch: slice) -> Tensor:
        nonlocal before, average
        part = x[:, stretch]
        shifted = torch.cat([before, part[:, :-1]], dim=1)
        candidate, forget, output = layer(torch.cat([part, shifted], dim=2)).chunk(3, dim=2)
        averages = running_average(torch.tanh(candidate), torch.sigmoid(forget), average)
        before, average = part[:, -1:], averages[:, -1]
        return torch.sigmoid(output) * averages

    frame_bytes = max(2 * x.shape[2], 3 * hidden_dim) * x.element_size()
    return by_stretches(read, x.shape[1], x.shape[0] * frame_bytes, (layer,))


def running_average(x: Tensor, weight: Tensor, start: Tensor | None = None) -> Tensor:
    """`c_t = f_t x_t + (1 - f_t) c_{t-1}` with `c` zero before the start (QRNN, equation 4).

    Each chunk of frames is averaged from zero, all chunks at once; what the chunks before it
    leave over is added then. Chunks start at the first frame, so a frame's value depends neither
    on the length of the sequence nor on its neighbours in the batch.

    Args:
        x: Frames (B, T, D).
        weight: `f` (B, T, D), each between 0 and 1.
        start: `c` (B, D) before the first frame; None for zero.

    Returns:
        Averages (B, T, D), in the type of `x`.
    """
    num_rows, num_frames, dim = x.shape
    num_chunks = -(-num_frames // CHUNK_FRAMES)
    rest = (0, 0, 0, num_chunks * CHUNK_FRAMES - num_frames)
    # In half precision the products of many weights would lose their digits.
    weight = weight if weight.dtype == torch.float64 else weight.float()
    chunks = (num_rows, num_chunks, CHUNK_FRAMES, dim)
    inputs = F.pad(weight * x, rest).view(chunks).unbind(2)
    keeps = F.pad(1 - weight, rest).view(chunks).unbind(2)

    averages, decays = [inputs[0]], [keeps[0]]
    for value, keep in zip(inputs[1:], keeps[1:], strict=True):
        averages.append(torch.addcmul(value, keep, averages[-1]))
        decays.append(keep * decays[-1])
    zero = torch.zeros_like(averages[-1][:, 0])
    left_over = [zero if start is None else start.to(zero.dtype)]
    for average, decay in zip(averages[-1].unbind(1), decays[-1].unbind(1), strict=True):
        left_over.append(torch.addcmul(average, decay, left_over[-1]))
    starts = torch.stack(left_over[:-1], dim=1).unsqueeze(2)
    result = torch.addcmul(torch.stack(averages, dim=2), torch.stack(decays, dim=2), starts)
    return result.view(num_rows, num_chunks * CHUNK_FRAMES, dim)[:, :num_frames].to(x.dtype)
