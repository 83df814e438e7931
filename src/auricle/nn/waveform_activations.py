"""Activation functions that encoders of the wav2vec 2.0 kind may have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from auricle.nn.activations import ACTIVATIONS

WaveformActivation = Literal["gelu", "gelu_tanh", "relu", "swish", "tanh"]

WAVEFORM_ACTIVATIONS: dict[WaveformActivation, Callable[[Tensor], Tensor]] = {
    "gelu": ACTIVATIONS["gelu"],
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": ACTIVATIONS["relu"],
    "swish": ACTIVATIONS["swish"],
    "tanh": ACTIVATIONS["tanh"],
}
"""`gelu_tanh` approximates GELU by a tanh (Hendrycks & Gimpel, arXiv:1606.08415)."""
