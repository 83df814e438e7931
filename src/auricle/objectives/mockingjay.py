"""Mockingjay: masked frames from both sides (arXiv:1910.12638)."""

from __future__ import annotations

from auricle.models.mockingjay import Mockingjay
from auricle.objectives.reconstruction import (
    ReconstructionObjective,
    ReconstructionObjectiveConfig,
)


class MockingjayObjectiveConfig(ReconstructionObjectiveConfig, frozen=True, kw_only=True):
    """Options of Mockingjay's loss."""


class MockingjayObjective(ReconstructionObjective):
    """The masked frames are reconstructed, by L1 on them alone."""

    config_type = MockingjayObjectiveConfig
    config: MockingjayObjectiveConfig
    encoder: Mockingjay
