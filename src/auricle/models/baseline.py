"""Baselines: spectral features as encoders without weights, to compare against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from auricle.frontends import FbankConfig, LogMelConfig
from auricle.models.base import FeatureConfig, FeatureEncoder
from auricle.outputs import LayerInfo


class BaselineConfig(FeatureConfig, frozen=True, kw_only=True):
    """Configuration of a baseline: the front end alone."""

    features: FbankConfig | LogMelConfig = FbankConfig()


class Baseline(FeatureEncoder):
    """Spectral features under the contract of an encoder."""

    family = "baseline"
    config_type = BaselineConfig
    config: BaselineConfig

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        features = self.config.features
        return (LayerInfo(name="features", dim=features.dim, geometry=features.geometry),)

    def encode(
        self, waveforms: Tensor, num_samples: Sequence[int], wanted: frozenset[str]
    ) -> Iterator[tuple[str, Tensor]]:
        yield "features", self.features(waveforms, num_samples)
