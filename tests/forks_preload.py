"""What processes of `forks` find imported. Nothing of it may start a thread."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import accelerate  # noqa: F401
import pandas  # noqa: F401 - what pyarrow imports at its first table of Python values
import pyarrow.parquet  # noqa: F401
import soundfile  # noqa: F401
import soxr  # noqa: F401
import torch._dynamo  # what torch's optimizers import at their first use
import torch.utils.tensorboard  # noqa: F401

import auricle

WANTED = ("audio", "cli", "checkpoints", "extraction", "frontends", "hub", "models", "objectives", "training")  # fmt: skip

for module in pkgutil.walk_packages(auricle.__path__, "auricle."):
    if module.name.split(".")[1] in WANTED and "ray" not in module.name:
        import_module(module.name)
