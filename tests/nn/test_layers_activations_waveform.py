from __future__ import annotations

import math
from typing import get_args

import torch

from auricle.nn.layers import WAVEFORM_ACTIVATIONS, WaveformActivation


def test_every_name_has_its_function() -> None:
    assert set(WAVEFORM_ACTIVATIONS) == set(get_args(WaveformActivation))


def test_formulas() -> None:
    x = torch.linspace(-3, 3, 31, dtype=torch.float64)
    tanh = torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    expected = {
        "gelu": 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
        "gelu_tanh": 0.5 * x * (1 + tanh),
        "relu": x * (x > 0),
        "swish": x / (1 + torch.exp(-x)),
        "linear": x,
        "tanh": (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
    }
    for name, function in WAVEFORM_ACTIVATIONS.items():
        torch.testing.assert_close(function(x), expected[name])
