"""Weights in the layout of the CPU's fastest exact kernel, kept by the module that owns them.

torch's `F.linear` goes through the BLAS of the wheel, which on some processors takes a slow path;
oneDNN, which torch brings along too, multiplies by weights in a layout of its own, with bias and
activation in the same pass. torch offers that to its compiler alone, by operators that may change:
they are used where they exist and a check at the first use finds them right, for inference on the
CPU. Everywhere else `linear` is `F.linear`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn.cpu.policy import (
    infers_on_cpu,
    is_plain_tensor,
    is_traced,
    known_unchanged,
    may_bypass,
    needs_gradients,
)
from auricle.nn.layers import WAVEFORM_ACTIVATIONS, WaveformActivation

if TYPE_CHECKING:
    from typing_extensions import Self

FUSED: dict[WaveformActivation, tuple[str, str]] = {
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "swish": ("swish", ""),
    "tanh": ("tanh", ""),
    "linear": ("none", ""),
}
"""Names of the activations in oneDNN: name and algorithm."""

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Types that are packed, and how far the check lets the kernel be from float64."""

MANY_ROWS = 4096
"""Beside so many products the packing of a weight costs nothing, so that it need not be kept."""

MAX_KEPT_BYTES = 2 << 30
"""Of encoders with larger weights none is kept packed: that doubles their memory, and the check
that a weight is as it was costs what the packing of it for one utterance does."""

UINT8_STEPS, INT8_STEPS = 255, 127
"""Steps from the lowest input to the highest, and from 0 to the largest weight."""

INT8_TOLERANCE = 1e-4
"""Largest error of the 8-bit kernel, in the check, from float64 with the same steps."""

SMALLEST_RANGE = 1e-30
"""Of what is quantised; digital silence has none."""

WORD_BYTES = 8
BLOCK_ROWS, BLOCK_COLUMNS = 15, 2039
"""Table of words whose columns a fingerprint sums; a prime width divides no row of a weight."""

WeightLayout: TypeAlias = Callable[[Tensor], Tensor]
"""Makes the matrix (N, K) of a weight."""


def identity(weight: Tensor) -> Tensor:
    """The layout of a weight that is a matrix (N, K) already."""
    return weight


_call: ContextVar[object] = ContextVar("call", default=None)
"""The call of an encoder that is under way; None where weights may change between two uses."""

_is_large: ContextVar[bool] = ContextVar("is_large", default=False)
"""True while an encoder computes that keeps no packed weights."""


@contextmanager
def unchanging() -> Iterator[None]:
    """Compare fingerprints once inside, for nothing writes to weights during a call."""
    token = _call.set(object())
    try:
        yield
    finally:
        _call.reset(token)


@contextmanager
def computing(module: nn.Module, inputs: Sequence[Tensor]) -> Iterator[None]:
    """Turn gradients off where none could flow; inspect parts once where none is hooked."""
    is_unchanging = may_bypass(*module.children())
    with (
        known_unchanged() if is_unchanging else nullcontext(),
        torch.set_grad_enabled(needs_gradients(module, inputs)),
        unchanging() if is_unchanging else nullcontext(),
        as_large(module),
    ):
        yield


@contextmanager
def as_large(module: nn.Module) -> Iterator[None]:
    """Keep no packed weights inside where those of a module exceed `MAX_KEPT_BYTES`."""
    sizes = (weight.numel() * weight.element_size() for weight in module.parameters())
    token = _is_large.set(sum(sizes) > MAX_KEPT_BYTES)
    try:
        yield
    finally:
        _is_large.reset(token)


class _Entry:
    """A value made of some weights, and the state that they were in."""

    def __init__(self, weights: Sequence[Tensor], make: Callable[[], Any]) -> None:
        self.places = [_place(weight) for weight in weights]
        self.fingerprints = [fingerprint(weight) for weight in weights]
        self.made = make()
        self.call = _call.get()

    def is_of(self, weights: Sequence[Tensor]) -> bool:
        """True if the weights are as they were."""
        if self.places != [_place(weight) for weight in weights]:
            return False
        call = _call.get()
        if call is None or call is not self.call:
            pairs = zip(self.fingerprints, weights, strict=True)
            if not all(torch.equal(known, fingerprint(weight)) for known, weight in pairs):
                return False
            self.call = call
        return True


def _place(weight: Tensor) -> tuple[object, ...]:
    """Identity, version and memory of a weight, which differ when it is written to or replaced."""
    strides, dtype = weight.stride(), weight.dtype
    return id(weight), weight._version, weight.data_ptr(), weight.shape, strides, dtype


def fingerprint(weight: Tensor) -> Tensor:
    """Sums, modulo 2^64, of all words of a weight by columns and blocks; a copy of a small one.

    Writes through `weight.data` change no version. Sums of whole numbers differ after any write of
    one value, and after rows or columns change places or signs, as their words then count in other
    columns or blocks. Columns of so few and long rows are summed as fast as memory is read, and
    what is kept is small: large results would cost more than the sums, in new pages of memory.
    """
    flat = weight.detach().flatten()
    offset = flat.storage_offset() * flat.element_size()
    if any(count % WORD_BYTES for count in (flat.nbytes, flat.data_ptr(), offset)):
        return flat.clone().view(torch.uint8)
    words, block = flat.view(torch.int64), BLOCK_ROWS * BLOCK_COLUMNS
    num_blocks = len(words) // block
    if not num_blocks:
        return words.clone()
    sums = words[: num_blocks * block].view(num_blocks, BLOCK_ROWS, BLOCK_COLUMNS).sum(1)
    # The last block has what is too little for another, and some of the one before.
    last = words[-block:].view(BLOCK_ROWS, BLOCK_COLUMNS).sum(0)
    return torch.cat([sums.sum(0), sums.sum(1), last])


