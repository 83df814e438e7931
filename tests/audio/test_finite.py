from __future__ import annotations

import pytest
import torch

from auricle.audio.finite import non_finite_reason


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_counts_and_finds_the_first(value: float) -> None:
    samples = torch.zeros(100)
    samples[[99, 7, 8]] = value
    reason = non_finite_reason(samples)
    assert reason is not None
    assert reason.startswith("3 of 100 samples are NaN or infinite")
    assert "first at sample 7:" in reason


def test_infinities_that_cancel_are_found() -> None:
    reason = non_finite_reason(torch.tensor([0.0, float("inf"), float("-inf")]))
    assert reason is not None
    assert reason.startswith("2 of 3")


def test_finite_samples_pass_even_where_their_sum_overflows() -> None:
    assert non_finite_reason(torch.zeros(3)) is None
    assert non_finite_reason(torch.full((10,), 3e38)) is None
    assert non_finite_reason(torch.zeros(5, requires_grad=True)) is None
