"""The Transformer encoder that Mockingjay, TERA and Audio ALBERT share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from auricle.frontends import FbankConfig, LogMelConfig
from auricle.info import LayerInfo
from auricle.models.base import FeatureConfig, FeatureEncoder
from auricle.nn.bert import BertConfig, BertEncoder


class SpectralBertConfig(FeatureConfig, frozen=True, kw_only=True):
    """Configuration of a Transformer over spectral frames.

    Attributes:
        features: The front end (section `audio` of a published file).
        transformer: The layers (sections `transformer` and `task`).
    """

    features: FbankConfig | LogMelConfig = LogMelConfig()
    transformer: BertConfig = BertConfig()


class SpectralBert(FeatureEncoder):
    """A Transformer over spectral frames; every frame attends to the whole utterance."""

    looks_ahead = True
    config: SpectralBertConfig

    def __init__(self, config: SpectralBertConfig) -> None:
        super().__init__(config)
        self.bert = BertEncoder(config.transformer, input_dim=config.features.dim)

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        transformer = self.config.transformer
        names = ["input", *(f"layer_{index + 1}" for index in range(transformer.num_layers))]
        return tuple(
            LayerInfo(
                name=name, dim=transformer.hidden_size, geometry=self.config.features.geometry
            )
            for name in names
        )

    def encode(
        self, waveforms: Tensor, num_samples: Sequence[int], wanted: frozenset[str]
    ) -> Iterator[tuple[str, Tensor]]:
        num_frames = [self.config.features.num_frames(count) for count in num_samples]
        states = iter(self.bert(self.features(waveforms, num_samples), num_frames))
        del waveforms
        for info in self.layer_infos:
            # Held by nobody, so that a long one makes room for what comes next.
            if info.name in wanted:
                yield info.name, next(states)
            else:
                next(states)
