"""Recurrent layers over padded batches: GRU, LSTM, and quasi-recurrent ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeGuard, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from auricle.nn.batch import Lengths
from auricle.nn.conv import Linear
from auricle.nn.cpu import prepack
from auricle.nn.cpu.policy import (
    acts,
    map_chunks,
    may_bypass,
    may_overwrite,
    split,
    trains_on_cpu,
)
from auricle.nn.layers import dropout

GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
"""Vectors of the hidden width that each kind of layer computes of its input."""


class GruStack(nn.Module):
    """Unidirectional GRU layers that can be read after each one (APC, arXiv:1904.03240).

    From the second layer on, `residual` adds the layer's input to its output. The layers look
    at the past alone, so padding on the right never reaches a valid frame.
    """

    def __init__(
        self, *, input_dim: int, hidden_dim: int, num_layers: int, dropout: float, residual: bool
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.residual = residual
        self.layers = nn.ModuleList(
            Gru(input_dim if index == 0 else hidden_dim, hidden_dim, batch_first=True)
            for index in range(num_layers)
        )

    def forward(self, x: Tensor, lengths: Lengths | None = None) -> Iterable[Tensor]:
        """Each layer's output (B, T, hidden_dim) for `x` (B, T, input_dim), as asked for.

        Padding after `lengths` may hold anything.
        """
        outputs = self._outputs(x, lengths)
        return tuple(outputs) if acts(self) else outputs

    def _outputs(self, x: Tensor, lengths: Lengths | None) -> Iterator[Tensor]:
        for index, layer in enumerate(self.layers):
            output = recur(layer, x, lengths)
            # The last layer's output goes to the prediction head as it is.
            if index + 1 < len(self.layers):
                output = dropout(output, self.dropout, self.training)
            if self.residual and index > 0:
                output = output.add_(x) if may_overwrite(layer) else output + x
            x = output
            yield x


def recur(rnn: nn.Module, x: Tensor, lengths: Lengths | None = None) -> Tensor:
    """Output (B, T, hidden) of forward recurrent layers for the input `x` (B, T, D).

    What lies past the true `lengths` may be left out where they are given.
    A long input is read a chunk at a time, each from the state that the one before it left:
    torch makes room for the gates of all that it reads at once.
    """
    if not (isinstance(rnn, nn.RNNBase) and may_bypass(rnn)):
        whole: Tensor = rnn(x)[0]
        return whole
    if not isinstance(lengths, Tensor) and is_fast_gru(rnn, x):
        return run_gru(rnn, x, [x.shape[1]] * len(x) if lengths is None else lengths)
    if type(rnn) is Gru and rnn.num_layers == 1 and rnn.bias and trains_on_cpu(x):
        return _trained_gru(rnn, x)
    state = None

    def read(chunk: slice) -> Tensor:
        nonlocal state
        output: Tensor
        output, state = rnn(x[:, chunk], state)
        return output

    widest = max(GATES[rnn.mode] * rnn.hidden_size, rnn.input_size)
    return map_chunks(read, x.shape[1], x.shape[0] * widest * x.element_size(), (rnn,))


class Gru(prepack.Prepacking, nn.GRU):
    """`nn.GRU`, faster in inference on the CPU."""


MAX_GATE_BYTES = 4 << 20
"""Gates of the steps that one product computes from their inputs; more leave the cache again."""


def is_fast_gru(rnn: nn.Module, x: Tensor) -> TypeGuard[Gru]:
    """True if `run_gru` takes these: one plain layer that infers on the CPU."""
    if not (type(rnn) is Gru and may_bypass(rnn)):
        return False
    is_plain = rnn.num_layers == 1 and not rnn.bidirectional and rnn.bias
    return is_plain and prepack.is_packable(x, cast("Tensor", rnn.weight_hh_l0))


def run_gru(gru: Gru, x: Tensor, lengths: Sequence[int]) -> Tensor:
    """Output (B, T, H) of a GRU for `x` (B, T, D) (Cho et al. 2014, as torch writes it).

    Args:
        gru: A layer that `is_fast_gru` takes.
        x: The input.
        lengths: Valid frames of each row. As in a PackedSequence, each step runs only the active
            rows: those up to the last one that has a frame left, so rows that are sorted, longest
            first, cost nothing on padding. The output is zero past the active rows.
    """
    width = gru.hidden_size
    of_input, of_state, input_bias, state_bias = cast("list[Tensor]", gru.all_weights[0])
    # What reset and update gates get from the state is a sum, so its bias may come first.
    bias = torch.cat([input_bias[: 2 * width] + state_bias[: 2 * width], input_bias[2 * width :]])
    multiply = _product(gru, x, of_state, state_bias[2 * width :])
    output = x.new_empty(x.shape[1], len(x), width)
    state = x.new_zeros(len(x), width)
    size = max(1, MAX_GATE_BYTES // (len(x) * 3 * width * x.element_size()))
    for steps, count in _runs(lengths, x.shape[1], size):
        output[steps, count:] = 0
        if not count:
            continue
        inputs = x[:count, steps].transpose(0, 1)
        gates = prepack.linear(gru, inputs.flatten(0, 1), of_input, bias, name="input")
        gates = gates.view(*inputs.shape[:2], 3 * width)
        state = _advance(gates, state[:count], output[steps, :count], multiply)
    return output.transpose(0, 1)


def is_fast_by_blas(x: Tensor) -> bool:
    """True if torch's own BLAS multiplies few rows (B, ...) by a weight faster than oneDNN does.

    It does so for a lone row, and on processors of the maker of that BLAS, MKL; in float32 alone.
    """
    return x.dtype == torch.float32 and (len(x) == 1 or _is_from_intel())


@functools.cache
def _is_from_intel() -> bool:
    return str(torch.cpu.get_capabilities().get("cpu_name", "")).startswith("Intel")


def _trained_gru(gru: Gru, x: Tensor) -> Tensor:
    """Output (B, T, H) of a layer for `x` (B, T, D), with gradients, on the CPU."""
    of_input, of_state, input_bias, state_bias = cast("list[Tensor]", gru.all_weights[0])
    gates = F.linear(x.transpose(0, 1).contiguous(), of_input, input_bias)
    # torch does not type autograd functions.
    output: Tensor = _GruSteps.apply(gates, of_state, state_bias)  # type: ignore[no-untyped-call]
    return output.transpose(0, 1)


class _GruSteps(torch.autograd.Function):
    """Steps of a GRU, whose gradients of weights are one product over all steps.

    torch records each operation of each step, and adds up the gradients of weights step by step.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Outputs (T, B, H) of gates' shares of the input (T, B, 3 H) and the state's weights."""
        width = weight.shape[1]
        num_frames, num_rows, _ = gates.shape
        states = gates.new_zeros(num_frames + 1, num_rows, width)  # the first is before all frames
        recurrent = torch.empty_like(gates)
        switches = gates.new_empty(num_frames, num_rows, 2 * width)  # reset and update
        candidates = gates.new_empty(num_frames, num_rows, width)
        steps = zip(gates, states, states[1:], recurrent, switches, candidates, strict=False)
        for gate, state, following, of_state, switch, candidate in steps:
            torch.addmm(bias, state, weight.t(), out=of_state)
            torch.add(gate[:, : 2 * width], of_state[:, : 2 * width], out=switch).sigmoid_()
            reset, update = switch.chunk(2, dim=1)
            torch.addcmul(gate[:, 2 * width :], reset, of_state[:, 2 * width :], out=candidate)
            torch.lerp(candidate.tanh_(), state, update, out=following)
        ctx.save_for_backward(weight, states, recurrent[..., 2 * width :], switches, candidates)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, states, recurrent, switches, candidates = ctx.saved_tensors
        reset, update = switches.chunk(2, dim=2)
        # What multiplies the gradient of a state on its way to the candidate before its tanh,
        # and to the gates' shares of the state before it.
        to_candidate = (1 - update) * (1 - candidates.square())
        to_state = torch.stack(
            [
                to_candidate * recurrent * reset * (1 - reset),
                (states[:-1] - candidates) * update * (1 - update),
                to_candidate * reset,
            ],
            dim=2,
        )
        of_states = grad.clone(memory_format=torch.contiguous_format)
        of_gates = torch.empty_like(to_state)
        for step in range(len(grad) - 1, -1, -1):
            of_state = of_states[step]
            torch.mul(of_state.unsqueeze(1), to_state[step], out=of_gates[step])
            if step > 0:
                before = of_states[step - 1].addcmul_(of_state, update[step])
                before.addmm_(of_gates[step].flatten(1), weight)
        flat = of_gates.flatten(2).flatten(0, 1)
        of_weight = flat.t() @ states[:-1].flatten(0, 1)
        of_bias = flat.sum(0)
        of_gates[:, :, 2] = of_states * to_candidate
        return of_gates.flatten(2), of_weight, of_bias


def _runs(lengths: Sequence[int], num_steps: int, size: int) -> Iterator[tuple[slice, int]]:
    """At most `size` steps in order with the same active rows, and how many rows these are."""
    start, longest_last = 0, sorted(enumerate(lengths), key=lambda pair: pair[1])
    while longest_last:
        stop = longest_last[0][1]
        count = max(row for row, _ in longest_last) + 1
        for part in split(stop - start, size):
            yield slice(start + part.start, start + part.stop), count
        start = stop
        longest_last = [pair for pair in longest_last if pair[1] > stop]
    if start < num_steps:
        yield slice(start, num_steps), 0


class _Gates:
    """Views of the gates (T, B, 3 H) at each step, made at once, for a view costs as an addition.

    Attributes:
        reset, update, candidate: (B, H) of each step.
        both: Reset and update (B, 2 H).
        recurrent: Memory for what the candidate gets from the state (B, H).
    """

    def __init__(self, gates: Tensor) -> None:
        width = gates.shape[2] // 3
        self.reset, self.update, self.candidate = (x.unbind() for x in gates.chunk(3, dim=2))
        self.both = gates[:, :, : 2 * width].unbind()
        self.recurrent = gates.new_empty(gates.shape[1], width)


Product: TypeAlias = Callable[[_Gates, int, Tensor], Tensor]
"""Adds to the gates of a step what reset and update get from a state (B, H).

