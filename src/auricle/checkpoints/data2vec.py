"""data2vec audio checkpoints (format `huggingface` and those of fairseq)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.checkpoints import fairseq_transformer, huggingface, huggingface_encoder
from auricle.checkpoints.converted import Converted
from auricle.models.data2vec import Data2VecConfig


def convert(payload: Mapping[str, Any]) -> Converted:
    """Config and weights of a data2vec audio checkpoint."""
    if huggingface.matches(payload):
        return huggingface_encoder.convert(payload, Data2VecConfig)
    return fairseq_transformer.convert(payload, Data2VecConfig)
