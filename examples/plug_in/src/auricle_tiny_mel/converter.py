"""Checkpoints of its authors: {"tiny_mel_dim": 16, "weights": {"proj.weight": ..., ...}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.catalogue.family import Family
from auricle.checkpoints.formats import Format
from auricle.checkpoints.keymap import Converted, KeyMap
from auricle.checkpoints.options import build_config
from auricle.checkpoints.state_dicts import state_dict
from auricle_tiny_mel.encoder import TinyMelConfig

KEYS = KeyMap((("proj.{rest}", "projection.{rest}"),), pretraining=("head.{rest}",))


def convert(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a checkpoint."""
    config = build_config(lambda: TinyMelConfig(dim=payload["tiny_mel_dim"]))
    return Converted(config, state_dict(payload["weights"], "weights"), KEYS)


FORMATS = (
    Format(
        "tiny-mel",
        matches=lambda content: "tiny_mel_dim" in content,
        families=lambda content: ("tiny_mel",),
        convert=convert,
    ),
)