Returns what the candidate gets (B, H), which the reset gate multiplies.
"""


def _product(gru: Gru, x: Tensor, weight: Tensor, bias: Tensor) -> Product:
    """The product of a state and the weight (3 H, H), with the candidate's bias (H,)."""
    if is_fast_by_blas(x):
        parts = gru.cached_from(
            "gates", (weight,), lambda: [p.t().contiguous() for p in weight.detach().chunk(3)]
        )
        return partial(_multiply_by_gate, parts, bias)
    packed = prepack.packed_weight(gru, weight, name="state")
    return partial(_multiply, packed, torch.cat([bias.new_zeros(2 * len(bias)), bias]))


def _multiply_by_gate(
    weights: Sequence[Tensor], bias: Tensor, gates: _Gates, step: int, state: Tensor
) -> Tensor:
    """One product for each gate, in turns from the first to the last and back.

    So of a weight that is larger than the cache each step finds there what the last one read last.
    """
    of_reset, of_update, of_candidate = weights
    if step % 2:
        torch.addmm(bias, state, of_candidate, out=gates.recurrent)
        gates.update[step].addmm_(state, of_update)
        gates.reset[step].addmm_(state, of_reset)
    else:
        gates.reset[step].addmm_(state, of_reset)
        gates.update[step].addmm_(state, of_update)
        torch.addmm(bias, state, of_candidate, out=gates.recurrent)
    return gates.recurrent


