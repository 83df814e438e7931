"""GRU layers over sorted batches, as products with packed weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard, cast

import torch
from torch import Tensor, nn

from auricle.nn.cpu import prepack
from auricle.nn.cpu.policy import may_bypass
from auricle.nn.stretches import by_stretches


class Gru(prepack.Prepacking, nn.GRU):
    """`nn.GRU`, faster in inference of batches on the CPU."""


def is_fast(rnn: nn.Module, x: Tensor) -> TypeGuard[Gru]:
    """Whether `run` is for this layer and input: one plain layer that infers a batch on the CPU."""
    if not (type(rnn) is Gru and may_bypass(rnn)):
        return False
    is_plain = rnn.num_layers == 1 and not rnn.bidirectional and rnn.bias
    return is_plain and len(x) > 1 and prepack.is_packable(x, cast("Tensor", rnn.weight_hh_l0))


def run(gru: Gru, x: Tensor, lengths: Sequence[int]) -> Tensor:
    """Output (B, T, H) of a GRU for `x` (B, T, D) (Cho et al. 2014, as torch writes it).

    Args:
        gru: A layer that `is_fast` takes.
        x: The input.
        lengths: True frames of each row. A row that has none left is left out of the steps where
            those behind it have none either, so rows that are sorted, longest first, cost nothing
            past their ends. What comes out there is anything.
    """
    width = gru.hidden_size
    state = x.new_zeros(len(x), width)
    of_input, of_state, input_bias, state_bias = cast("list[Tensor]", gru.all_weights[0])
    weight = prepack.packed_weight(gru, of_state, name="state")
    # How many rows from the first on hold all that have a frame at a step.
    reach = [0] * x.shape[1]
    for row, length in enumerate(lengths):
        reach[:length] = [row + 1] * length

    def read(stretch: slice) -> Tensor:
        nonlocal state
        inputs = x[:, stretch].transpose(0, 1)
        gates = prepack.linear(gru, inputs.flatten(0, 1), of_input, input_bias, name="input")
        gates = gates.view(*inputs.shape[:2], 3 * width)
        output = x.new_zeros(*inputs.shape[:2], width)
        for step, count in enumerate(reach[stretch]):
            recurrent = prepack.packed_linear(state[:count], weight, state_bias)
            state = _step(gates[step, :count], recurrent, state[:count], output[step, :count])
        return output.transpose(0, 1)

    return by_stretches(read, x.shape[1], x.shape[0] * 3 * width * x.element_size(), (gru,))


def _step(gates: Tensor, recurrent: Tensor, state: Tensor, output: Tensor) -> Tensor:
    """The next state (B, H), put into `output`, of what gates (B, 3 H) get from input and state."""
    width = state.shape[1]
    reset, update = (gates[:, : 2 * width] + recurrent[:, : 2 * width]).sigmoid_().chunk(2, dim=1)
    candidate = torch.addcmul(gates[:, 2 * width :], reset, recurrent[:, 2 * width :]).tanh_()
    return torch.lerp(candidate, state, update, out=output)
