"""PASE and PASE+: problem-agnostic speech encoders (arXiv:1904.03416, 2001.09239)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from auricle.inference.stages import Step
from auricle.info import FrameGeometry, LayerInfo, Window
from auricle.models.base import Encoder
from auricle.models.definition import Config
from auricle.nn.batch import Batch, Layout, Lengths, as_ints, frames_of
from auricle.nn.conv import Conv1d, SincConv, reflect_pad
from auricle.nn.cpu.policy import HaloChunk, halo_chunks, map_chunks
from auricle.nn.layers import check_depth
from auricle.nn.norms import BatchNorm, over_valid_frames
from auricle.nn.recurrent import QrnnStack
from auricle.nn.subsampling import average_groups, partial_averages

PASE_KERNEL_SIZES = (251, 20, 11, 11, 11, 11, 11, 11)
PASE_STRIDES = (1, 10, 2, 1, 2, 1, 2, 2)
PASE_DIMS = (64, 64, 128, 128, 256, 256, 512, 512)
"""The blocks of both papers' models; 160 samples from frame to frame."""


SUM_OF_SKIPS = "sum of skips"
"""Name of what the embedding adds of all skips, where none is wanted for itself."""


class PaseConfig(Config, frozen=True, kw_only=True):
    """Configuration of a PASE encoder; the defaults are those of the first paper.

    Attributes:
        kernel_sizes: Taps of each block's convolution, the first odd (`kwidths`).
        strides: Step of each block's convolution (`strides`).
        block_dims: Channels of each block (`fmaps`).
        embedding_dim: Width of the projection (`emb_dim`; 100, PASE+ 256).
        rnn_dim: Width of the QRNN before the projection (`rnn_dim`; PASE+ 512), None for no QRNN
            (`rnn_pool`).
        num_rnn_layers: Layers of the QRNN (`rnn_layers`; 1).
        rnn_dropout: Dropout between its layers in training (`rnn_dropout`).
        skip_merge: How projections of the blocks but the last join the embedding (`denseskips`,
            `densemerge`; PASE+ `sum`), None for none of them.
        normalizes_output: Whether a norm by running statistics ends it (`norm_out`).
    """

    kernel_sizes: tuple[int, ...] = PASE_KERNEL_SIZES
    strides: tuple[int, ...] = PASE_STRIDES
    block_dims: tuple[int, ...] = PASE_DIMS
    embedding_dim: int = 100
    rnn_dim: int | None = None
    num_rnn_layers: int = 1
    rnn_dropout: float = 0.0
    skip_merge: Literal["sum", "concat"] | None = None
    normalizes_output: bool = True

    def __post_init__(self) -> None:
        check_depth(len(self.block_dims))
        check_depth(self.num_rnn_layers)
        if not len(self.kernel_sizes) == len(self.strides) == len(self.block_dims):
            raise ValueError(
                "kernel_sizes, strides and block_dims must be equally long, but have "
                f"{len(self.kernel_sizes)}, {len(self.strides)} and {len(self.block_dims)} entries"
            )
        widths = (self.embedding_dim, 1 if self.rnn_dim is None else self.rnn_dim)
        if min(*self.kernel_sizes, *self.strides, *self.block_dims, *widths) < 1:
            raise ValueError(
                "kernel_sizes, strides, block_dims, embedding_dim and rnn_dim must be at least 1, "
                f"but are {self.kernel_sizes}, {self.strides}, {self.block_dims}, "
                f"{self.embedding_dim} and {self.rnn_dim}"
            )
        if self.kernel_sizes[0] % 2 == 0:
            raise ValueError(
                f"kernel_sizes must begin with an odd one, but are {self.kernel_sizes}"
            )

    @property
    def windows(self) -> tuple[Window, ...]:
        """Sliding window of each block over the output of the one before, padding included."""
        return tuple(
            _block_window(size, stride)
            for size, stride in zip(self.kernel_sizes, self.strides, strict=True)
        )

    @property
    def num_skips(self) -> int:
        """Blocks whose output is projected onto the embedding."""
        return 0 if self.skip_merge is None else len(self.block_dims) - 1

    @property
    def output_dim(self) -> int:
        """Width of the embedding after the skips have joined it."""
        return self.embedding_dim * (1 + self.num_skips if self.skip_merge == "concat" else 1)


