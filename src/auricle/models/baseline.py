"""Baselines: spectral features as encoders without weights, to compare against."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from auricle.frontends import FbankConfig, LogMelConfig
from auricle.info import LayerInfo
from auricle.models.base import FeatureEncoder
from auricle.models.definition import FeatureConfig
from auricle.nn.batch import Batch


class BaselineConfig(FeatureConfig, frozen=True, kw_only=True):
    """Configuration of a baseline: the front end alone."""

    features: FbankConfig | LogMelConfig = FbankConfig()


class Baseline(FeatureEncoder):
    """Spectral features under the contract of an encoder."""

    family = "baseline"
    config_type = BaselineConfig
    config: BaselineConfig

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        # Without weights this alone says where `to` has put the encoder.
        self.register_buffer("_place", torch.empty(0, device="cpu"), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.get_buffer("_place").device

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        features = self.config.features
        return (LayerInfo(name="features", dim=features.dim, geometry=features.geometry),)

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        yield "features", self.features(batch)
