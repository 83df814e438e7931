"""data2vec audio: prediction of a teacher's representations (arXiv:2202.03555)."""

from __future__ import annotations

from auricle.models.wav2vec2_encoder import (
    WaveformTransformerConfig,
    WaveformTransformerEncoder,
)
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.waveform_extractor import ExtractorConfig
from auricle.nn.waveform_transformer import TransformerConfig

_POSITIONS = ConvPositionConfig(kind="stack", kernel_size=19, depth=5)
_BASE = TransformerConfig(positions=_POSITIONS)


class Data2VecConfig(WaveformTransformerConfig, frozen=True, kw_only=True):
    """Configuration of a data2vec audio encoder."""

    normalize: bool = True
    extractor: ExtractorConfig = ExtractorConfig(norm="layer")
    transformer: TransformerConfig = _BASE


class Data2Vec(WaveformTransformerEncoder):
    """data2vec audio: a Transformer trained on the average of its own smoothed layers."""

    family = "data2vec"
    config_type = Data2VecConfig
    config: Data2VecConfig