def _block_window(size: int, stride: int) -> Window:
    """A block's convolution; a stride or an even kernel takes one frame off the left padding."""
    is_centred = stride == 1 and size % 2 == 1
    left = size // 2 if is_centred else max(size // 2 - 1, 0)
    return Window(size=size, stride=stride, pad_left=left, pad_right=size // 2)


class PaseBlock(nn.Module):
    """Reflect padding at the valid ends, a convolution, batch norm, PReLU per channel."""

    def __init__(self, conv: nn.Module, window: Window, dim: int) -> None:
        super().__init__()
        self.geometry = FrameGeometry((window,))
        self.window = window
        self.conv = conv
        self.norm = BatchNorm(dim)
        self.activation = nn.PReLU(dim)

    def forward(self, x: Tensor, lengths: Lengths) -> Tensor:
        """Output (B, C, T) for `x` (B, D, S) with valid lengths `lengths`."""
        window = self.window
        x = reflect_pad(x, lengths, left=window.pad_left, right=window.pad_right)
        # Step by step: of a long batch each tensor here takes gigabytes, and is freed at once.
        x = self.conv(x)
        num_frames = frames_of(self.geometry, lengths)
        x = over_valid_frames(self.norm, x, num_frames)
        output: Tensor = self.activation(x)
        return output


class Pase(Encoder):
    """PASE: convolutions over learnt band-pass filters; PASE+ adds a QRNN and dense skips."""

    family = "pase"
    config_type = PaseConfig
    config: PaseConfig

    def __init__(self, config: PaseConfig) -> None:
        super().__init__(config)
        self.blocks = nn.ModuleList()
        for index, (window, dim) in enumerate(zip(config.windows, config.block_dims, strict=True)):
            conv = (
                SincConv(dim, window.size, stride=window.stride)
                if index == 0
                else Conv1d(config.block_dims[index - 1], dim, window.size, window.stride)
            )
            self.blocks.append(PaseBlock(conv, window, dim))
        self.skips = nn.ModuleList(
            nn.Conv1d(dim, config.embedding_dim, 1, bias=False)
            for dim in config.block_dims[: config.num_skips]
        )
        last_dim = config.block_dims[-1]
        if config.rnn_dim is not None:
            self.rnn = QrnnStack(
                input_dim=last_dim,
                hidden_dim=config.rnn_dim,
                num_layers=config.num_rnn_layers,
                dropout=config.rnn_dropout,
            )
            last_dim = config.rnn_dim
        self.project = nn.Conv1d(last_dim, config.embedding_dim, 1)
        if config.normalizes_output:
            self.output_norm = BatchNorm(config.output_dim, affine=False)

    @property
    def sees_past(self) -> bool:
        return self.config.rnn_dim is not None

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        config = self.config
        layers = []
        geometry = FrameGeometry()
        for index, (window, dim) in enumerate(zip(config.windows, config.block_dims, strict=True)):
            geometry = geometry.then(window)
            layers.append(LayerInfo(name=f"block_{index + 1}", dim=dim, geometry=geometry))
        if config.rnn_dim is not None:
            layers.append(LayerInfo(name="rnn", dim=config.rnn_dim, geometry=geometry))
        layers.extend(
            LayerInfo(name=f"skip_{index + 1}", dim=config.embedding_dim, geometry=geometry)
            for index in range(config.num_skips)
        )
        layers.append(LayerInfo(name="embedding", dim=config.output_dim, geometry=geometry))
        return tuple(layers)

    @property
    def min_samples(self) -> int:
        # A frame to mirror on must lie beyond those that are mirrored, in every block.
        count = 1
        for window in reversed(self.config.windows):
            mirrored = max(window.pad_left, window.pad_right)
            count = max(FrameGeometry((window,)).min_samples(count), mirrored + 1)
        return count

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        config, num_samples = self.config, batch.lengths
        x = batch.values.unsqueeze(1)
        geometry = FrameGeometry(config.windows)
        layout = Layout(frames_of(geometry, num_samples))
        layers = self._blocks_whole(x, num_samples, wanted)
        if not isinstance(num_samples, Tensor):
            called = (*self.blocks, *self.skips)
            parts = halo_chunks(num_samples, geometry, self._bytes_per_frame(x), called)
            if len(parts) > 1:
                layers = self._blocks_in_parts(x, num_samples, parts, wanted)
        skips: dict[str, Tensor] = {}
        for name, y in layers:
            if name.startswith("block"):
                x = y
                depth = int(name.removeprefix("block_"))
                yield name, self._of_block(x, depth, num_samples)
            else:
                skips[name] = y
            del y  # no second name keeps a long layer
        if config.rnn_dim is not None and not wanted.isdisjoint({"rnn", "embedding"}):
            x = self.rnn(x.transpose(1, 2)).transpose(1, 2)
            yield "rnn", Batch(x.transpose(1, 2), layout)
        for name, skip in skips.items():
            if name != SUM_OF_SKIPS:
                yield name, Batch(skip.transpose(1, 2), layout)
        if "embedding" in wanted:
            embedding = self._embed(x, list(skips.values()), layout.lengths)
            yield "embedding", Batch(embedding, layout)

    def _of_block(self, x: Tensor, depth: int, num_samples: Lengths) -> Batch:
        """The output (B, C, T) of block `depth`, counted from 1, as a batch (B, T, C)."""
        geometry = FrameGeometry(self.config.windows[:depth])
        return Batch.padded(x.transpose(1, 2), frames_of(geometry, num_samples))

    def _depth(self, wanted: frozenset[str]) -> int:
        """Count of the blocks that are needed."""
        num_blocks = len(self.blocks)
        if not wanted.isdisjoint({"rnn", "embedding"}):
            return num_blocks
        names = [{f"block_{index}", f"skip_{index}"} for index in range(1, num_blocks + 1)]
        return max(
            (index for index, pair in enumerate(names, 1) if not wanted.isdisjoint(pair)), default=0
        )

    def _needs_skip(self, index: int, wanted: frozenset[str]) -> bool:
        names = {"embedding", f"skip_{index + 1}"}
        return index < self.config.num_skips and not wanted.isdisjoint(names)

    def _blocks_whole(
        self, x: Tensor, lengths: Lengths, wanted: frozenset[str]
    ) -> Iterator[tuple[str, Tensor]]:
        """Blocks and the skips that are needed (B, D, T), by name, for waveforms (B, 1, S)."""
        windows = self.config.windows
        num_frames = _lengths(windows, lengths)
        for index, block in enumerate(self.blocks[: self._depth(wanted)]):
            x = block(x, _lengths(windows[:index], lengths))
            yield f"block_{index + 1}", x
            if self._needs_skip(index, wanted):
                # The projection is linear and has no bias: after the average it costs less.
                of_block = _lengths(windows[: index + 1], lengths)
                averages = average_groups(x, as_ints(of_block), as_ints(num_frames))
                yield f"skip_{index + 1}", self.skips[index](averages)

    def _blocks_in_parts(
        self, x: Tensor, lengths: Sequence[int], parts: list[HaloChunk], wanted: frozenset[str]
    ) -> Iterator[tuple[str, Tensor]]:
        """As `_blocks_whole`, but the last block and those that are wanted alone.

        Skips that only the embedding needs are added up as they come, as `SUM_OF_SKIPS`.
        """
        config, depth = self.config, self._depth(wanted)
        # What follows the blocks reads the last one.
        kept = wanted if wanted.isdisjoint({"rnn", "embedding"}) else {*wanted, f"block_{depth}"}
        outputs: dict[str, Tensor] = {}
        for part in parts:
            y = part.of(x)
            for index, block in enumerate(self.blocks[:depth]):
                y = block(y, _lengths(config.windows[:index], part.lengths))
                geometry = FrameGeometry(config.windows[: index + 1])
                own = part.own(y, geometry.hop_samples)
                name, skip_name = f"block_{index + 1}", f"skip_{index + 1}"
                if name in kept:
                    shape = (len(x), y.shape[1], geometry.num_frames(max(lengths)))
                    if name not in outputs:
                        outputs[name] = y.new_zeros(shape)
                    part.write(outputs[name], own, geometry.hop_samples)
                if self._needs_skip(index, wanted):
                    is_summed = config.skip_merge == "sum" and skip_name not in wanted
                    key = SUM_OF_SKIPS if is_summed else skip_name
                    if key not in outputs:
                        most = max(as_ints(_lengths(config.windows, lengths)))
                        outputs[key] = y.new_zeros(len(x), config.embedding_dim, most)
                    self._add_skip(outputs[key], index, own, part, lengths)
        for name in list(outputs):
            yield name, outputs.pop(name)

    def _add_skip(
        self, skip: Tensor, index: int, own: Tensor, part: HaloChunk, lengths: Sequence[int]
    ) -> None:
        """Add to `skip` (B, embedding_dim, T) what a block's `own` frames of a part give."""
        windows = self.config.windows
        geometry, whole = FrameGeometry(windows[: index + 1]), FrameGeometry(windows)
        for row, frames in zip(part.rows, own, strict=True):
            num_groups = whole.num_frames(lengths[row])
            first, shares = partial_averages(
                frames,
                first=part.first(geometry.hop_samples),
                group_size=geometry.num_frames(lengths[row]) // num_groups,
                num_groups=num_groups,
            )
            if shares.shape[1] > 0:
                projected = self.skips[index](shares.unsqueeze(0))
                skip[row, :, first : first + shares.shape[1]] += projected[0]

    def _bytes_per_frame(self, x: Tensor) -> int:
        """Bytes of a batch's largest block per frame of the last one."""
        if self.training:
            return 0  # batch norm needs the whole at once
        hop, largest = 1, 0
        for index in reversed(range(len(self.blocks))):
            largest = max(largest, hop * self.config.block_dims[index])
            hop *= self.config.strides[index]
        return x.shape[0] * largest * x.element_size()

    def _embed(self, x: Tensor, skips: list[Tensor], num_frames: Lengths) -> Tensor:
        """The embedding (B, T, output_dim) of the last features `x` (B, D, T)."""

        def embed(chunk: slice) -> Tensor:
            y: Tensor = self.project(x[:, :, chunk])
            if self.config.skip_merge == "concat":
                y = torch.cat([y, *(skip[:, :, chunk] for skip in skips)], dim=1)
            else:
                for skip in skips:
                    y = y + skip[:, :, chunk]
            if self.config.normalizes_output:
                y = over_valid_frames(self.output_norm, y, num_frames)
            return y.transpose(1, 2)

        widest = max(x.shape[1], self.config.output_dim)
        frame_bytes = 0 if self.training else x.shape[0] * widest * x.element_size()
        called = [self.project, *([self.output_norm] if self.config.normalizes_output else [])]
        return map_chunks(embed, x.shape[2], frame_bytes, called)

    def stream_steps(self) -> Iterator[Step]:
        reason = "its convolutions look ahead in every block, and mirror the end of the waveform"
        if self.config.num_skips:
            reason += "; its skips (PASE+) are averages over groups that the whole length decides"
        raise self.stream_refusal(reason)


def _lengths(windows: tuple[Window, ...], num_samples: Lengths) -> Lengths:
    return frames_of(FrameGeometry(windows), num_samples)
