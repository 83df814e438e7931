"""Tiny mel: one linear layer over each frame of a log mel spectrogram."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from auricle.frontends import LogMelConfig
from auricle.info import LayerInfo
from auricle.models.base import FeatureEncoder
from auricle.models.definition import FeatureConfig
from auricle.nn.batch import Batch


class TinyMelConfig(FeatureConfig, frozen=True, kw_only=True):
    """Configuration of a tiny mel encoder.

    Attributes:
        features: The log mel front end.
        dim: Width of the representation.
    """

    features: LogMelConfig = LogMelConfig(kind="mel")
    dim: int = 16

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, but is {self.dim}")


class TinyMel(FeatureEncoder):
    """The spectrogram, and a projection of each of its frames."""

    family = "tiny_mel"
    config_type = TinyMelConfig
    config: TinyMelConfig

    def __init__(self, config: TinyMelConfig) -> None:
        super().__init__(config)
        self.projection = nn.Linear(config.features.dim, config.dim)

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        features = self.config.features
        return (
            LayerInfo(name="input", dim=features.dim, geometry=features.geometry),
            LayerInfo(name="projection", dim=self.config.dim, geometry=features.geometry),
        )

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        features = self.features(batch)
        yield "input", features
        yield "projection", Batch(self.projection(features.values), features.layout)
