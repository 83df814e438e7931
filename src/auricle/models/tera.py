"""TERA: reconstruction from altered frames with a Transformer (arXiv:2007.06028)."""

from __future__ import annotations

from auricle.models.bert_encoder import SpectralBert, SpectralBertConfig


class TeraConfig(SpectralBertConfig, frozen=True, kw_only=True):
    """Configuration of a TERA encoder."""


class Tera(SpectralBert):
    """TERA: a Transformer trained on frames altered in time, frequency and magnitude."""

    family = "tera"
    config_type = TeraConfig
    config: TeraConfig
