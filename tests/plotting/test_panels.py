from __future__ import annotations

import numpy as np

from auricle.outputs import FrameGeometry, Window
from auricle.plotting.panels import frame_start_seconds
from auricle.plotting.utterance import Sequence


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
        sequence = Sequence(frames=np.zeros((3, 1)), geometry=geometry)
        assert abs(frame_start_seconds(sequence, 16_000) - start) < 1e-9
