from __future__ import annotations

import torch

from auricle.objectives.predictive_coding import future_l1


def test_by_hand_over_valid_frames_alone() -> None:
    features = torch.tensor([[[1.0], [2.0], [4.0], [8.0]], [[1.0], [3.0], [float("nan")], [0.0]]])
    predicted = torch.zeros(2, 4, 1)
    # Ahead by 1: 2, 4, 8 of the first; 3 of the second.
    assert future_l1(predicted, features, [4, 2], 1).item() == (2 + 4 + 8 + 3) / 4
    assert future_l1(predicted, features, [4, 2], 3).item() == 8.0
    assert future_l1(predicted, features, [2, 2], 2).item() == 0.0
