"""wav2vec 2.0: a Transformer over masked latent frames of the waveform (arXiv:2006.11477)."""

from __future__ import annotations

from auricle.models.wav2vec2_encoder import (
    WaveformTransformerConfig,
    WaveformTransformerEncoder,
)


class Wav2Vec2Config(WaveformTransformerConfig, frozen=True, kw_only=True):
    """Configuration of a wav2vec 2.0 encoder."""


class Wav2Vec2(WaveformTransformerEncoder):
    """wav2vec 2.0: a Transformer trained to tell a masked frame's quantised latent from others."""

    family = "wav2vec2"
    config_type = Wav2Vec2Config
    config: Wav2Vec2Config
