"""Audio ALBERT: masked frames from both sides, by one shared layer (arXiv:2005.08575)."""

from __future__ import annotations

from auricle.models.audio_albert import AudioAlbert
from auricle.objectives.reconstruction import (
    ReconstructionObjective,
    ReconstructionObjectiveConfig,
)


class AudioAlbertObjectiveConfig(ReconstructionObjectiveConfig, frozen=True, kw_only=True):
    """Options of Audio ALBERT's loss, which is Mockingjay's."""


class AudioAlbertObjective(ReconstructionObjective):
    """The masked frames are reconstructed, by L1 on them alone."""

    config_type = AudioAlbertObjectiveConfig
    config: AudioAlbertObjectiveConfig
    encoder: AudioAlbert