def _multiply(weight: Tensor, bias: Tensor, gates: _Gates, step: int, state: Tensor) -> Tensor:
    """One product for all gates, by a packed weight."""
    recurrent = prepack.packed_linear(state, weight, bias)
    both = gates.both[step]
    both.add_(recurrent[:, : both.shape[1]])
    return recurrent[:, both.shape[1] :]


def _advance(gates: Tensor, state: Tensor, output: Tensor, multiply: Product) -> Tensor:
    """Put the states after each step into `output` (T, B, H), and return the last one.

    Gates (T, B, 3 H) hold what they get from the input, and are written over.
    """
    views = _Gates(gates)
    for step, following in enumerate(output.unbind()):
        recurrent = multiply(views, step, state)
        views.both[step].sigmoid_()
        new = views.candidate[step].addcmul_(views.reset[step], recurrent).tanh_()
        state = torch.lerp(new, state, views.update[step], out=following)
    return state


PARALLEL_FRAMES = 64
"""Frames that the running average takes one by one; chunks of them go in parallel."""


class QrnnStack(nn.Module):
    """Quasi-recurrent layers that look one frame back, each on the output of the one before.

    They look at the past alone, so padding on the right never reaches a valid frame.
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
                x = dropout(x, self.dropout, self.training)
            x = _layer_output(layer, x, self.hidden_dim)
        return x


def _layer_output(layer: nn.Module, x: Tensor, hidden_dim: int) -> Tensor:
    """One layer's output (B, T, hidden_dim) for `x` (B, T, input_dim), a chunk at a time."""
    before, average = torch.zeros_like(x[:, :1]), None

    def read(chunk: slice) -> Tensor:
        nonlocal before, average
        part = x[:, chunk]
        shifted = torch.cat([before, part[:, :-1]], dim=1)
        candidate, forget, output = layer(torch.cat([part, shifted], dim=2)).chunk(3, dim=2)
        averages = running_average(torch.tanh(candidate), torch.sigmoid(forget), average)
        before, average = part[:, -1:], averages[:, -1]
        return torch.sigmoid(output) * averages

    frame_bytes = max(2 * x.shape[2], 3 * hidden_dim) * x.element_size()
    return map_chunks(read, x.shape[1], x.shape[0] * frame_bytes, (layer,))


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
    num_chunks = -(-num_frames // PARALLEL_FRAMES)
    rest = (0, 0, 0, num_chunks * PARALLEL_FRAMES - num_frames)
    # In half precision the products of many weights would lose their digits.
    weight = weight if weight.dtype == torch.float64 else weight.float()
    chunks = (num_rows, num_chunks, PARALLEL_FRAMES, dim)
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
    return result.view(num_rows, num_chunks * PARALLEL_FRAMES, dim)[:, :num_frames].to(x.dtype)
