"""APC and VQ-APC: autoregressive predictive coding (arXiv:1904.03240, 2005.08392)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn

from auricle.frontends import FbankConfig
from auricle.inference.streaming.norms import NormFunction
from auricle.inference.streaming.stages import CODES, PerFrame, Recurrent, Stage, Step
from auricle.info import LayerInfo
from auricle.models.base import FeatureEncoder
from auricle.models.definition import FeatureConfig
from auricle.nn.batch import Batch
from auricle.nn.layers import check_depth
from auricle.nn.quantizer import CodebookConfig, LogitQuantizer, check_codebook_widths
from auricle.nn.recurrent import GruStack


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
