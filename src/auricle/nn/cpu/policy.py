"""Policy of inference: the only file that asks about device and modules, and sizes of chunks.

The fast ways read the weights of a module without calling it, call it on parts of a sequence or
on one utterance at a time, or write into its output. All of them ask here first, because that
is right only for modules that are what the library built: a hook, a pruned or parametrised
weight, an adapter in a layer's place or a `forward` of the user's own has to act as it does in
any other model. A port to another device or compiler changes this package alone.

Long sequences go in chunks, so that memory stays bounded, with a halo where frames need one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as torch_module

from auricle.info import FrameGeometry
from auricle.nn.batch import Lengths

TORCH_CLASSES = (
    nn.BatchNorm1d,
    nn.Conv1d,
    nn.Embedding,
    nn.GRU,
    nn.Identity,
    nn.LayerNorm,
    nn.LSTM,
    nn.ModuleDict,
    nn.ModuleList,
    nn.PReLU,
    nn.RNN,
)
"""Those of torch's classes that encoders are built of; the others are the library's own."""

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
GLOBAL_HOOKS = tuple(f"_global{name}" for name in HOOKS)

_uses_reference: ContextVar[bool] = ContextVar("uses_reference", default=False)
_are_known: ContextVar[bool] = ContextVar("are_known", default=False)
"""True while all modules are known to be as the library builds them."""


@contextmanager
def reference_kernels() -> Iterator[None]:
    """Compute as other devices do, and as training does: padded batches, torch's own kernels.

    The reference that the CPU's fast way is checked against.
    """
    token = _uses_reference.set(True)
    try:
        yield
    finally:
        _uses_reference.reset(token)


@contextmanager
def known_unchanged() -> Iterator[None]:
    """Take for granted that modules are as the library builds them, which was looked at before.

    A call asks about each of them many times, and without hooks nothing changes them meanwhile.
    """
    token = _are_known.set(True)
    try:
        yield
    finally:
        _are_known.reset(token)


def runs_on_cpu(x: Tensor) -> bool:
    """True if the CPU computes with `x`, so that blocks should fit its cache."""
    return x.device.type == "cpu"


def infers_on_cpu(x: Tensor) -> bool:
    """True for inference on the CPU: no gradients, no tracing, no `reference_kernels`.

    Asked by this package alone; others ask for the decision that follows from it.
    """
    return (
        not torch.is_grad_enabled()
        and runs_on_cpu(x)
        and not is_traced()
        and not _uses_reference.get()
    )


def trains_on_cpu(x: Tensor, *, in_autocast: bool = False) -> bool:
    """True if the CPU may go its own way with gradients too: as `infers_on_cpu`, but for these.

    Under autocast, which chooses types by operation, only with `in_autocast`.
    """
    return (
        torch.is_grad_enabled()
        and runs_on_cpu(x)
        and x.dtype in (torch.float32, torch.float64)
        and (in_autocast or not torch.is_autocast_enabled("cpu"))
        and not is_traced()
        and not _uses_reference.get()
    )


def joins_frames(x: Tensor) -> bool:
    """True if (B, C, T) is kept with the channels of a frame side by side in memory.

    Convolutions that are products with prepacked weights read and write frames like that.
    """
    return infers_on_cpu(x)


def takes_one_by_one(x: Tensor, lengths: Lengths, *modules: nn.Module) -> bool:
    """True if utterances go through these modules one at a time, without any padding.

    On the CPU padding costs more than several utterances at once save. Modules in training take
    whole batches, for their dropout and batch norm; so do those that a hook watches.
    """
    return (
        infers_on_cpu(x)
        and not isinstance(lengths, Tensor)
        and not any(module.training for module in modules)
        and not is_hooked(*modules)
    )


def may_pack(x: Tensor, lengths: Lengths, stack: nn.Module) -> bool:
    """True if the layers of a stack take packed utterances of a padded batch `x`.

    Under a compiler, and where a hook watches, they take padded batches. So they do in training,
    but for stacks that are made for it (`trains_packed`), on the CPU.
    """
    if stack.training and not (getattr(stack, "trains_packed", False) and trains_on_cpu(x)):
        return False
    return not isinstance(lengths, Tensor) and not is_hooked(stack)


def is_traced() -> bool:
    """True if a compiler, an exporter or a transform of `torch.func` follows the operations.

    Between two graphs of `torch.compile` Python runs as ever and `is_compiling` says no, but what
    is called from there is compiled again; only the callback of its frames shows.
    """
    return bool(
        torch.compiler.is_compiling()
        or torch._C._dynamo.eval_frame.get_eval_frame_callback()
        or torch._C._get_tracing_state()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def may_bypass(*modules: nn.Module) -> bool:
    """True if the work of these modules may be done in parts, or without calling them.

    That is where they and all modules in them are as the library builds them: of the classes that
    it builds of, with weights that are plain tensors, and without hooks.
    """
    if is_traced():
        return False
    return _are_known.get() or (
        not _has_global_hooks()
        and all(_is_unchanged(part) for module in modules for part in module.modules())
    )


def may_overwrite(*modules: nn.Module) -> bool:
    """True if the output of these modules may be written over: no autograd graph or hook has it."""
    return not torch.is_grad_enabled() and may_bypass(*modules)


def is_hooked(*modules: nn.Module) -> bool:
    """True if hooks, or a `forward` of the user's, see what goes through any of these modules.

    They are given whole padded batches, as in training, not packed or lone utterances.
    """
    if is_traced():
        return True
    return not _are_known.get() and any(
        acts(part) for module in modules for part in module.modules()
    )


def acts(module: nn.Module) -> bool:
    """True if a call of the module does more than the `forward` of its class."""
    return _has_global_hooks() or _has_hooks(module)


def needs_gradients(module: nn.Module, inputs: Iterable[Tensor]) -> bool:
    """True if gradients are enabled and could flow to anything that the module computes with.

    Without them it infers, whatever the mode.
    """
    if not torch.is_grad_enabled():
        return False
    return (
        any(x.requires_grad for x in inputs)
        or not may_bypass(*module.children())  # whose hooks may bring tensors of their own
        or any(x.requires_grad for part in module.modules() for x in _tensors(part))
    )


def is_frozen(module: nn.Module, inputs: Iterable[Tensor]) -> bool:
    """True if gradients are enabled but none could flow to or through a part of an encoder."""
    follows = torch.is_grad_enabled() and not is_traced()
    return follows and may_bypass(module) and not needs_gradients(module, inputs)


def first_change(module: nn.Module) -> str | None:
    """Name of the first part of a module that keeps it from being bypassed; None for none."""
    if _has_global_hooks():
        return "torch.nn.modules.module (global hooks)"
    parts = module.named_modules()
    return next((name for name, part in parts if name and not _is_unchanged(part)), None)


def is_plain_tensor(x: Tensor) -> bool:
    """True for a tensor or parameter as such, not sharded, quantised or fake."""
    return type(x) in (Tensor, nn.Parameter)


def _is_unchanged(module: nn.Module) -> bool:
    return (
        (type(module) in TORCH_CLASSES or type(module).__module__.startswith("auricle."))
        and not _has_hooks(module)
        and all(x is None or is_plain_tensor(x) for x in module._parameters.values())
    )


def _has_hooks(module: nn.Module) -> bool:
    state = vars(module)
    return (
        any(state.get(name) for name in HOOKS)
        or "forward" in state
        or state.get("_compiled_call_impl") is not None
    )


def _has_global_hooks() -> bool:
    return any(getattr(torch_module, name, None) for name in GLOBAL_HOOKS)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and tensors that stand in the place of either."""
    for values in (module._parameters, module._buffers, vars(module)):
        yield from (x for x in values.values() if isinstance(x, Tensor))


