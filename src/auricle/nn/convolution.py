"""Convolutions over time, as products with packed weights where nothing is learnt."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn.cpu import prepack
from auricle.nn.cpu.policy import is_traced, runs_on_cpu
from auricle.nn.waveform_activations import WaveformActivation

LONE_KERNEL_ELEMENTS = 20_480
"""Up to this size torch gives a single row on the CPU to another kernel than a batch."""


class Conv1d(prepack.Prepacking, nn.Conv1d):
    """`nn.Conv1d`, faster in inference on the CPU.

    It is computed in the type of its input, whatever that of the weights is.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, N, T') for `x` (B, C, T).

        For inference on the CPU it is a product over windows of frames, whose output lies frame
        after frame in memory, as the next such convolution reads it.
        """
        if not (self._is_product() and prepack.is_packable(x, self.weight)):
            return self._by_torch(x)
        padding, stride = cast("int", self.padding[0]), self.stride[0]
        rows = [
            self.convolve_frames(
                F.pad(frames, (0, 0, padding, padding)) if padding else frames, stride=stride
            )
            for frames in x.transpose(1, 2)
        ]
        return (rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows)).transpose(1, 2)

    def convolve_frames(
        self, frames: Tensor, *, stride: int = 1, activation: WaveformActivation | None = None
    ) -> Tensor:
        """Convolution (T', N) of frames (T, C), without padding, by a product with windows."""
        windows = frame_windows(frames, self.weight.shape[2], stride)
        return prepack.linear(self, windows, self.weight, self.bias, activation, layout=as_windows)

    def _is_product(self) -> bool:
        """Whether each output is a product with neighbouring frames, or zeros past the ends."""
        has_zeros = self.padding_mode == "zeros" and not isinstance(self.padding, str)
        return has_zeros and self.groups == 1 and self.dilation == (1,)

    def _by_torch(self, x: Tensor) -> Tensor:
        """As `forward` by torch's kernels, where B of 1 goes through the kernel of a batch.

        The two kernels add up in different orders. Where a filter cancels a loud tone, or a gate
        takes large values, what they differ by is no longer small beside the output.
        """
        is_lone = (
            not is_traced()
            and x.shape[0] == 1
            and runs_on_cpu(x)
            and x.numel() <= LONE_KERNEL_ELEMENTS
        )
        rows = x.expand(2, -1, -1) if is_lone else x
        bias = None if self.bias is None else self.bias.to(x.dtype)
        output: Tensor = self._conv_forward(rows, self.weight.to(x.dtype), bias)
        return output[:1] if is_lone else output


def frame_windows(frames: Tensor, size: int, stride: int) -> Tensor:
    """What a convolution of `size` taps sees, (T', size * C) of frames (T, C), without a copy."""
    num_frames, width = frames.shape
    frames = frames.contiguous()
    num_windows = (num_frames - size) // stride + 1
    return frames.as_strided(
        (num_windows, size * width), (stride * width, 1), frames.storage_offset()
    )


def as_windows(weight: Tensor) -> Tensor:
    """A convolution's weight (N, C, K) as the matrix (N, K * C) that windows are multiplied by."""
    return weight.transpose(1, 2).flatten(1)
