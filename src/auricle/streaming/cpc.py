"""Streams of CPC and Modified CPC: exact, with its zeros at both ends."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from auricle.models.cpc import WINDOWS, ConvBlock, Cpc
from auricle.models.stream import Stage, Step
from auricle.nn.batch_norm import BatchNorm
from auricle.nn.norms import UtteranceGroupNorm
from auricle.nn.stream_norms import NormFunction, StreamGroupNorm
from auricle.outputs import Window
from auricle.streaming.stages import PerFrame, Recurrent
from auricle.streaming.windows import StreamWindows, convolved

INSTANCE_NORM = (
    "its norm (instance) takes each channel's mean and variance over the whole utterance, and "
    "one frame has no variance"
)


class ConvBlockStage:
    """A convolution over zero-padded ends, a norm, ReLU."""

    def __init__(self, block: ConvBlock, window: Window, norm: NormFunction) -> None:
        self._block = block
        self._windows = StreamWindows(window)
        self._norm = norm

    def __call__(self, x: Tensor, *, is_last: bool) -> Tensor:
        """New frames (1, C, T) out of new ones `x` (1, D, S)."""
        y = convolved(self._block.conv, self._windows(x, is_last=is_last))
        return torch.relu(self._norm(self._normed(y)))

    def _normed(self, y: Tensor) -> Tensor:
        """`y` after a norm that needs nothing but each frame."""
        norm = self._block.norm
        if isinstance(norm, UtteranceGroupNorm):
            return y
        normed: Tensor = norm(y, [y.shape[2]]) if isinstance(norm, BatchNorm) else norm(y)
        return normed


def steps(encoder: Cpc) -> Iterator[Step]:
    """The steps of a CPC encoder."""
    # As in the encoder: norms over time are computed in float64.
    is_wide = encoder.config.norm == "instance"
    wide = torch.float64 if is_wide else encoder.dtype
    yield Step("waveform", lambda norm: PerFrame(lambda x: x.to(wide)))
    for index, (block, window) in enumerate(zip(encoder.blocks, WINDOWS, strict=True)):
        assert isinstance(block, ConvBlock)
        norm = None
        if isinstance(block.norm, UtteranceGroupNorm):
            norm = StreamGroupNorm.of(block.norm, refuses_running=INSTANCE_NORM)
        yield Step(f"block_{index + 1}", partial(ConvBlockStage, block, window), norm)
    yield Step("encoder", lambda norm: PerFrame(lambda x: x.to(encoder.dtype)))
    yield Step("context", partial(_recurrent, encoder.rnn))


def _recurrent(rnn: nn.RNNBase, norm: NormFunction) -> Stage:
    return Recurrent(rnn)
