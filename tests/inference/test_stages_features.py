from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from auricle.errors import AuricleError
from auricle.frontends import FbankConfig, LogMelConfig
from auricle.frontends.framing import cmvn
from auricle.models.spectral_transformer import Baseline, BaselineConfig
from streams import streamed


def front_end(**options: Any) -> Baseline:
    return Baseline(BaselineConfig(features=FbankConfig(**options))).eval()


def noise(num_samples: int) -> Tensor:
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "options",
    [{}, {"window": "povey", "num_mels": 23}, {"use_log": False}, {"frame_length_ms": 10.0, "frame_shift_ms": 12.5}],
)  # fmt: skip
def test_frames_are_those_of_the_whole(options: dict[str, Any]) -> None:
    model, wav = front_end(**options), noise(8_000)
    (expected,) = model([wav])
    for cuts in ([], [160], [1, 700], [3_000]):
        torch.testing.assert_close(streamed(model, wav, cuts), expected, rtol=1e-5, atol=2e-6)


def test_cmvn_runs_over_all_frames_so_far() -> None:
    wav = noise(5_000)
    (features,) = front_end()([wav])
    result = streamed(front_end(cmvn=True), wav, [700])
    assert torch.equal(result[0], torch.zeros(80))
    for end in range(2, len(features) + 1):
        expected = cmvn(features[:end], time_dim=0, epsilon=1e-10)[-1]
        torch.testing.assert_close(result[end - 1], expected, rtol=1e-3, atol=1e-4)


def test_by_statistics_of_its_own_cmvn_is_that_of_the_whole() -> None:
    model, wav = front_end(cmvn=True), noise(5_000)
    wav[:3_000] = 0.0
    statistics = model.stream_statistics([wav])
    (expected,) = model([wav])
    result = streamed(model, wav, [700], normalisation=statistics)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_a_band_that_stands_still_is_zero_however_samples_arrive() -> None:
    model = front_end(cmvn=True)
    tone = (0.5 * torch.sin(2 * math.pi * torch.arange(160) / 160)).repeat(60)
    for cuts in ([], [1], [160], [161, 3_000], [1_600]):
        assert torch.equal(streamed(model, tone, cuts), torch.zeros(58, 80))


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        (FbankConfig(delta_order=1), "deltas.*regress over frames ahead"),
        (FbankConfig(subtract_mean=True), "subtracts the mean over the whole utterance"),
        (LogMelConfig(), "one level, and mirrors its ends"),
    ],
)
def test_what_looks_further_is_refused(features: Any, reason: str) -> None:
    model = Baseline(BaselineConfig(features=features)).eval()
    with pytest.raises(AuricleError, match=reason):
        model.stream()
