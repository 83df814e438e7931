"""HuBERT checkpoints (format `huggingface` and those of fairseq)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.checkpoints import fairseq_transformer, huggingface, huggingface_encoder
from auricle.checkpoints.converted import Converted
from auricle.models.hubert import HubertConfig


def convert(payload: Mapping[str, Any]) -> Converted:
    """Config and weights of a HuBERT checkpoint."""
    if huggingface.matches(payload):
        return huggingface_encoder.convert(payload, HubertConfig)
    return fairseq_transformer.convert(payload, HubertConfig)
