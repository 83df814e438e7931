"""Stretches that are computed apart and joined."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from auricle.nn.cpu import policy
from auricle.nn.cpu.policy import map_chunks


def test_stretches_are_joined_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 40)
    x = torch.randn(2, 11, 3)
    seen = []

    def double(stretch: slice) -> Tensor:
        seen.append(stretch)
        return 2 * x[:, stretch]

    with torch.inference_mode():
        output = map_chunks(double, 11, 10, ())
    assert torch.equal(output, 2 * x)
    assert seen == [slice(0, 4), slice(4, 8), slice(8, 11)]


def test_one_stretch_is_not_copied() -> None:
    x = torch.randn(2, 11, 3)
    with torch.inference_mode():
        assert map_chunks(lambda _: x, 11, 10, ()) is x
