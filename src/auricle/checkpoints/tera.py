"""TERA checkpoints (formats `s3prl` and `s3prl-legacy`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.checkpoints import s3prl
from auricle.checkpoints.converted import Converted
from auricle.models.tera import TeraConfig


def convert(payload: Mapping[str, Any]) -> Converted:
    """Config and weights of a TERA checkpoint."""
    return s3prl.convert(payload, TeraConfig)
