from __future__ import annotations

import dataclasses

import numpy as np

from auricle.outputs import FrameGeometry
from auricle.plotting.utterance import Sequence, Utterance


def test_all_is_shown_unless_a_section_is_named() -> None:
    nothing = Sequence(frames=np.zeros((1, 1)), geometry=FrameGeometry())
    utterance = Utterance(
        title="",
        waveform=np.zeros(24_000, dtype=np.float32),
        sample_rate=16_000,
        mel=nothing,
        representations=(),
    )
    assert utterance.seconds == 1.5
    assert utterance.shown == (0, 1.5)
    assert dataclasses.replace(utterance, section=(0.5, 1)).shown == (0.5, 1)
