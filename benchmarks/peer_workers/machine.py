"""Machine of the measurements."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from pathlib import Path
from typing import Any

FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16")
"""Features of a processor that decide the speed of matrix products."""


def describe() -> dict[str, Any]:
    """The processor, what it can do, and what else it is doing."""
    text = ""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text()
    names = re.findall(r"model name\s*: (.*)", text)
    flags = set(re.findall(r"flags\s*: (.*)", text)[0].split()) if "flags" in text else set()
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "num_cpus": os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "load_before": round(os.getloadavg()[0], 1),
        "system": platform.system(),
    }
