"""Streams of vq-wav2vec: those of wav2vec with codes between frames and contexts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from auricle.models.stream import CODES, Step
from auricle.models.vq_wav2vec import VqWav2Vec
from auricle.nn.stream_norms import NormFunction, StreamGroupNorm
from auricle.nn.vector_quantizer import KmeansQuantizer
from auricle.streaming.conv_encoder import aggregator_steps, extractor_steps
from auricle.streaming.stages import PerFrame


def steps(encoder: VqWav2Vec) -> Iterator[Step]:
    """The steps of a vq-wav2vec encoder."""
    quantizer = encoder.quantizer
    yield from extractor_steps(encoder)

    def chosen(norm: NormFunction) -> PerFrame:
        def codes(z: Tensor) -> Tensor:
            if z.shape[2] == 0:
                return z.new_zeros(1, quantizer.config.num_groups, 0, dtype=torch.int64)
            if isinstance(quantizer, KmeansQuantizer):
                projected = norm(quantizer.projection(z))
                return quantizer.nearest(projected).transpose(1, 2)
            return quantizer.indices(z, [z.shape[2]]).transpose(1, 2)

        return PerFrame(codes)

    norm = None
    if isinstance(quantizer, KmeansQuantizer):
        norm = StreamGroupNorm.of(quantizer.norm)
    yield Step(CODES, chosen, norm)

    def vectors(codes: Tensor) -> Tensor:
        groups = torch.arange(codes.shape[1], device=codes.device)
        return quantizer.tables()[groups, codes.transpose(1, 2)].flatten(2).transpose(1, 2)

    yield Step("quantized", lambda norm: PerFrame(vectors))
    yield from aggregator_steps(encoder)
