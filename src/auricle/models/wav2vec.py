"""wav2vec: contrastive prediction of frames ahead, all convolutions (arXiv:1904.05862)."""

from __future__ import annotations

from collections.abc import Iterator

from auricle.models.conv_encoder import ConvEncoder, ConvEncoderConfig
from auricle.nn.batch import Batch


class Wav2VecConfig(ConvEncoderConfig, frozen=True, kw_only=True):
    """Configuration of a wav2vec encoder."""


class Wav2Vec(ConvEncoder):
    """wav2vec: frames `z`, then contexts that see the past."""

    family = "wav2vec"
    config_type = Wav2VecConfig
    config: Wav2VecConfig

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        x, num_frames = self.frames(batch)
        yield "z", Batch.padded(x.transpose(1, 2), num_frames)
        contexts = self.contexts(x, num_frames)
        del x  # a long one makes room for what comes next
        yield from contexts
