"""Linear layers that infer by packed weights."""

from __future__ import annotations

from torch import Tensor, nn

from auricle.nn import packed
from auricle.nn.fast_paths import may_bypass
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
    """`activation(linear(x))`, in one pass where it is a `Linear` that may be bypassed."""
    if type(linear) is Linear and not linear.is_int8 and may_bypass(linear):
        return packed.linear(x, linear.weight, linear.bias, activation)
    output: Tensor = WAVEFORM_ACTIVATIONS[activation](linear(x))
    return output
