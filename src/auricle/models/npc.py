"""NPC: non-autoregressive predictive coding (arXiv:2011.00406)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.frontends import FbankConfig
from auricle.inference.stages import Step
from auricle.info import FrameGeometry, LayerInfo, Window
from auricle.models.base import FeatureEncoder
from auricle.models.definition import FeatureConfig
from auricle.nn.batch import Batch, Lengths, pad_rows, padding_mask, zero_padding
from auricle.nn.conv import Conv1d, Linear, as_windows, frame_windows
from auricle.nn.cpu import prepack
from auricle.nn.cpu.policy import HaloChunk, halo_chunks, may_overwrite
from auricle.nn.layers import ACTIVATIONS, check_depth, dropout
from auricle.nn.norms import BatchNorm, over_valid_frames
from auricle.nn.quantizer import CodebookConfig, LogitQuantizer, check_codebook_widths

BLOCK_KERNEL = 3
"""Frames that a block's convolution spans; each side of the mask grows by one per block."""

BLOCK_WINDOW = Window(size=BLOCK_KERNEL, pad_left=BLOCK_KERNEL // 2, pad_right=BLOCK_KERNEL // 2)


class NpcConfig(FeatureConfig, frozen=True, kw_only=True):
    """Configuration of an NPC encoder.

    Attributes:
        features: The fbank front end (`config.data.audio`).
        num_blocks: Convolution blocks (`paras.n_blocks`; 4 in the paper).
        hidden_size: Channels of each block (`paras.hidden_size`; 512 in the paper).
        kernel_size: Frames that a masked convolution spans, odd (`paras.kernel_size`; 15).
        mask_size: Frames around a frame that are kept from its prediction
            (`paras.mask_size`; 5).
        activation: After each block (`paras.activate`).
        dropout: Dropout in training (`paras.dropout`).
        residual: Whether blocks from the second on add their input (`paras.residual`).
        batch_norm: Whether blocks normalise (`paras.batch_norm`).
        cross_layer: Whether every block feeds the sum, or the last alone
            (not `paras.disable_cross_layer`).
        bottleneck_dim: Width of a linear bottleneck that is the representation
            (`paras.dim_bottleneck`), or None.
        codebooks: The quantiser (`paras.vq`; 4 of 64 x 128 in the paper), empty for none.
        gumbel_temperature: Temperature of the Gumbel softmax in pretraining (`paras.vq`).
    """

    features: FbankConfig = FbankConfig(window="hamming", cmvn=True)
    num_blocks: int = 4
    hidden_size: int = 512
    kernel_size: int = 15
    mask_size: int = 5
    activation: Literal["relu", "tanh"] = "relu"
    dropout: float = 0.1
    residual: bool = True
    batch_norm: bool = True
    cross_layer: bool = True
    bottleneck_dim: int | None = None
    codebooks: tuple[CodebookConfig, ...] = (CodebookConfig(num_entries=64, dim=128),) * 4
    gumbel_temperature: float = 1.0

    def __post_init__(self) -> None:
        check_depth(self.num_blocks)
        if self.hidden_size < 1:
            raise ValueError(f"hidden_size must be at least 1, but is {self.hidden_size}")
        if self.kernel_size % 2 == 0 or self.mask_size < 0:
            raise ValueError(
                "kernel_size must be odd and mask_size at least 0, but they are "
                f"{self.kernel_size} and {self.mask_size}"
            )
        if self.mask_taps(self.num_blocks - 1) >= self.kernel_size:
            raise ValueError(
                f"the last block's mask must leave taps of the kernel of {self.kernel_size}, but "
                f"hides {self.mask_taps(self.num_blocks - 1)}"
            )
        if self.bottleneck_dim is not None and self.codebooks:
            raise ValueError("an NPC has a bottleneck or codebooks, but this one has both")
        check_codebook_widths(self.codebooks, self.hidden_size)

    @property
    def masked_window(self) -> Window:
        """Sliding window of a masked convolution."""
        half = self.kernel_size // 2
        return Window(size=self.kernel_size, pad_left=half, pad_right=half)

    def mask_taps(self, block: int) -> int:
        """Middle taps that the masked convolution after block `block` (from 0) hides."""
        return self.mask_size + 2 * (block + 1)


class NpcBlock(nn.Module):
    """Convolution over 3 frames, then over 1, with an optional residual."""

    def __init__(self, config: NpcConfig, *, input_dim: int, residual: bool) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.dropout = config.dropout
        self.residual = residual
        width = config.hidden_size
        self.conv = Conv1d(input_dim, width, BLOCK_KERNEL, padding=BLOCK_KERNEL // 2)
        self.linear = Conv1d(width, width, 1)
        self.bn1 = BatchNorm(width) if config.batch_norm else None
        self.bn2 = BatchNorm(width) if config.batch_norm else None

    def forward(self, x: Tensor, num_frames: Lengths) -> Tensor:
        """Output (B, hidden_size, T) for `x` (B, input_dim, T) with zeros on padding."""
        y = self.conv(x)
        y = self.activation(y if self.bn1 is None else over_valid_frames(self.bn1, y, num_frames))
        y = self.linear(y)
        y = y if self.bn2 is None else over_valid_frames(self.bn2, y, num_frames)
        y = dropout(y, self.dropout, self.training)
        return self.activation(y + x if self.residual else y)


class MaskedConv(nn.Module):
    """Convolution that cannot see its middle taps, and tanh (NPC, section 2.2)."""

    def __init__(self, *, dim: int, kernel_size: int, mask_taps: int) -> None:
        super().__init__()
        self.conv = HiddenTapsConv(dim=dim, kernel_size=kernel_size, mask_taps=mask_taps)

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, D, T) for the input `x` (B, D, T)."""
        y: Tensor = self.conv(x)
        return y.tanh_() if may_overwrite(self.conv) else torch.tanh(y)


class HiddenTapsConv(prepack.Prepacking, nn.Conv1d):
    """Convolution that takes its middle taps for zeros, whatever they are."""

    def __init__(self, *, dim: int, kernel_size: int, mask_taps: int) -> None:
        super().__init__(dim, dim, kernel_size, padding=kernel_size // 2)
        self.mask_taps = mask_taps

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, D, T) for the input `x` (B, D, T)."""
        kernel_size = self.kernel_size[0]
        first_hidden = (kernel_size - self.mask_taps) // 2
        if prepack.is_packable(x, self.weight):
            rows = [self._by_seen_taps(frames, first_hidden) for frames in x.transpose(1, 2)]
            return pad_rows(rows).transpose(1, 2)
        taps = torch.arange(kernel_size, device=x.device)
        is_hidden = (taps >= first_hidden) & (taps < first_hidden + self.mask_taps)
        weight = self.weight.masked_fill(is_hidden, 0.0)
        output: Tensor = self._conv_forward(x, weight, self.bias)
        return output

    def _by_seen_taps(self, frames: Tensor, first_hidden: int) -> Tensor:
        """The sum (T, D) over the taps that are not hidden, for frames (T, D)."""
        kernel_size, num_frames = self.kernel_size[0], len(frames)
        half, end = kernel_size // 2, first_hidden + self.mask_taps
        padded = F.pad(frames, (0, 0, half, half))
        before = frame_windows(padded, first_hidden, stride=1)[:num_frames]
        after = frame_windows(padded[end:], kernel_size - end, stride=1)
        weight = prepack.packed_weight(self, self.weight, layout=_seen_taps(first_hidden, end))
        return prepack.packed_linear(torch.cat([before, after], dim=1), weight, self.bias)


@lru_cache
def _seen_taps(first_hidden: int, end: int) -> prepack.WeightLayout:
    """Makes the matrix (N, taps * C) of a weight (N, C, K) without its taps of this range."""
    return lambda weight: as_windows(
        torch.cat([weight[:, :, :first_hidden], weight[:, :, end:]], dim=2)
    )


class Npc(FeatureEncoder):
    """NPC: a frame from its neighbours alone, by convolutions that hide the frame itself."""

    family = "npc"
    config_type = NpcConfig
    config: NpcConfig

    def __init__(self, config: NpcConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.blocks = nn.ModuleList(
            NpcBlock(
                config,
                input_dim=config.features.dim if index == 0 else width,
                residual=config.residual and index > 0,
            )
            for index in range(config.num_blocks)
        )
        self.masked_convs = nn.ModuleDict(
            {
                str(index): MaskedConv(
                    dim=width, kernel_size=config.kernel_size, mask_taps=config.mask_taps(index)
                )
                for index in self._masked_blocks
            }
        )
        if config.bottleneck_dim is not None:
            self.bottleneck = Linear(width, config.bottleneck_dim, bias=False)
        self.quantizer = LogitQuantizer(config.codebooks)

    @property
    def _masked_blocks(self) -> range:
        """Blocks (from 0) whose output a masked convolution reads."""
        first = 0 if self.config.cross_layer else self.config.num_blocks - 1
        return range(first, self.config.num_blocks)

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        config = self.config
        layers = []
        frames = config.features.geometry
        for index in range(config.num_blocks):
            frames = frames.then(BLOCK_WINDOW)
            layers.append(
                LayerInfo(name=f"block_{index + 1}", dim=config.hidden_size, geometry=frames)
            )
            if index in self._masked_blocks:
                layers.append(
                    LayerInfo(
                        name=f"masked_{index + 1}",
                        dim=config.hidden_size,
                        geometry=frames.then(config.masked_window),
                    )
                )
        summed = frames.then(config.masked_window)
        layers.append(
            LayerInfo(
                name="masked_sum",
                dim=config.hidden_size,
                geometry=summed,
                num_codebooks=len(config.codebooks),
            )
        )
        if config.bottleneck_dim is not None:
            layers.append(LayerInfo(name="bottleneck", dim=config.bottleneck_dim, geometry=summed))
        return tuple(layers)

    def code_indices(self, frames: Batch) -> Batch:
        return Batch(self.quantizer.indices(frames.values), frames.layout)

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        yield from self.encode_features(self.features(batch), wanted)

    def encode_features(
        self, features: Batch, wanted: frozenset[str]
    ) -> Iterator[tuple[str, Batch]]:
        """As `encode`, of features (B, T, D) that are padded with zeros."""
        x, num_frames = features.values.transpose(1, 2), features.lengths
        layers = self._layers(x, num_frames, wanted)
        if not isinstance(num_frames, Tensor):
            called = (*self.blocks, *self.masked_convs.values())
            parts = halo_chunks(num_frames, self._reach, self._bytes_per_frame(x), called)
            if len(parts) > 1:
                layers = self._layers_in_parts(x, parts, wanted)
        for name, y in layers:
            yield name, Batch(y, features.layout)

    def _layers_in_parts(
        self, x: Tensor, parts: list[HaloChunk], wanted: frozenset[str]
    ) -> Iterator[tuple[str, Tensor]]:
        """As `_layers`, those that are wanted, a part of the frames at a time."""
        outputs: dict[str, Tensor] = {}
        for part in parts:
            missing = set(wanted)
            for name, y in self._layers(part.of(x), part.lengths, wanted):
                if name in wanted:
                    missing.remove(name)
                    if name not in outputs:
                        outputs[name] = y.new_zeros(len(x), y.shape[2], x.shape[2])
                    part.write(outputs[name], part.own(y.transpose(1, 2), hop=1), hop=1)
                if not missing:
                    break
        for name in list(outputs):
            yield name, outputs.pop(name).transpose(1, 2)

    @property
    def _reach(self) -> FrameGeometry:
        """Receptive field of a frame of the deepest layer, over the features."""
        blocks = (BLOCK_WINDOW,) * self.config.num_blocks
        return FrameGeometry((*blocks, self.config.masked_window))

    def _bytes_per_frame(self, x: Tensor) -> int:
        # In training, batch norm needs the whole at once.
        return 0 if self.training else x.shape[0] * self.config.hidden_size * x.element_size()

    def _layers(
        self, x: Tensor, num_frames: Lengths, wanted: frozenset[str]
    ) -> Iterator[tuple[str, Tensor]]:
        """The layers (B, T, D) by name, of features (B, D, T)."""
        padding = padding_mask(num_frames, x.shape[2], x.device)
        wants_sum = not wanted.isdisjoint({"masked_sum", "bottleneck"})
        masked_sum = None
        for index, block in enumerate(self.blocks):
            x = zero_padding(block(x, num_frames), padding, time_dim=2)
            yield f"block_{index + 1}", x.transpose(1, 2)
            name = f"masked_{index + 1}"
            if index in self._masked_blocks and (wants_sum or name in wanted):
                masked = self.masked_convs[str(index)](x)
                masked_sum = masked if masked_sum is None else masked_sum + masked
                yield name, masked.transpose(1, 2)
        if masked_sum is not None:
            representation = masked_sum.transpose(1, 2)
            yield "masked_sum", representation
            if self.config.bottleneck_dim is not None:
                yield "bottleneck", self.bottleneck(representation)

    def stream_steps(self) -> Iterator[Step]:
        raise self.stream_refusal(
            "its convolutions look ahead as far as they look back, in every block"
        )
