"""HuBERT: masked prediction of hidden units with a Transformer (arXiv:2106.07447)."""

from __future__ import annotations

from auricle.models.wav2vec2_encoder import (
    WaveformTransformerConfig,
    WaveformTransformerEncoder,
)


class HubertConfig(WaveformTransformerConfig, frozen=True, kw_only=True):
    """Configuration of a HuBERT encoder."""


class Hubert(WaveformTransformerEncoder):
    """HuBERT: a Transformer trained to predict the cluster of each masked frame."""

    family = "hubert"
    config_type = HubertConfig
    config: HubertConfig
