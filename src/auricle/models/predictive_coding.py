"""Predictive coding: APC and VQ-APC (autoregressive), CPC and Modified CPC (contrastive).

Papers: arXiv:1904.03240, 2005.08392; 1807.03748, 2002.02848.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

from auricle.frontends import FbankConfig
from auricle.inference.stages import (
    CODES,
    NormFunction,
    PerFrame,
    Recurrent,
    Stage,
    Step,
    StreamGroupNorm,
    StreamWindows,
    convolved,
)
from auricle.info import FrameGeometry, LayerInfo, Window
from auricle.models.base import Encoder, FeatureEncoder
from auricle.models.definition import Config, FeatureConfig
from auricle.nn.batch import Batch, Layout, Lengths, frames_of, pad_rows, padding_mask, zero_padding
from auricle.nn.conv import Conv1d
from auricle.nn.conv_stack import StackModule, run_stack
from auricle.nn.cpu.policy import may_overwrite, takes_one_by_one
from auricle.nn.layers import check_depth
from auricle.nn.norms import BatchNorm, ChannelNorm, UtteranceGroupNorm, over_valid_frames
from auricle.nn.quantizer import CodebookConfig, LogitQuantizer, check_codebook_widths
from auricle.nn.recurrent import Gru, GruStack, recur


class GruConfig(FeatureConfig, frozen=True, kw_only=True):
    """Configuration of unidirectional GRU layers over fbank frames.

    Attributes:
        features: The fbank front end (`config.data.audio`).
        num_layers: GRU layers (`paras.num_layers`; 3 in the papers).
        hidden_size: Width of each layer (`paras.hidden_size`; 512 in the papers).
        dropout: Dropout between layers in training (`paras.dropout`).
        residual: Whether layers from the second on add their input (`paras.residual`).
        num_future: How many frames ahead pretraining predicts (`model.n_future`).
    """

    features: FbankConfig = FbankConfig(window="hamming", cmvn=True)
    num_layers: int = 3
    hidden_size: int = 512
    dropout: float = 0.1
    residual: bool = True
    num_future: int = 5

    def __post_init__(self) -> None:
        check_depth(self.num_layers)
        if self.hidden_size < 1:
            raise ValueError(f"hidden_size must be at least 1, but is {self.hidden_size}")


class GruEncoder(FeatureEncoder):
    """Unidirectional GRU layers over fbank frames, one representation after each."""

    sees_past = True
    is_faster_together = True
    config: GruConfig

    def __init__(self, config: GruConfig) -> None:
        super().__init__(config)
        self.rnn = GruStack(
            input_dim=config.features.dim,
            hidden_dim=config.hidden_size,
            num_layers=config.num_layers,
            dropout=config.dropout,
            residual=config.residual,
        )

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        return self._stack_infos()

    def _stack_infos(self) -> tuple[LayerInfo, ...]:
        """The output of each recurrent layer."""
        return tuple(
            LayerInfo(
                name=f"rnn_{index + 1}",
                dim=self.config.hidden_size,
                geometry=self.config.features.geometry,
            )
            for index in range(self.config.num_layers)
        )

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        features = self.features(batch)
        for index, x in enumerate(self.rnn(features.values, features.lengths)):
            yield f"rnn_{index + 1}", Batch(x, features.layout)

    def stream_steps(self) -> Iterator[Step]:
        yield from super().stream_steps()
        for index, layer in enumerate(self.rnn.layers):
            assert isinstance(layer, nn.GRU)
            residual = self.config.residual and index > 0
            yield Step(f"rnn_{index + 1}", partial(_recurrent, layer, residual))


def _recurrent(layer: nn.GRU, residual: bool, norm: NormFunction) -> Stage:
    return Recurrent(layer, residual=residual)


class ApcConfig(GruConfig, frozen=True, kw_only=True):
    """Configuration of an APC encoder."""


class Apc(GruEncoder):
    """APC: GRU layers that were trained to predict a frame `num_future` ahead."""

    family = "apc"
    config_type = ApcConfig
    config: ApcConfig


class VqApcConfig(GruConfig, frozen=True, kw_only=True):
    """Configuration of a VQ-APC encoder.

    Attributes:
        codebooks: The quantiser after the last layer (`paras.vq`; one of 512 x 512 in the paper).
        gumbel_temperature: Temperature of the Gumbel softmax in pretraining (`paras.vq`).
    """

    codebooks: tuple[CodebookConfig, ...] = (CodebookConfig(num_entries=512, dim=512),)
    gumbel_temperature: float = 0.5

    def __post_init__(self) -> None:
        GruConfig.__post_init__(self)
        check_codebook_widths(self.codebooks, self.hidden_size)


class VqApc(GruEncoder):
    """VQ-APC: the layers of APC, and codes from the quantiser that they were trained through.

    The representation is taken before the quantiser.
    """

    family = "vq_apc"
    config_type = VqApcConfig
    config: VqApcConfig

    def __init__(self, config: VqApcConfig) -> None:
        super().__init__(config)
        self.quantizer = LogitQuantizer(config.codebooks)

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        *others, last = self._stack_infos()
        return (*others, dataclasses.replace(last, num_codebooks=len(self.config.codebooks)))

    def code_indices(self, frames: Batch) -> Batch:
        return Batch(self.quantizer.indices(frames.values), frames.layout)

    def stream_steps(self) -> Iterator[Step]:
        yield from super().stream_steps()

        def codes(x: Tensor) -> Tensor:
            return self.quantizer.indices(x.transpose(1, 2)).transpose(1, 2)

        if self.codes_layer is not None:
            yield Step(CODES, lambda norm: PerFrame(codes))


RUNNING_REFUSAL = (
    "its norm (instance) takes each channel's mean and variance over the whole utterance, and "
    "one frame has no variance"
)
"""The reason why an instance norm cannot go by the moments so far."""

WINDOWS = (
    Window(size=10, stride=5, pad_left=3, pad_right=3),
    Window(size=8, stride=4, pad_left=2, pad_right=2),
    Window(size=4, stride=2, pad_left=1, pad_right=1),
    Window(size=4, stride=2, pad_left=1, pad_right=1),
    Window(size=4, stride=2, pad_left=1, pad_right=1),
)
"""The convolutions; 160 samples from frame to frame (arXiv:1807.03748, section 3.1)."""

MIN_TRAINED_CHANNELS = 128
"""From so many channels on, training on the CPU convolves by products."""

Norm = Literal["layer", "batch", "instance", "none"]
Recurrence = Literal["lstm", "gru", "rnn"]

RECURRENT_LAYERS: dict[Recurrence, type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]] = {
    "lstm": nn.LSTM,
    "gru": Gru,
    "rnn": nn.RNN,
}


class CpcConfig(Config, frozen=True, kw_only=True):
    """Configuration of a CPC encoder; the defaults are Modified CPC's.

    Attributes:
        encoder_dim: Channels of the convolutions (`hiddenEncoder`; 512 in the first paper).
        context_dim: Width of the recurrent layers (`hiddenGar`; 256).
        norm: After each convolution (`normMode`): over the channels of each frame, by running
            statistics, per channel over the utterance, or none.
        recurrence: Kind of recurrent layer (`arMode`; `rnn` is the one with tanh alone).
        num_recurrent_layers: How many of them (`nLevelsGRU`).
    """

    encoder_dim: int = 256
    context_dim: int = 256
    norm: Norm = "layer"
    recurrence: Recurrence = "lstm"
    num_recurrent_layers: int = 1

    def __post_init__(self) -> None:
        check_depth(self.num_recurrent_layers)
        if self.encoder_dim < 1 or self.context_dim < 1:
            raise ValueError(
                "encoder_dim and context_dim must be at least 1, but are "
                f"{self.encoder_dim} and {self.context_dim}"
            )
        if self.norm == "layer" and self.encoder_dim < 2:
            raise ValueError("encoder_dim must be at least 2 under a norm over channels, but is 1")


def _norm_layer(norm: Norm, num_channels: int) -> nn.Module:
    match norm:
        case "layer":
            return ChannelNorm(num_channels)
        case "batch":
            return BatchNorm(num_channels)
        case "instance":
            return UtteranceGroupNorm(num_groups=num_channels, dim=num_channels)
        case "none":
            return nn.Identity()


class CpcBlock(StackModule):
    """A convolution over zero-padded ends, a norm, ReLU."""

    has_shortcut = False

    def __init__(self, config: CpcConfig, window: Window, *, input_dim: int) -> None:
        super().__init__()
        self.window = window
        self.dim = config.encoder_dim
        self.conv = Conv1d(
            input_dim, self.dim, window.size, stride=window.stride, padding=window.pad_left
        )
        self.conv.trains_by_products = input_dim >= MIN_TRAINED_CHANNELS
        self.norm = _norm_layer(config.norm, self.dim)
        self.norm_kind = config.norm

    @property
    def utterance_norm(self) -> UtteranceGroupNorm | None:
        return cast("UtteranceGroupNorm", self.norm) if self.norm_kind == "instance" else None

    def convolved(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y

    def shortcut(self, x: Tensor, steps: Lengths, num_frames: int) -> Tensor:
        raise NotImplementedError  # pragma: no cover - there is none

    def finished(self, y: Tensor, shortcut: Tensor | None, num_frames: Lengths) -> Tensor:
        is_own = may_overwrite(self.conv, self.norm)
        if self.norm_kind == "batch":
            y = over_valid_frames(self.norm, y, num_frames)
        elif self.norm_kind != "instance":
            y = self.norm(y)
        # The next convolution's padding of zeros begins at each utterance's own end.
        mask = padding_mask(num_frames, y.shape[2], y.device)
        y = torch.relu_(y) if is_own else torch.relu(y)
        return zero_padding(y, mask, time_dim=2)


class CpcBlockStage:
    """A block over a stream."""

    def __init__(self, block: CpcBlock, norm: NormFunction) -> None:
        self._block = block
        self._windows = StreamWindows(block.window)
        self._norm = norm

    def __call__(self, x: Tensor, *, is_last: bool) -> Tensor:
        """New frames (1, C, T) out of new ones `x` (1, D, S)."""
        y = convolved(self._block.conv, self._windows(x, is_last=is_last))
        return torch.relu(self._norm(self._normed(y)))

    def _normed(self, y: Tensor) -> Tensor:
        """`y` after a norm that needs nothing but each frame."""
        norm = self._block.norm
        if isinstance(norm, UtteranceGroupNorm):
            return y
        normed: Tensor = norm(y, [y.shape[2]]) if isinstance(norm, BatchNorm) else norm(y)
        return normed


class Cpc(Encoder):
    """CPC: what predicts the frames to come, from a recurrent summary of those so far."""

    family = "cpc"
    config_type = CpcConfig
    sees_past = True
    is_faster_together = True
    config: CpcConfig

    def __init__(self, config: CpcConfig) -> None:
        super().__init__(config)
        self.blocks = nn.ModuleList(
            CpcBlock(config, window, input_dim=1 if index == 0 else config.encoder_dim)
            for index, window in enumerate(WINDOWS)
        )
        self.rnn = RECURRENT_LAYERS[config.recurrence](
            config.encoder_dim,
            config.context_dim,
            num_layers=config.num_recurrent_layers,
            batch_first=True,
        )

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        geometry = FrameGeometry(WINDOWS)
        return (
            LayerInfo(name="encoder", dim=self.config.encoder_dim, geometry=geometry),
            LayerInfo(name="context", dim=self.config.context_dim, geometry=geometry),
        )

    @property
    def min_samples(self) -> int:
        # One frame has no variance over time.
        min_frames = 2 if self.config.norm == "instance" else 1
        return FrameGeometry(WINDOWS).min_samples(min_frames)

    @property
    def uses_utterance_statistics(self) -> bool:
        return self.config.norm == "instance"

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        # A norm over time brings a channel that a steady sound leaves constant, but for rounding
        # and the two ends, to the level of the others: in float32 five of them lose three digits.
        is_wide = self.config.norm == "instance"
        waveforms = batch.values.to(torch.float64 if is_wide else self.dtype)
        blocks = cast("list[CpcBlock]", list(self.blocks))
        if takes_one_by_one(waveforms, batch.lengths, *blocks):
            rows = [
                run_stack(blocks, row[None, None], [len(row)])[0][0].T.to(self.dtype)
                for row in batch.layout.rows(waveforms)
            ]
            x = pad_rows(rows)
        else:
            x, _ = run_stack(
                blocks, waveforms.unsqueeze(1), batch.lengths, is_training=self.training
            )
            x = x.transpose(1, 2).to(self.dtype)
        layout = Layout(frames_of(FrameGeometry(WINDOWS), batch.lengths))
        yield "encoder", Batch(x, layout)
        yield "context", Batch(recur(self.rnn, x, layout.lengths), layout)

    def stream_steps(self) -> Iterator[Step]:
        # As in `encode`: norms over time are computed in float64.
        wide = torch.float64 if self.config.norm == "instance" else self.dtype
        yield Step("waveform", lambda norm: PerFrame(lambda x: x.to(wide)))
        for index, block in enumerate(self.blocks):
            assert isinstance(block, CpcBlock)
            norm = None
            if block.utterance_norm is not None:
                norm = StreamGroupNorm.of(block.utterance_norm, refuses_running=RUNNING_REFUSAL)
            yield Step(f"block_{index + 1}", partial(CpcBlockStage, block), norm)
        yield Step("encoder", lambda norm: PerFrame(lambda x: x.to(self.dtype)))
        yield Step("context", lambda norm: Recurrent(self.rnn))
