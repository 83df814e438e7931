"""Names under which `extract` and `check` still import the shared options."""

from __future__ import annotations

from auricle.cli.options import (
    DTYPES,
    LAYER_HELP,
    MODEL_HELP,
    add_device,
    add_model,
    add_precision,
    add_weights,
    count,
    positive_number,
    whole_number,
    words,
)

__all__ = [
    "DTYPES",
    "LAYER_HELP",
    "MODEL_HELP",
    "add_device",
    "add_model",
    "add_precision",
    "add_weights",
    "count",
    "positive_number",
    "whole_number",
    "words",
]
