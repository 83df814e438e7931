"""Mockingjay: masked reconstruction with a Transformer (arXiv:1910.12638)."""

from __future__ import annotations

from auricle.models.bert_encoder import SpectralBert, SpectralBertConfig


class MockingjayConfig(SpectralBertConfig, frozen=True, kw_only=True):
    """Configuration of a Mockingjay encoder."""


class Mockingjay(SpectralBert):
    """Mockingjay: a Transformer that was trained to reconstruct masked frames."""

    family = "mockingjay"
    config_type = MockingjayConfig
    config: MockingjayConfig
