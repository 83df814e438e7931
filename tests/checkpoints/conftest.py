"""Files of checkpoints that tests write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from golden_cases import GoldenCase

APC = GoldenCase("apc")


def content(case: GoldenCase = APC) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(case.checkpoints[0], weights_only=False)
    return content


def saved(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "checkpoint.ckpt"
    torch.save(content, path)
    return path