class _Entries(dict[Hashable, _Entry]):
    """By key; copies and pickles of it are empty."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _Entries, ()

    def __deepcopy__(self, _: Any) -> _Entries:
        return _Entries()


class Prepacking(nn.Module):
    """A module that keeps what is made of its weights while they stay as they are.

    What it keeps is in no state dict, copy or pickle, and is dropped by `train()`, `eval()`, by
    what moves or converts the module, and by `load_state_dict`. A weight that has been replaced or
    written to since, even through `weight.data`, is noticed at the next call of the encoder.
    """

    keeps_packed = True
    """False where packing costs little beside the products, which are many in every call."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._prepacked = _Entries()

    def cached_from(self, key: Hashable, weights: Sequence[Tensor], make: Callable[[], Any]) -> Any:
        """The output of `make`, a function of `weights`; without gradients kept by `key`."""
        if torch.is_grad_enabled() or is_traced():
            return make()
        if not all(is_plain_tensor(one) and not one.is_inference() for one in weights):
            return make()
        entry = self._prepacked.get(key)
        if entry is None or not entry.is_of(weights):
            with torch.inference_mode(False), torch.no_grad():
                entry = self._prepacked[key] = _Entry(weights, make)
        return entry.made

    def drop_prepacked(self) -> None:
        """Forget what has been made of the weights."""
        self._prepacked.clear()

    def train(self, mode: bool = True) -> Self:
        self.drop_prepacked()
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        self.drop_prepacked()
        return cast("Self", super()._apply(*args, **kwargs))  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.drop_prepacked()
        super()._load_from_state_dict(*args, **kwargs)


def is_packable(x: Tensor, weight: Tensor) -> bool:
    """True if `linear` uses packed weights: inference on the CPU, in a type that is checked."""
    return (
        infers_on_cpu(x)
        and is_plain_tensor(x)
        and is_plain_tensor(weight)
        and x.dtype == weight.dtype
        and x.dtype in TOLERANCES
        and not weight.is_inference()  # whose version is not counted
        and not torch.is_autocast_enabled("cpu")
        and _is_right(x.dtype)
    )


def linear(
    owner: Prepacking,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: WaveformActivation | None = None,
    *,
    layout: WeightLayout = identity,
    name: str = "weight",
) -> Tensor:
    """`activation(x @ layout(weight).T + bias)`.

    Args:
        owner: The module whose weight it is.
        x: (..., K); its rows may overlap in memory.
        weight: What `layout` makes a matrix (N, K) of.
        bias: (N,), or None.
        activation: What is applied to the sum, None for nothing.
        layout: A function of the module.
        name: Name of the weight among those of its module.

    Returns:
        (..., N).
    """
    if is_packable(x, weight) and x.numel() > 0:
        num_rows = x.numel() // x.shape[-1]
        if owner.keeps_packed and num_rows < MANY_ROWS and not _is_large.get():
            matrix = packed_weight(owner, weight, layout=layout, name=name)
        else:
            matrix = layout(weight).contiguous()
        return packed_linear(x, matrix, bias, activation)
    output = F.linear(x, layout(weight), bias)
    return output if activation is None else WAVEFORM_ACTIVATIONS[activation](output)


def packed_weight(
    owner: Prepacking, weight: Tensor, *, layout: WeightLayout = identity, name: str = "weight"
) -> Tensor:
    """The weight as `packed_linear` takes it, kept by its module until it changes.

    For inputs that `is_packable` takes; the result must not outlive a call of the encoder.
    """

    def pack() -> Tensor:
        matrix = layout(weight.detach()).contiguous()
        return cast("Tensor", torch.ops.mkldnn._reorder_linear_weight(matrix))

    return cast("Tensor", owner.cached_from((name, layout), (weight,), pack))


def packed_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: WaveformActivation | None = None
) -> Tensor:
    """As `linear` for inputs that `is_packable` takes, by a weight that `packed_weight` gave.

    A matrix (N, K) that is used once does as well as a packed one.
    """
    name, algorithm = ("none", "") if activation is None else FUSED[activation]
    output: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)
    return output


def int8_linear(owner: Prepacking, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As `linear` for inputs that `is_packable` takes, with 8-bit weights and inputs.

    Weights have a scale for each output, inputs one for all of them and a zero point.

    Args:
        owner: The module whose weight it is.
        x: (..., K).
        weight: (N, K).
        bias: (N,), or None.
    """
    quantised, weight_scales = owner.cached_from(
        "int8", (weight,), lambda: _weight_in_int8(weight.detach())
    )
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
    """Check at first use that the 8-bit kernel exists and adds up without overflow.

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
            error = (int8_linear(Prepacking(), rows, weight, bias).double() - expected).abs()
        except (AttributeError, RuntimeError):
            return False
        return bool((error / expected.abs().clamp(min=1.0)).max().item() <= INT8_TOLERANCE)


@functools.lru_cache(maxsize=len(TOLERANCES))
def _is_right(dtype: torch.dtype) -> bool:
    """Check at first use that the kernels exist and are right, also for overlapping rows."""
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
                error = (packed_linear(rows, reordered, bias, name).double() - reference).abs()
                scale = reference.abs().clamp(min=1.0)
                if not (error / scale).max().item() <= TOLERANCES[dtype]:
                    return False
        except (AttributeError, RuntimeError):
            return False
    return True
