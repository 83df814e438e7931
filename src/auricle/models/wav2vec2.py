"""wav2vec 2.0: a Transformer over masked latent frames of the waveform (arXiv:2006.11477)."""

from __future__ import annotations

from auricle.models.wav2vec2_encoder import (
    WaveformTransformerConfig,
    WaveformTransformerEncoder,
)
from auricle.nn.waveform_extractor import ExtractorConfig
from auricle.nn.waveform_transformer import TransformerConfig


class Wav2Vec2Config(WaveformTransformerConfig, frozen=True, kw_only=True):
    """Configuration of a wav2vec 2.0 encoder."""


class Wav2Vec2(WaveformTransformerEncoder):
    """wav2vec 2.0: a Transformer trained to tell a masked frame's quantised latent from others."""

    family = "wav2vec2"
    config_type = Wav2Vec2Config
    config: Wav2Vec2Config


def _large_lv60(*, num_layers: int, hidden_size: int, ffn_size: int) -> Wav2Vec2Config:
    """A size of the kind that began with Large LV-60: layer norms first, all convolutions too."""
    return Wav2Vec2Config(
        normalize=True,
        extractor=ExtractorConfig(norm="layer", bias=True),
        projection_dropout=0.1,
        transformer=TransformerConfig(
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=16,
            ffn_size=ffn_size,
            pre_layer_norm=True,
            dropout=0.0,
            layer_drop=0.0,
        ),
    )


_LARGE = _large_lv60(num_layers=24, hidden_size=1024, ffn_size=4096)

PRESETS = {
    "wav2vec2_base_960": Wav2Vec2Config(projection_dropout=0.1),
    "wav2vec2_large_960": Wav2Vec2Config(
        projection_dropout=0.1,
        transformer=TransformerConfig(
            hidden_size=1024, num_layers=24, num_heads=16, ffn_size=4096, layer_drop=0.2
        ),
    ),
    "wav2vec2_large_ll60k": _LARGE,
    "wav2vec2_large_lv60_cv_swbd_fsh": _LARGE,
    "xlsr_53": _LARGE,
    "xls_r_300m": _LARGE,
    "xls_r_1b": _large_lv60(num_layers=48, hidden_size=1280, ffn_size=5120),
    "xls_r_2b": _large_lv60(num_layers=48, hidden_size=1920, ffn_size=7680),
}
