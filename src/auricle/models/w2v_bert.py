"""w2v-BERT 2.0: a Conformer over spectral frames (arXiv:2312.05187)."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from auricle.frontends import FbankConfig
from auricle.info import LayerInfo
from auricle.models.base import FeatureEncoder
from auricle.models.definition import FeatureConfig
from auricle.nn.batch import Batch, Layout
from auricle.nn.chunking import map_chunks
from auricle.nn.conformer import Conformer, ConformerConfig
from auricle.nn.cpu.policy import may_pack
from auricle.nn.linear import Linear

_SEAMLESS_FEATURES = FbankConfig(
    window="povey",
    cmvn=True,
    cmvn_epsilon=1e-7,
    epsilon_in_variance=True,
    stack=2,
    sample_scale=float(1 << 15),
    double_precision=True,
)
"""`SeamlessM4TFeatureExtractor` of transformers."""

_CAUSAL = ConformerConfig(is_causal=True, conv_norm="layer")


class W2vBertConfig(FeatureConfig, frozen=True, kw_only=True):
    """Configuration of a w2v-BERT 2.0 encoder.

    Attributes:
        features: The front end (`preprocessor_config.json`).
        projection_dropout: After the projection in training (`feat_proj_dropout`).
        conformer: The blocks.
    """

    features: FbankConfig = _SEAMLESS_FEATURES
    projection_dropout: float = 0.0
    conformer: ConformerConfig = _CAUSAL


class W2vBert(FeatureEncoder):
    """w2v-BERT 2.0: a Conformer trained on masked frames, to predict codes and find latents.

    Every frame attends to the whole utterance; convolutions see the past alone.
    """

    family = "w2v_bert"
    looks_ahead = True
    config_type = W2vBertConfig
    config: W2vBertConfig

    def __init__(self, config: W2vBertConfig) -> None:
        super().__init__(config)
        width = config.features.dim
        self.projection_norm = nn.LayerNorm(width, eps=config.conformer.layer_norm_eps)
        self.projection = Linear(width, config.conformer.hidden_size)
        self.conformer = Conformer(config.conformer)

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        conformer, geometry = self.config.conformer, self.config.features.geometry
        names = ["input", *(f"layer_{index + 1}" for index in range(conformer.num_layers))]
        return tuple(
            LayerInfo(name=name, dim=conformer.hidden_size, geometry=geometry) for name in names
        )

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        features = self.features(batch)
        layout = Layout(features.lengths, is_packed=may_pack(features.lengths, self.conformer))
        states = self.conformer(self._projected(features.values), layout)
        del batch, features
        yield from self.named_states(states, layout, wanted)

    def _projected(self, features: Tensor) -> Tensor:
        def project(chunk: slice) -> Tensor:
            projected: Tensor = self.projection(self.projection_norm(features[:, chunk]))
            return projected

        width = self.config.conformer.hidden_size
        frame_bytes = 2 * features.shape[0] * width * features.element_size()
        parts = (self.projection_norm, self.projection)
        x = map_chunks(project, features.shape[1], frame_bytes, parts)
        return F.dropout(x, self.config.projection_dropout, self.training)
