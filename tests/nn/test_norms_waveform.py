from __future__ import annotations

import pytest
import torch

from auricle.nn.cpu import policy
from auricle.nn.norms import centred, normalized

EPS = 1e-5


def ragged() -> tuple[torch.Tensor, list[int]]:
    generator = torch.Generator().manual_seed(0)
    waveforms = torch.randn(3, 50, generator=generator) * 0.1 + 0.3
    lengths = [50, 7, 31]
    for row, length in zip(waveforms, lengths, strict=True):
        row[length:] = 9.0  # what lies past the end must not count
    return waveforms, lengths


def test_each_waveform_by_its_true_samples_alone() -> None:
    waveforms, lengths = ragged()
    outputs = (centred(waveforms, lengths), normalized(waveforms, lengths, eps=EPS))
    for row, length, centre, norm in zip(waveforms, lengths, *outputs, strict=True):
        x = row[:length].double()
        deviations = x - x.mean()
        torch.testing.assert_close(centre[:length].double(), deviations, atol=1e-7, rtol=1e-6)
        expected = deviations / (deviations.pow(2).mean() + EPS).sqrt()
        torch.testing.assert_close(norm[:length].double(), expected, atol=1e-6, rtol=1e-6)
        assert not centre[length:].any()
        assert not norm[length:].any()


def test_parts_of_a_long_waveform_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    waveforms, lengths = ragged()
    whole = (centred(waveforms, lengths), normalized(waveforms, lengths, eps=EPS))
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 3 * 8 * 9)
    with torch.inference_mode():
        parts = (centred(waveforms, lengths), normalized(waveforms, lengths, eps=EPS))
    for ours, theirs in zip(parts, whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-6)


def test_the_epsilon_counts_where_it_is_quiet() -> None:
    quiet = 1e-4 * torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    for eps in (1e-5, 1e-7):
        expected = 1e-4 / (1e-8 + eps) ** 0.5
        assert normalized(quiet, [4], eps=eps)[0, 0].item() == torch.tensor(expected).item()


def test_what_is_constant_becomes_zeros() -> None:
    waveforms = torch.zeros(2, 400_001)
    waveforms[0] = 0.05
    waveforms[1, :401] = 0.07
    lengths = [400_001, 401]
    assert not centred(waveforms, lengths).any()
    assert not normalized(waveforms, lengths, eps=1e-7).any()
