"""Linear layers that infer by packed weights."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn.cpu import prepack
from auricle.nn.cpu.policy import may_bypass
from auricle.nn.layers import WAVEFORM_ACTIVATIONS, FfnActivation


class Linear(prepack.Prepacking, nn.Linear):
    """`nn.Linear`, faster in inference on the CPU."""

    is_int8 = False
    """True if inference multiplies in 8 bits."""

    def forward(self, x: Tensor) -> Tensor:
        """Output (..., N) for `x` (..., K)."""
        if self.is_int8 and prepack.is_packable(x, self.weight):
            return prepack.int8_linear(self, x, self.weight, self.bias)
        return prepack.linear(self, x, self.weight, self.bias)


def activated(linear: nn.Module, x: Tensor, activation: FfnActivation) -> Tensor:
    """`activation(linear(x))`, in one pass where it is a `Linear` that may be bypassed."""
    if activation == "swiglu":
        values, gates = linear(x).chunk(2, dim=-1)
        product: Tensor = values * F.silu(gates)
        return product
    if type(linear) is Linear and not linear.is_int8 and may_bypass(linear):
        return prepack.linear(linear, x, linear.weight, linear.bias, activation)
    output: Tensor = WAVEFORM_ACTIVATIONS[activation](linear(x))
    return output


def columns_of(linear: nn.Module, x: Tensor, columns: slice) -> Tensor:
    """Some columns of the output of `linear` for `x`."""
    if type(linear) is Linear:
        bias = None if linear.bias is None else linear.bias[columns]
        return F.linear(x, linear.weight[columns], bias)
    # Whatever stands in its place, an adapter for one, need not be its weights alone.
    output: Tensor = linear(x)
    return output[..., columns]
