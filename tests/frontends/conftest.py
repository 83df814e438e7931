"""A signal with what front ends find in speech: voicing, glides, noise and near silence."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def speech() -> Tensor:
    """0.6 s at 16 kHz, (9600,) float32: a gliding harmonic tone, a hiss, then faint noise."""
    generator = torch.Generator().manual_seed(3)
    seconds = torch.arange(9600, dtype=torch.float64) / 16000
    pitch = 2 * math.pi * (120 * seconds + 40 * seconds.square())
    voice = sum(torch.sin(k * pitch) / k for k in range(1, 30))
    noise = torch.randn(9600, dtype=torch.float64, generator=generator)
    voiced = (seconds < 0.3).to(torch.float64)
    hissing = ((seconds >= 0.3) & (seconds < 0.5)).to(torch.float64)
    return (0.1 * voiced * voice + 0.05 * hissing * noise + 1e-4 * noise).to(torch.float32)
