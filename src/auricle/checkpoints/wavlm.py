"""WavLM checkpoints (format `huggingface`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.checkpoints import huggingface_encoder
from auricle.checkpoints.converted import Converted
from auricle.models.wavlm import WavLmConfig


def convert(payload: Mapping[str, Any]) -> Converted:
    """Config and weights of a WavLM checkpoint."""
    return huggingface_encoder.convert(payload, WavLmConfig)
