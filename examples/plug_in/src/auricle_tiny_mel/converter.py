"""Checkpoints of its authors: {"tiny_mel_dim": 16, "weights": {"proj.weight": ..., ...}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.checkpoints.converted import Converted, build_config, state_dict
from auricle.checkpoints.formats import Format
from auricle.checkpoints.keymap import KeyMap
from auricle_tiny_mel.encoder import TinyMelConfig

FORMATS = (
    Format("tiny-mel", lambda content: "tiny_mel_dim" in content, lambda content: ("tiny_mel",)),
)

KEYS = KeyMap((("proj.{rest}", "projection.{rest}"),), pretraining=("head.{rest}",))


def convert(payload: Mapping[str, Any]) -> Converted:
    """Config and weights of a checkpoint."""
    config = build_config(lambda: TinyMelConfig(dim=payload["tiny_mel_dim"]))
    return Converted(config, state_dict(payload["weights"], "weights"), KEYS)
