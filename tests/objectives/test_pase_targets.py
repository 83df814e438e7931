from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from auricle.objectives.pase_targets import RunningNorm, interpolate, prosody


def voice(pitch_hz: float, num_samples: int = 8_000) -> Tensor:
    """Harmonics of a pitch, falling."""
    time = torch.arange(num_samples) / 16_000
    return 0.1 * sum(  # type: ignore[return-value]
        (
            torch.sin(2 * math.pi * pitch_hz * harmonic * time) / harmonic
            for harmonic in range(1, 6)
        ),
        start=torch.zeros(num_samples),
    )


@pytest.mark.parametrize("pitch_hz", [70.0, 120.0, 210.0, 390.0])
def test_pitch_of_a_voice(pitch_hz: float) -> None:
    features = prosody(voice(pitch_hz).unsqueeze(0), hop_samples=160)
    assert features.shape == (1, 50, 4)
    inside = features[0, 5:45]
    assert inside[:, 0].exp().tolist() == pytest.approx([pitch_hz] * 40, rel=0.02)
    assert inside[:, 1].min() > 0.95


def test_crossings_and_energy_of_a_tone() -> None:
    tone = 0.5 * torch.sin(2 * math.pi * 1_000 * torch.arange(8_000) / 16_000 + 0.1)
    inside = prosody(tone.unsqueeze(0), hop_samples=160)[0, 5:45]
    # 2,000 crossings a second; the mean square of a sine is half its amplitude squared.
    assert inside[:, 2].tolist() == pytest.approx([2_000 / 16_000] * 40, abs=0.003)
    assert inside[:, 3].tolist() == pytest.approx([math.log(0.125)] * 40, abs=0.01)


def test_noise_is_not_voiced_and_silence_is_defined() -> None:
    noise = 0.1 * torch.randn(8_000, generator=torch.Generator().manual_seed(0))
    features = prosody(torch.stack([noise, torch.zeros(8_000)]), hop_samples=160)
    assert features.isfinite().all()
    assert features[0, :, 1].max() < 0.5
    assert features[:, :, 0].exp().tolist() == [pytest.approx([math.sqrt(60 * 400)] * 50)] * 2
    assert features[1, :, 1:3].abs().max() == 0


def test_rows_do_not_depend_on_their_batch() -> None:
    wavs = torch.stack([voice(100.0), 10 * voice(200.0)])
    together = prosody(wavs, hop_samples=160)
    torch.testing.assert_close(together[:1], prosody(wavs[:1], hop_samples=160))


def test_frames_are_centred() -> None:
    click = torch.zeros(1, 8_000)
    click[0, 3_200] = 1.0
    energy = prosody(click, hop_samples=160)[0, :, 3]
    loud = (energy > energy.min() + 3).nonzero().flatten().tolist()
    assert loud == [19, 20, 21]


def test_an_offset_changes_nothing() -> None:
    wav = voice(120.0).unsqueeze(0)
    moved = prosody(wav + 0.3, hop_samples=160)[:, 5:45]
    torch.testing.assert_close(moved, prosody(wav, hop_samples=160)[:, 5:45], rtol=1e-2, atol=1e-2)


def test_interpolation_by_hand() -> None:
    x = torch.tensor([[9.0, 1.0, 9.0, 9.0, 4.0, 9.0], [9.0, 9.0, 9.0, 9.0, 9.0, 2.0]])
    is_known = torch.tensor([[False, True, False, False, True, False], [False] * 5 + [True]])
    assert interpolate(x, is_known).tolist() == [[1, 1, 2, 3, 4, 4], [2] * 6]


def test_statistics_are_those_of_all_frames_so_far() -> None:
    norm = RunningNorm(3)
    x = 5 + 2 * torch.randn(4, 50, 3, generator=torch.Generator().manual_seed(0))
    x[3] *= 10
    norm(x[:1])
    norm(x[1:3])
    last = norm(x[3:])
    seen = x.flatten(0, 1)
    torch.testing.assert_close(norm.mean, seen.mean(dim=0))
    torch.testing.assert_close(norm.variance, seen.var(dim=0, correction=0))
    expected = (x[3:] - seen.mean(dim=0)) / seen.std(dim=0, correction=0)
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
    assert norm.count == 200


def test_evaluation_leaves_them_alone() -> None:
    norm = RunningNorm(2)
    norm(torch.tensor([[0.0, 7.0], [2.0, 7.0]]))
    norm.eval()
    assert norm(torch.tensor([[3.0, 7.0]])).tolist() == [[2.0, 0.0]]
    assert norm.count == 2
    fresh = RunningNorm(2)
    fresh.load_state_dict(norm.state_dict())
    assert torch.equal(fresh.eval()(torch.ones(1, 2)), norm(torch.ones(1, 2)))
