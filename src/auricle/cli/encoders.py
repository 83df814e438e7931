"""Names under which `extract` and `check` still import the shared options."""

from __future__ import annotations

from auricle.cli.options import choose_model, layer_argument, load_encoder

__all__ = ["choose_model", "layer_argument", "load_encoder"]
