from __future__ import annotations

import math

import pytest
import torch

from auricle.nn.layers import ACTIVATIONS, Activation


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gelu", 0.7 * 0.5 * (1 + math.erf(0.7 / math.sqrt(2)))),
        ("relu", 0.7),
        ("swish", 0.7 / (1 + math.exp(-0.7))),
        ("tanh", math.tanh(0.7)),
    ],
)
def test_activations_by_their_formulas(name: Activation, expected: float) -> None:
    assert float(ACTIVATIONS[name](torch.tensor(0.7))) == pytest.approx(expected, rel=1e-6)
