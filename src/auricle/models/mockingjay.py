"""Mockingjay: masked reconstruction with a Transformer (arXiv:1910.12638)."""

from __future__ import annotations

from auricle.frontends import LogMelConfig
from auricle.models.bert_encoder import SpectralBert, SpectralBertConfig
from auricle.nn.bert import BertConfig


class MockingjayConfig(SpectralBertConfig, frozen=True, kw_only=True):
    """Configuration of a Mockingjay encoder."""


class Mockingjay(SpectralBert):
    """Mockingjay: a Transformer that was trained to reconstruct masked frames."""

    family = "mockingjay"
    config_type = MockingjayConfig
    config: MockingjayConfig


PRESETS = {
    "mockingjay_base": MockingjayConfig(),
    "mockingjay_large": MockingjayConfig(
        features=LogMelConfig(delta_order=1), transformer=BertConfig(num_layers=12)
    ),
}
"""Published sizes: 3 layers, and the LinearLarge of 12 layers on 160 features."""
