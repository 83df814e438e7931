"""WavLM: masked prediction and denoising with a Transformer (arXiv:2110.13900)."""

from __future__ import annotations

from auricle.models.wav2vec2_encoder import (
    WaveformTransformerConfig,
    WaveformTransformerEncoder,
)
from auricle.nn.relative_positions import RelativePositionConfig
from auricle.nn.waveform_extractor import ExtractorConfig
from auricle.nn.waveform_transformer import TransformerConfig

_BASE = TransformerConfig(relative_positions=RelativePositionConfig())


class WavLmConfig(WaveformTransformerConfig, frozen=True, kw_only=True):
    """Configuration of a WavLM encoder."""

    transformer: TransformerConfig = _BASE

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.transformer.relative_positions is None:
            raise ValueError("a WavLM must have relative_positions, but this one has none")


class WavLm(WaveformTransformerEncoder):
    """WavLM: a Transformer whose attention knows distances, trained on speech mixed with noise."""

    family = "wavlm"
    config_type = WavLmConfig
    config: WavLmConfig


PRESETS = {
    "wavlm_base": WavLmConfig(projection_dropout=0.1),
    "wavlm_base_plus": WavLmConfig(projection_dropout=0.1),
    "wavlm_large": WavLmConfig(
        normalize=True,
        extractor=ExtractorConfig(norm="layer"),
        transformer=TransformerConfig(
            hidden_size=1024,
            num_layers=24,
            num_heads=16,
            ffn_size=4096,
            pre_layer_norm=True,
            relative_positions=RelativePositionConfig(),
            dropout=0.0,
            attention_dropout=0.0,
            layer_drop=0.0,
        ),
    ),
}
