"""Audio ALBERT: a Transformer whose layers share one set of weights (arXiv:2005.08575)."""

from __future__ import annotations

from auricle.models.bert_encoder import SpectralBert, SpectralBertConfig
from auricle.nn.bert import BertConfig


class AudioAlbertConfig(SpectralBertConfig, frozen=True, kw_only=True):
    """Configuration of an Audio ALBERT encoder; `transformer.share_layer` must be true."""

    transformer: BertConfig = BertConfig(share_layer=True)

    def __post_init__(self) -> None:
        if not self.transformer.share_layer:
            raise ValueError("an Audio ALBERT must have transformer.share_layer, but has it false")


class AudioAlbert(SpectralBert):
    """Audio ALBERT: one layer applied again and again, trained to reconstruct masked frames."""

    family = "audio_albert"
    config_type = AudioAlbertConfig
    config: AudioAlbertConfig
