"""wav2vec: contrastive prediction of frames ahead, all convolutions (arXiv:1904.05862)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from auricle.models.conv_encoder import ConvEncoder, ConvEncoderConfig


class Wav2VecConfig(ConvEncoderConfig, frozen=True, kw_only=True):
    """Configuration of a wav2vec encoder."""


class Wav2Vec(ConvEncoder):
    """wav2vec: frames `z`, then contexts that see the past."""

    family = "wav2vec"
    config_type = Wav2VecConfig
    config: Wav2VecConfig

    def encode(
        self, waveforms: Tensor, num_samples: Sequence[int], wanted: frozenset[str]
    ) -> Iterator[tuple[str, Tensor]]:
        x, num_frames = self.frames(waveforms, num_samples)
        yield "z", x.transpose(1, 2)
        contexts = self.contexts(x, num_frames)
        del x  # a long one makes room for what comes next
        yield from contexts
