"""Activation functions by the names that published configurations give them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["gelu", "relu", "swish", "tanh"]

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "swish": F.silu,
    "tanh": torch.tanh,
}
"""GELU is the exact one (erf); swish is x * sigmoid(x)."""


WaveformActivation = Literal["gelu", "gelu_tanh", "relu", "swish", "tanh", "linear"]

FfnActivation = Literal[WaveformActivation, "swiglu"]
"""`swiglu` multiplies one half of its input by swish of the other (arXiv:2002.05202)."""

WAVEFORM_ACTIVATIONS: dict[WaveformActivation, Callable[[Tensor], Tensor]] = {
    "gelu": ACTIVATIONS["gelu"],
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": ACTIVATIONS["relu"],
    "swish": ACTIVATIONS["swish"],
    "tanh": ACTIVATIONS["tanh"],
    "linear": nn.Identity(),
}
"""`gelu_tanh` approximates GELU by a tanh (Hendrycks & Gimpel, arXiv:1606.08415)."""
