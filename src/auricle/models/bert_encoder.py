"""The Transformer encoder that Mockingjay, TERA and Audio ALBERT share."""

from __future__ import annotations

from collections.abc import Iterator

from auricle.frontends import FbankConfig, LogMelConfig
from auricle.info import LayerInfo
from auricle.models.base import FeatureEncoder
from auricle.models.definition import FeatureConfig
from auricle.nn.batch import Batch, Layout
from auricle.nn.bert import BertConfig, BertEncoder
from auricle.nn.cpu.policy import may_pack


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

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        features = self.features(batch)
        is_packed = may_pack(features.lengths, self.bert)
        layout = Layout(features.lengths, is_packed=is_packed)
        states = iter(self.bert(features.values, layout))
        del batch, features
        for info in self.layer_infos:
            # Do not bind the output: no reference may keep it alive while the next layer runs.
            if info.name in wanted:
                yield info.name, Batch(next(states), layout)
            else:
                next(states)
