"""Products with weights kept in the layout that the CPU's fastest exact kernel reads.

torch's `F.linear` goes through the BLAS of the wheel, which on some processors takes a slow path;
oneDNN, which torch brings along too, multiplies by weights in a layout of its own, with bias and
activation in the same pass. torch offers that to its compiler alone, by operators that may change:
they are used where they exist and a check at the first use finds them right, for inference on the
CPU. Everywhere else `linear` is `F.linear`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from auricle.nn.fast_paths import infers_on_cpu, is_plain_tensor, is_traced
from auricle.nn.waveform_activations import WAVEFORM_ACTIVATIONS, WaveformActivation

FUSED: dict[WaveformActivation, tuple[str, str]] = {
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "swish": ("swish", ""),
    "tanh": ("tanh", ""),
}
"""What oneDNN calls the activations: name and algorithm."""

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Types that are packed, and how far the check lets the kernel be from float64."""

MANY_ROWS = 4096
"""Beside so many products the packing of a weight costs nothing, so that it need not be kept."""

UINT8_STEPS, INT8_STEPS = 255, 127
"""Steps from the lowest input to the highest, and from 0 to the largest weight."""

INT8_TOLERANCE = 1e-4
"""How far the check lets that kernel be from float64 with the same steps."""

SMALLEST_RANGE = 1e-30
"""Of what is quantised; digital silence has none."""

Form = Callable[[Tensor], Tensor]
"""Makes the matrix (N, K) of a weight."""


def as_it_is(weight: Tensor) -> Tensor:
    """The form of a weight that is a matrix (N, K) already."""
    return weight


def is_packable(x: Tensor, weight: Tensor) -> bool:
    """Whether `linear` goes by packed weights: inference on the CPU, in a type that is checked."""
    return (
        infers_on_cpu(x)
        and is_plain_tensor(x)
        and is_plain_tensor(weight)
        and x.dtype == weight.dtype
        and x.dtype in TOLERANCES
        and not weight.is_inference()  # it would not tell when it has changed
        and not torch.is_autocast_enabled("cpu")
        and _is_right(x.dtype)
    )


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: WaveformActivation | None = None,
    *,
    form: Form = as_it_is,
) -> Tensor:
    """`activation(x @ form(weight).T + bias)`.

    Args:
        x: (..., K); its rows may overlap in memory.
        weight: What `form` makes a matrix (N, K) of.
        bias: (N,), or None.
        activation: What is applied to the sum, None for nothing.
        form: A function of the module, for what it gave is kept with the weight until that changes.

    Returns:
        (..., N).
    """
    if is_packable(x, weight) and x.numel() > 0:
        num_rows = x.numel() // x.shape[-1]
        is_kept = num_rows < MANY_ROWS
        matrix = packed(weight, form) if is_kept else form(weight).contiguous()
        return product(x, matrix, bias, activation)
    output = F.linear(x, form(weight), bias)
    return output if activation is None else WAVEFORM_ACTIVATIONS[activation](output)


_kept = WeakTensorKeyDictionary()
"""By weight, by form: what told its state when it was packed, and the packed weight."""


def packed(weight: Tensor, form: Form = as_it_is) -> Tensor:
    """The weight as `product` takes it, kept until the weight changes.

    For inputs that `is_packable` takes; what it returns must not outlive a call of the encoder.
    """

    def pack() -> Tensor:
        matrix = form(weight.detach()).contiguous()
        return cast("Tensor", torch.ops.mkldnn._reorder_linear_weight(matrix))

    return cast("Tensor", _kept_as(form, (weight,), pack))


