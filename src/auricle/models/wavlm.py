"""WavLM: masked prediction and denoising with a Transformer (arXiv:2110.13900)."""

from __future__ import annotations

from auricle.models.wav2vec2_encoder import (
    WaveformTransformerConfig,
    WaveformTransformerEncoder,
)
from auricle.nn.relative_positions import RelativePositionConfig
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
