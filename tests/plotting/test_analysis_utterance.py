from __future__ import annotations

import dataclasses

import numpy as np

from auricle.info import FrameGeometry, Window
from auricle.plotting.analysis import DrawnUtterance, FrameSequence


def test_all_is_shown_unless_a_section_is_named() -> None:
    nothing = FrameSequence(frames=np.zeros((1, 1)), geometry=FrameGeometry())
    utterance = DrawnUtterance(
        title="",
        waveform=np.zeros(24_000, dtype=np.float32),
        sample_rate=16_000,
        mel=nothing,
        representations=(),
    )
    assert utterance.seconds == 1.5
    assert utterance.shown == (0, 1.5)
    assert dataclasses.replace(utterance, section=(0.5, 1)).shown == (0.5, 1)
    assert dataclasses.replace(utterance, origin=2.0).shown == (2, 3.5)


def test_a_frame_begins_half_a_hop_before_its_centre() -> None:
    padded = FrameGeometry((Window(size=400, stride=160, pad_left=200, pad_right=200),))
    for geometry, start in (
        (padded, -80 / 16_000),
        (FrameGeometry((Window(size=400, stride=320),)), (200 - 160) / 16_000),
        (
            FrameGeometry((Window(size=10, stride=5), Window(size=8, stride=4))),
            22.5 / 16_000 - 10 / 16_000,
        ),
    ):
        sequence = FrameSequence(frames=np.zeros((3, 1)), geometry=geometry)
        for origin in (0.0, 4.0):
            utterance = DrawnUtterance(
                title="",
                waveform=np.zeros(800, dtype=np.float32),
                sample_rate=16_000,
                mel=sequence,
                representations=(),
                origin=origin,
            )
            assert abs(utterance.start_seconds(sequence) - origin - start) < 1e-9
