"""Stacks of convolutions whose norms may need the whole utterance, in bounded memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from auricle.info import FrameGeometry, Window
from auricle.nn.batch import Lengths, as_tensor, frames_of
from auricle.nn.cpu.policy import HaloChunk, chunks, halo_chunks, runs_on_cpu
from auricle.nn.norms import NormTerms, UtteranceGroupNorm, UtteranceStatistics

HELD_BYTES = 3 << 29
"""Largest whole output of a layer that is materialised; larger ones are recomputed.

Of an hour, wav2vec's fourth layer takes 1.5 GB and its third twice that.
"""

CPU_SHARE = 16
"""Factor by which chunks are smaller on the CPU than memory allows.

So they stay in its cache: the extractors are 1.3 to 1.5 times as fast as without chunks.
"""


class StackLayer(Protocol):
    """A convolution, perhaps a norm over the utterance, an activation, perhaps a shortcut."""

    @property
    def parts(self) -> Sequence[nn.Module]:
        """The modules that do its work."""

    @property
    def window(self) -> Window:
        """The convolution's sliding window, padding included."""

    @property
    def dim(self) -> int:
        """Channels of the output."""

    @property
    def utterance_norm(self) -> UtteranceGroupNorm | None:
        """The norm after the convolution whose statistics run over the whole utterance."""

    @property
    def has_shortcut(self) -> bool:
        """True if the layer adds its input to its output."""

    def convolved(self, x: Tensor) -> Tensor:
        """The convolution (B, C, T) of `x` (B, C', T')."""

    def shortcut(self, x: Tensor, steps: Lengths, num_frames: int) -> Tensor:
        """The summand (B, C, num_frames); frame t of row b stands at `t * steps[b]` of `x`."""

    def finished(self, y: Tensor, shortcut: Tensor | None, num_frames: Lengths) -> Tensor:
        """The output (B, C, T) of the normed `y` (B, C, T) with valid frames `num_frames`."""


class StackModule(nn.Module):
    """A layer of a stack that is a module: called as one where the whole batch is computed."""

    @property
    def parts(self) -> Sequence[nn.Module]:
        return (self,)

    def forward(self, x: Tensor, lengths: Lengths) -> Tensor:
        """Output (B, C, T) for `x` (B, C', T') with true `lengths`."""
        return run_whole(cast("StackLayer", self), x, lengths)


def run_whole(layer: StackLayer, x: Tensor, lengths: Lengths) -> Tensor:
    """Output (B, C, T) of a layer for `x` (B, C', T') with true `lengths`."""
    num_frames = _through(layer.window, lengths)
    y = layer.convolved(x)
    shortcut = None
    if layer.has_shortcut:
        shortcut = layer.shortcut(x, _steps(lengths, num_frames), y.shape[2])
    if layer.utterance_norm is not None:
        y = layer.utterance_norm(y, num_frames)
    return layer.finished(y, shortcut, num_frames)


def run_stack(
    layers: Sequence[StackLayer], x: Tensor, lengths: Lengths, *, is_training: bool = False
) -> tuple[Tensor, Lengths]:
    """Output (B, D, T) of the layers for `x` (B, C, S) with true `lengths`, and its valid frames.

    A long batch is computed a chunk at a time, unless `is_training`, where batch norm needs all
    of it. What a norm over the utterance needs is gathered by a pass of its own, from the last
    layer whose output could be held.
    """
    parts = [part for layer in layers for part in _called(layer)]
    if not is_training and not isinstance(lengths, Tensor):
        geometry = FrameGeometry(tuple(layer.window for layer in layers))
        num_frames = geometry.num_frames(max(lengths))
        if len(chunks(num_frames, _bytes_per_frame(layers, x), parts)) > 1:
            return _run_in_chunks(layers, x, lengths)
    for layer in layers:
        run = layer if isinstance(layer, nn.Module) else partial(run_whole, layer)
        x = run(x, lengths)
        lengths = _through(layer.window, lengths)
    return x, lengths


def _called(layer: StackLayer) -> Sequence[nn.Module]:
    """The modules of a layer that decide whether it may be computed without a call of it."""
    # A wrapper in its place may have its attributes, `parts` among them, and does more.
    is_wrapper = isinstance(layer, nn.Module) and not isinstance(layer, StackModule)
    return (cast("nn.Module", layer),) if is_wrapper else layer.parts


def _run_in_chunks(
    layers: Sequence[StackLayer], x: Tensor, lengths: Sequence[int]
) -> tuple[Tensor, list[int]]:
    """As `run_stack`, without gradients."""
    chain = _Chain(x, lengths)
    for index, layer in enumerate(layers):
        is_last = index + 1 == len(layers)
        chain.layers.append(layer)
        if layer.utterance_norm is None and not is_last:
            continue
        is_held = is_last or chain.output_bytes() <= HELD_BYTES
        # What a shortcut adds is only there where the layer before it is held or computed.
        finds_shortcut = not layer.has_shortcut or len(chain.layers) == 1
        if layer.utterance_norm is not None and is_held and finds_shortcut:
            output = chain.new_output()
            chain.measure(output)
            chain = chain.finished(output)
            continue
        if layer.utterance_norm is not None:
            chain.measure()
        if is_held:
            chain = chain.computed()
    return chain.x, list(chain.lengths)


