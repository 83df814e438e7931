"""wav2vec 2.0 checkpoints (format `huggingface` and those of fairseq)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.checkpoints import fairseq_transformer, huggingface, huggingface_encoder
from auricle.checkpoints.converted import Converted
from auricle.models.wav2vec2 import Wav2Vec2Config


def convert(payload: Mapping[str, Any]) -> Converted:
    """Config and weights of a wav2vec 2.0 checkpoint."""
    if huggingface.matches(payload):
        return huggingface_encoder.convert(payload, Wav2Vec2Config)
    return fairseq_transformer.convert(payload, Wav2Vec2Config)