MAX_CHUNK_BYTES = 64 << 20
"""Largest intermediate value of a chunk."""


def chunks(num_frames: int, bytes_per_frame: int, modules: Iterable[nn.Module]) -> list[slice]:
    """Chunks of a sequence in order, each small enough to be computed at once.

    Where gradients are recorded there is one chunk, for autograd keeps all of them anyway; and
    where a module has to see the whole of it.

    Args:
        num_frames: Length of the sequence.
        bytes_per_frame: Of the largest intermediate value, over the whole batch.
        modules: What is called on each chunk.
    """
    if torch.is_grad_enabled() or is_traced():
        return [slice(0, num_frames)]
    size = max(1, MAX_CHUNK_BYTES // max(1, bytes_per_frame))
    if num_frames <= size or not may_bypass(*modules):
        return [slice(0, num_frames)]
    return split(num_frames, size)


def split(num_frames: int, size: int) -> list[slice]:
    """Chunks of `size` frames in order, the last one perhaps of fewer."""
    return [slice(start, min(start + size, num_frames)) for start in range(0, num_frames, size)]


def map_chunks(
    body: Callable[[slice], Tensor],
    num_frames: int,
    bytes_per_frame: int,
    modules: Iterable[nn.Module],
) -> Tensor:
    """Map `body` over chunks of a sequence and join its outputs to one (B, T, D).

    Args:
        body: Takes the frames' slice.
        num_frames: Length of the sequence.
        bytes_per_frame: As `chunks` takes it.
        modules: Those that `body` calls.
    """
    first, *others = chunks(num_frames, bytes_per_frame, modules)
    piece = body(first)
    if not others:
        return piece
    output = piece.new_empty(piece.shape[0], num_frames, *piece.shape[2:])
    output[:, first] = piece
    for chunk in others:
        output[:, chunk] = body(chunk)
    return output


@dataclasses.dataclass(frozen=True, kw_only=True)
class HaloChunk:
    """Frames of a padded batch, and the part of its input that they are computed from.

    Sliding windows over that part give these frames as they do over the whole, padding at the true
    ends included. Frames beside them that see the part's own ends are wrong: `own` leaves them out.

    Attributes:
        frames: Which frames.
        inputs: Which inputs; the first is a multiple of the hop, so that frames stay in step.
        hop: Inputs from one frame to the next.
        is_last: Whether no frames follow.
        rows: Utterances that reach as far as these frames.
        lengths: True inputs of each of those within the part.
    """

    frames: slice
    inputs: slice
    hop: int
    is_last: bool
    rows: list[int]
    lengths: list[int]

    def of(self, x: Tensor) -> Tensor:
        """The part (rows, C, inputs, ...) of `x` (B, C, S, ...); a view where it can be."""
        part = x[:, :, self.inputs]
        return part if len(self.rows) == len(x) else part[self.rows]

    def own(self, y: Tensor, hop: int) -> Tensor:
        """Crop a layer's output for the part to these frames: (rows, D, frames, ...).

        Of a layer that is `hop` inputs from frame to frame, and so may run at a higher rate.
        """
        offset = self.inputs.start // hop
        stop = None if self.is_last else self.frames.stop * (self.hop // hop) - offset
        return y[:, :, self.first(hop) - offset : stop]

    def first(self, hop: int) -> int:
        """The first frame of that layer that `own` gives, counted in the whole sequence."""
        return int(self.frames.start) * (self.hop // hop)

    def write(self, output: Tensor, own: Tensor, hop: int) -> None:
        """Put what `own` gave into its place in the layer's whole output (B, D, T)."""
        first = self.first(hop)
        place = output[:, :, first : first + own.shape[2]]
        if len(self.rows) == len(output):
            place.copy_(own)
        else:
            place[self.rows] = own.to(output.dtype)


def halo_chunks(
    lengths: Sequence[int],
    geometry: FrameGeometry,
    bytes_per_frame: int,
    modules: Iterable[nn.Module],
    *,
    min_frames: int = 1,
) -> list[HaloChunk]:
    """Cuts that follow each other and give all frames of a padded batch, few enough at a time.

    Args:
        lengths: True inputs of each utterance; the largest is the width of the batch.
        geometry: How frames slide over inputs.
        bytes_per_frame: As `chunks` takes it.
        modules: What is called on each cut.
        min_frames: Frames of the first cut at least.
    """
    hop, num_inputs = geometry.hop_samples, max(lengths)
    num_frames = geometry.num_frames(num_inputs)
    parts = chunks(num_frames, bytes_per_frame, modules)
    if parts[0].stop < min(min_frames, num_frames):
        starts = range(0, num_frames, min_frames)
        parts = [slice(start, min(start + min_frames, num_frames)) for start in starts]
    # Where a window reaches past an end, padding by reflection looks one frame further than it.
    spare = sum(1 for window in geometry.windows if window.pad_left or window.pad_right)
    before = spare - geometry.start_samples // hop
    after = max(geometry.start_samples + geometry.window_samples, 0) + spare * hop
    result = []
    for frames in parts:
        is_last = frames.stop == num_frames
        first = max(frames.start - before, 0) * hop
        end = num_inputs if is_last else min(frames.stop * hop + after, num_inputs)
        rows = [row for row, length in enumerate(lengths) if length > frames.start * hop]
        result.append(
            HaloChunk(
                frames=frames,
                inputs=slice(first, end),
                hop=hop,
                is_last=is_last,
                rows=rows,
                lengths=[min(lengths[row], end) - first for row in rows],
            )
        )
    return result