def product_in_int8(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As `linear` for inputs that `is_packable` takes, of 8 bits a number.

    Weights have a scale for each output, inputs one for all of them and a zero point.

    Args:
        x: (..., K).
        weight: (N, K).
        bias: (N,), or None.
    """
    quantised, weight_scales = _kept_as("int8", (weight,), lambda: _weight_in_int8(weight.detach()))
    steps, scale, zero_point = _inputs_in_uint8(x.flatten(0, -2))
    output: Tensor = torch.ops.onednn.qlinear_pointwise(
        steps,
        scale,
        zero_point,
        quantised,
        weight_scales,
        torch.zeros(len(weight_scales), dtype=torch.int32),
        bias,
        1.0,
        0,
        x.dtype,
        "none",
        [],
        "",
    )
    return output.view(*x.shape[:-1], -1)


def _inputs_in_uint8(rows: Tensor) -> tuple[Tensor, float, int]:
    """Steps (R, K) of inputs, the width of a step, and the step that stands for 0."""
    lowest, highest = (bound.item() for bound in rows.aminmax())
    scale = max(max(highest, 0.0) - min(lowest, 0.0), SMALLEST_RANGE) / UINT8_STEPS
    zero_point = round(-min(lowest, 0.0) / scale)
    steps = (rows * (1 / scale)).add_(zero_point).round_().clamp_(0, UINT8_STEPS)
    return steps.to(torch.uint8), scale, zero_point


def _weight_in_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Packed weight and the scales (N,) of its outputs."""
    steps, scales = _weight_steps(weight)
    return torch.ops.onednn.qlinear_prepack(steps, None), scales


def _weight_steps(weight: Tensor) -> tuple[Tensor, Tensor]:
    scales = weight.abs().amax(1).clamp(min=SMALLEST_RANGE) / INT8_STEPS
    return (weight / scales.unsqueeze(1)).round().to(torch.int8), scales


@functools.lru_cache(maxsize=1)
def int8_is_right() -> bool:
    """Whether the kernel of 8 bits is there and adds up without overflow.

    Processors without instructions for it add products in 16 bits, where two of the largest do not
    fit: the first row and the first output have nothing else.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.no_grad():
        rows = torch.randn(33, 64, generator=generator)
        weight = torch.randn(17, 64, generator=generator)
        bias = torch.randn(17, generator=generator)
        rows[0], weight[0] = 5.0, 5.0
        steps, scale, zero_point = _inputs_in_uint8(rows)
        weight_steps, weight_scales = _weight_steps(weight)
        inputs = (steps.double() - zero_point) * scale
        expected = F.linear(
            inputs, weight_steps.double() * weight_scales.double().unsqueeze(1), bias.double()
        )
        try:
            error = (product_in_int8(rows, weight, bias).double() - expected).abs()
        except (AttributeError, RuntimeError):
            return False
        return bool((error / expected.abs().clamp(min=1.0)).max().item() <= INT8_TOLERANCE)


def kept_with(weights: tuple[Tensor, ...], make: Callable[[], Tensor]) -> Tensor:
    """What `make` makes of weights; without gradients it is kept until one of them changes.

    The weights are those of one module; what is made of them is kept under the first.
    """
    is_keepable = all(is_plain_tensor(one) and not one.is_inference() for one in weights)
    if torch.is_grad_enabled() or is_traced() or not is_keepable:
        return make()

    def made() -> Tensor:
        with torch.inference_mode(False), torch.no_grad():
            return make()

    return cast("Tensor", _kept_as("made", weights, made))


_seen: ContextVar[set[tuple[int, Any]] | None] = ContextVar("seen", default=None)
"""Weights, by identity and form, that have been looked at; None where they may change."""


@contextmanager
def unchanging() -> Iterator[None]:
    """Look at each weight once inside, for nothing can write to it."""
    token = _seen.set(set())
    try:
        yield
    finally:
        _seen.reset(token)


def _kept_as(form: Any, weights: tuple[Tensor, ...], make: Callable[[], Any]) -> Any:
    """What `make` made of weights, under the first of them, by form, until one of them changes."""
    if weights[0] not in _kept:
        _kept[weights[0]] = {}
    forms = cast("dict[Any, tuple[list[_State], Any]]", _kept[weights[0]])
    key, seen = (id(weights[0]), form), _seen.get()
    if form not in forms or seen is None or key not in seen:
        states = [_State(weight) for weight in weights]
        if form not in forms or forms[form][0] != states:
            forms[form] = states, make()
        if seen is not None:
            seen.add(key)
    return forms[form][1]


class _State:
    """What differs when a weight has been written to, or put elsewhere.

    What goes through `weight.data` is not counted by its version, so all elements are looked at:
    rows by their sums, and their order by a diagonal.
    """

    def __init__(self, weight: Tensor) -> None:
        self.place = weight._version, weight.data_ptr(), weight.stride(), weight.dtype
        matrix = weight.detach().flatten(1) if weight.dim() > 1 else weight.detach().unsqueeze(0)
        diagonal = matrix[_diagonal(*matrix.shape)]
        self.elements = torch.cat([matrix.sum(1, dtype=torch.float32), diagonal.float()])

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _State)
            and self.place == other.place
            and torch.equal(self.elements, other.elements)
        )

    __hash__ = None  # type: ignore[assignment]


@functools.lru_cache(maxsize=64)
def _diagonal(num_rows: int, num_columns: int) -> tuple[Tensor, Tensor]:
    """Indices of elements that step one row and one column on, around the ends."""
    with torch.inference_mode(False):
        steps = torch.arange(max(num_rows, num_columns), device="cpu")
        return steps % num_rows, steps % num_columns


def product(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: WaveformActivation | None = None
) -> Tensor:
    """As `linear` for inputs that `is_packable` takes, by a weight that `packed` gave.

    A matrix (N, K) that is used once does as well as a packed one.
    """
    name, algorithm = ("none", "") if activation is None else FUSED[activation]
    output: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)
    return output


@functools.lru_cache(maxsize=len(TOLERANCES))
def _is_right(dtype: torch.dtype) -> bool:
    """Whether the kernels are there and give what they should, overlapping rows included."""
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.no_grad():
        samples = torch.randn(200, generator=generator, dtype=torch.float64).to(dtype)
        rows = samples.as_strided((33, 24), (5, 1))
        weight = torch.randn(17, 24, generator=generator, dtype=torch.float64).to(dtype)
        bias = torch.randn(17, generator=generator, dtype=torch.float64).to(dtype)
        expected = F.linear(rows.double(), weight.double(), bias.double())
        try:
            reordered = torch.ops.mkldnn._reorder_linear_weight(weight)
            for name in (None, *FUSED):
                reference = expected if name is None else WAVEFORM_ACTIVATIONS[name](expected)
                error = (product(rows, reordered, bias, name).double() - reference).abs()
                scale = reference.abs().clamp(min=1.0)
                if not (error / scale).max().item() <= TOLERANCES[dtype]:
                    return False
        except (AttributeError, RuntimeError):
            return False
    return True