@dataclasses.dataclass
class _Chain:
    """Layers that are computed chunk by chunk from what is held.

    Attributes:
        x: What is held, (B, C, S).
        lengths: Its valid lengths.
        layers: The layers, in order.
        terms: What the norm of each does (None for no such norm), of those that are measured.
    """

    x: Tensor
    lengths: Sequence[int]
    layers: list[StackLayer] = dataclasses.field(default_factory=list)
    terms: list[NormTerms | None] = dataclasses.field(default_factory=list)

    @property
    def geometry(self) -> FrameGeometry:
        return FrameGeometry(tuple(layer.window for layer in self.layers))

    @property
    def num_frames(self) -> list[int]:
        """Valid frames of the last layer."""
        return [self.geometry.num_frames(length) for length in self.lengths]

    def output_bytes(self) -> int:
        """Bytes of the last layer's whole output."""
        elements = len(self.x) * self.layers[-1].dim * max(self.num_frames)
        return elements * self.x.element_size()

    def new_output(self) -> Tensor:
        """Room for the last layer's whole output; what is on padding stays 0."""
        shape = len(self.x), max(self.num_frames), self.layers[-1].dim
        return self.x.new_zeros(shape).transpose(1, 2)  # a frame's channels lie side by side

    def measure(self, output: Tensor | None = None) -> None:
        """Gather what the last layer's norm needs; put what it is a norm of into `output`."""
        norm = self.layers[-1].utterance_norm
        assert norm is not None
        self.terms += [None] * (len(self.layers) - 1 - len(self.terms))
        statistics = UtteranceStatistics(len(self.x), norm.num_groups, self.x.device)
        hop, num_frames = self.geometry.hop_samples, self.num_frames
        for chunk in self._chunks():
            x = self._through(chunk, self.layers[:-1])
            own = chunk.own(self.layers[-1].convolved(x), hop)
            counts = _within(
                [num_frames[row] for row in chunk.rows], chunk.frames.start, own.shape[2]
            )
            statistics.add(own, counts, chunk.rows)
            if output is not None:
                chunk.write(output, own, hop)
        values = torch.float64 if self.x.dtype == torch.float64 else torch.float32
        self.terms.append(statistics.terms(norm, values))

    def computed(self) -> _Chain:
        """The chain after the last layer, whose output is computed and held."""
        self.terms += [None] * (len(self.layers) - len(self.terms))
        output, hop = self.new_output(), self.geometry.hop_samples
        for chunk in self._chunks():
            chunk.write(output, chunk.own(self._through(chunk, self.layers), hop), hop)
        return _Chain(output, self.num_frames)

    def finished(self, output: Tensor) -> _Chain:
        """The chain after the last layer, from its input to the norm, which `output` holds."""
        layer, terms = self.layers[-1], self.terms[-1]
        assert terms is not None
        num_frames = self.num_frames
        steps = _steps(self.lengths, num_frames) if layer.has_shortcut else []
        rows = range(len(output))
        for chunk in self._chunks():
            y = output[:, :, chunk.frames]
            shortcut = None
            if layer.has_shortcut:
                x = self.x[:, :, chunk.frames.start * layer.window.stride :]
                shortcut = layer.shortcut(x, steps, y.shape[2])
            counts = _within(num_frames, chunk.frames.start, y.shape[2])
            y.copy_(layer.finished(terms(y, rows), shortcut, counts))
        return _Chain(output, num_frames)

    def _chunks(self) -> list[HaloChunk]:
        # A shortcut's steps are the stride but for utterances that are shorter than a window:
        # these must lie in one chunk.
        has_shortcut = any(layer.has_shortcut for layer in self.layers)
        longest = max(layer.window.size for layer in self.layers)
        return halo_chunks(
            self.lengths,
            self.geometry,
            _bytes_per_frame(self.layers, self.x),
            (),
            min_frames=longest if has_shortcut else 1,
        )

    def _through(self, chunk: HaloChunk, layers: Sequence[StackLayer]) -> Tensor:
        """Output of `layers` for the chunk's part of what is held."""
        x = chunk.of(self.x)
        lengths: Lengths = chunk.lengths
        whole: Lengths = [self.lengths[row] for row in chunk.rows]
        for layer, terms in zip(layers, self.terms, strict=False):
            before, whole = whole, _through(layer.window, whole)
            lengths = _through(layer.window, lengths)
            y = layer.convolved(x)
            shortcut = None
            if layer.has_shortcut:
                shortcut = layer.shortcut(x, _steps(before, whole), y.shape[2])
            x = layer.finished(y if terms is None else terms(y, chunk.rows), shortcut, lengths)
        return x


def _through(window: Window, lengths: Lengths) -> Lengths:
    """Frames that the window gives for inputs of these lengths."""
    return frames_of(FrameGeometry((window,)), lengths)


def _steps(before: Lengths, after: Lengths) -> Lengths:
    """Inputs for each output, by each utterance's own lengths."""
    if isinstance(before, Tensor):
        return before // as_tensor(after, before.device).clamp(min=1)
    assert not isinstance(after, Tensor)
    return [old // new for old, new in zip(before, after, strict=True)]


def _within(counts: Sequence[int], start: int, num_frames: int) -> list[int]:
    """Valid ones of `num_frames` frames from `start` on, where `counts` are valid in all."""
    return [min(max(count - start, 0), num_frames) for count in counts]


def _bytes_per_frame(layers: Sequence[StackLayer], x: Tensor) -> int:
    """Bytes of the largest output per frame of the last layer, as `chunks` takes them."""
    largest, hop = 0, 1
    for layer in reversed(layers):
        largest = max(largest, layer.dim * hop)
        hop *= layer.window.stride
    share = CPU_SHARE if runs_on_cpu(x) else 1
    return share * largest * x.shape[0] * x.element_size()
