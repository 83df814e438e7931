"""Kaldi's filterbank over a stream."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import torch.nn.functional as F
from torch import Tensor

from auricle.frontends import FbankConfig, extract
from auricle.models.base import FeatureEncoder
from auricle.models.stream import Step, refusal
from auricle.nn.stream_norms import NormFunction, StreamCmvn
from auricle.streaming.windows import StreamWindows

BLOCK_FRAMES = 16
"""Frames that are transformed at once, always as many.

A product of matrices rounds by the count of their rows, which would be that of the frames in a
push; and mean and variance normalisation divides by what is left of a band that stands still.
"""


class FbankStage:
    """Filterbank frames of a stream, normalised if asked, in the weights' type."""

    def __init__(self, encoder: FeatureEncoder, norm: NormFunction) -> None:
        features = encoder.config.features
        assert isinstance(features, FbankConfig)
        self._config = msgspec.structs.replace(features, cmvn=False)
        self._windows = StreamWindows(features.geometry.windows[0])
        self._norm = norm
        self._dtype = encoder.dtype

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
            target.copy_(extract(block, [num_block_samples], config)[:, : target.shape[1]])
        return self._norm(frames.transpose(1, 2)).to(self._dtype)


def feature_steps(encoder: FeatureEncoder) -> Iterator[Step]:
    """The front end of an encoder as a step called `features`.

    Raises:
        AuricleError: It looks ahead, or at the whole utterance in ways that no statistics replace.
    """
    features = encoder.config.features
    if not isinstance(features, FbankConfig):
        raise refusal(
            encoder,
            "its front end brings the whole utterance to one level, and mirrors its ends",
        )
    if features.delta_order > 0:
        raise refusal(encoder, "its deltas (delta_order) regress over frames ahead")
    if features.subtract_mean:
        raise refusal(encoder, "it subtracts the mean over the whole utterance (subtract_mean)")
    norm = StreamCmvn(dim=features.dim, epsilon=features.cmvn_epsilon) if features.cmvn else None
    yield Step("features", lambda function: FbankStage(encoder, function), norm)
