"""Names under which `extract` and `check` still import the shared options."""

from __future__ import annotations

from auricle.cli.options import check_folder

__all__ = ["check_folder"]
