"""Kaldi's filterbank over a stream."""

from __future__ import annotations

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.frontends import FbankConfig
from auricle.streaming.norms import NormFunction, StreamCmvn
from auricle.streaming.stages import Step, StreamWindows

BLOCK_FRAMES = 16
"""Frames that are transformed at once, always as many.

A product of matrices rounds by the count of their rows, which would be that of the frames in a
push; and mean and variance normalisation divides by what is left of a band that stands still.
"""


class FbankStage:
    """Filterbank frames of a stream, normalised if asked."""

    def __init__(self, features: FbankConfig, dtype: torch.dtype, norm: NormFunction) -> None:
        self._config = msgspec.structs.replace(features, cmvn=False)
        self._windows = StreamWindows(features.geometry.windows[0])
        self._norm = norm
        self._dtype = dtype

    def __call__(self, x: Tensor, *, is_last: bool) -> Tensor:
        """New frames (1, D, T) out of new samples `x` (1, 1, S)."""
        samples = self._windows(x, is_last=is_last)[0]
        config = self._config
        num_frames = config.num_frames(samples.shape[1])
        frames = samples.new_zeros(1, num_frames, config.dim)
        hop = config.hop_samples
        num_block_samples = (BLOCK_FRAMES - 1) * hop + config.frame_samples
        for start in range(0, num_frames, BLOCK_FRAMES):
            block = samples[:, start * hop :][:, :num_block_samples]
            block = F.pad(block, (0, num_block_samples - block.shape[1]))
            target = frames[:, start : start + BLOCK_FRAMES]
            target.copy_(config.features(block, [num_block_samples])[:, : target.shape[1]])
        return self._norm(frames.transpose(1, 2)).to(self._dtype)


def feature_step(features: FbankConfig, dtype: torch.dtype) -> Step:
    """The front end of an encoder as a step called `features`; frames come out as `dtype`."""
    norm = StreamCmvn(dim=features.dim, epsilon=features.cmvn_epsilon) if features.cmvn else None
    return Step("features", lambda function: FbankStage(features, dtype, function), norm)
