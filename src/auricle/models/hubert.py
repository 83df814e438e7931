"""HuBERT: masked prediction of hidden units with a Transformer (arXiv:2106.07447)."""

from __future__ import annotations

from auricle.models.wav2vec2_encoder import (
    WaveformTransformerConfig,
    WaveformTransformerEncoder,
)
from auricle.nn.waveform_extractor import ExtractorConfig
from auricle.nn.waveform_transformer import TransformerConfig


class HubertConfig(WaveformTransformerConfig, frozen=True, kw_only=True):
    """Configuration of a HuBERT encoder."""


class Hubert(WaveformTransformerEncoder):
    """HuBERT: a Transformer trained to predict the cluster of each masked frame."""

    family = "hubert"
    config_type = HubertConfig
    config: HubertConfig


def _large(*, num_layers: int, hidden_size: int, ffn_size: int) -> HubertConfig:
    return HubertConfig(
        normalize=True,
        extractor=ExtractorConfig(norm="layer"),
        transformer=TransformerConfig(
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=16,
            ffn_size=ffn_size,
            pre_layer_norm=True,
            dropout=0.0,
            attention_dropout=0.0,
            layer_drop=0.0,
        ),
    )


PRESETS = {
    "hubert_base": HubertConfig(projection_dropout=0.1),
    "hubert_large": _large(num_layers=24, hidden_size=1024, ffn_size=4096),
    "hubert_xlarge": _large(num_layers=48, hidden_size=1280, ffn_size=5120),
}
