"""Stretches of long sequences."""

from __future__ import annotations

import pytest
import torch

from auricle.nn.cpu import policy
from auricle.nn.cpu.policy import chunks


def test_stretches_follow_each_other_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 100)
    with torch.inference_mode():
        stretches = chunks(25, 10, ())
    assert stretches == [slice(0, 10), slice(10, 20), slice(20, 25)]


def test_a_short_sequence_is_one_stretch() -> None:
    with torch.inference_mode():
        assert chunks(25, 10, ()) == [slice(0, 25)]
        assert chunks(0, 10, ()) == [slice(0, 0)]


def test_a_frame_over_the_limit_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 100)
    with torch.inference_mode():
        assert chunks(2, 1000, ()) == [slice(0, 1), slice(1, 2)]


def test_gradients_take_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 100)
    assert chunks(25, 10, ()) == [slice(0, 25)]
