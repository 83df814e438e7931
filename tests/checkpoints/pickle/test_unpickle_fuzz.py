"""The fuzzer of `fuzz_checkpoints.py`, for as many seconds as AURICLE_FUZZ_SECONDS says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("fuzz_checkpoints.py")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of memory is Linux's")
def test_no_change_of_a_checkpoint_runs_or_breaks_anything(is_whole: bool) -> None:
    seconds = os.environ.get("AURICLE_FUZZ_SECONDS", "10" if is_whole else "1")
    result = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), seconds], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert "checkpoints" in result.stdout
