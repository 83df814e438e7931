"""Linear layers that infer by packed weights."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from auricle.nn import packed
from auricle.nn.waveform_activations import WAVEFORM_ACTIVATIONS, WaveformActivation


class Linear(nn.Linear):
    """`nn.Linear`, faster where nothing is learnt."""

    is_int8 = False
    """Whether inference multiplies in 8 bits."""

    def forward(self, x: Tensor) -> Tensor:
        """Output (..., N) for `x` (..., K)."""
        if self.is_int8 and packed.is_packable(x, self.weight):
            return packed.product_in_int8(x, self.weight, self.bias)
        return packed.linear(x, self.weight, self.bias)


def activated(linear: nn.Module, x: Tensor, activation: WaveformActivation) -> Tensor:
    """`activation(linear(x))`, in one pass where `linear` is a `Linear` without hooks."""
    is_plain = type(linear) is Linear and not linear.is_int8
    if is_plain and not (linear._forward_hooks or linear._forward_pre_hooks):
        return packed.linear(
            x, cast("Tensor", linear.weight), cast("Tensor", linear.bias), activation
        )
    output: Tensor = WAVEFORM_ACTIVATIONS[activation](linear(x))
    return output
