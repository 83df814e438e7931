"""Stages of the convolutional layers that wav2vec and vq-wav2vec share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from auricle.nn.conv_features import AggregatorLayer, ExtractorLayer
from auricle.outputs import Window
from auricle.streaming.norms import NormFunction
from auricle.streaming.stages import StreamWindows, convolved


class ExtractorStage:
    """Convolution, norm, activation, and a residual if asked."""

    def __init__(self, layer: ExtractorLayer, is_compressed: bool, norm: NormFunction) -> None:
        """With `is_compressed` the output is `log(|x| + 1)`."""
        size, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
        self._layer = layer
        self._is_compressed = is_compressed
        self._norm = norm
        self._is_first = True
        # From so many inputs on the residual is their every first one, whatever their number.
        min_inputs = 2 * size - 1 if layer.residual_scale is not None else 1
        self._windows = StreamWindows(Window(size=size, stride=stride), min_inputs=min_inputs)

    def __call__(self, x: Tensor, *, is_last: bool) -> Tensor:
        """New frames (1, C, T) out of new ones `x` (1, D, S)."""
        layer = self._layer
        inputs = self._windows(x, is_last=is_last)
        y = layer.activation(self._norm(convolved(layer.conv, inputs)))
        num_frames = y.shape[2]
        if layer.residual_scale is not None and num_frames > 0:
            step = inputs.shape[2] // num_frames if self._is_first else 1
            y = (y + inputs[:, :, ::step][:, :, :num_frames]) * math.sqrt(layer.residual_scale)
            self._is_first = False
        return torch.log1p(y.abs()) if self._is_compressed else y


class AggregatorStage:
    """Causal convolution, norm, activation, and a residual if asked."""

    def __init__(self, layer: AggregatorLayer, norm: NormFunction) -> None:
        size, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
        self._layer = layer
        self._num_past = size - 1
        self._norm = norm
        self._windows = StreamWindows(
            Window(size=size, stride=stride, pad_left=size - 1),
            padding="zeros" if layer.zero_padding else "first",
        )

    def __call__(self, x: Tensor, *, is_last: bool) -> Tensor:
        """New frames (1, C, T) out of new ones `x` (1, D, S)."""
        layer = self._layer
        inputs = self._windows(x, is_last=is_last)
        y = layer.activation(self._norm(convolved(layer.conv, inputs)))
        if layer.residual_scale is not None:
            # Strides are 1 here, so each frame has an input of its own.
            own = inputs[:, :, self._num_past :]
            if isinstance(layer.residual, nn.Conv1d):
                own = convolved(layer.residual, own)
            y = (y + own) * math.sqrt(layer.residual_scale)
        return y
