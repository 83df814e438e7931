"""Two checkouts are compared to the last bit, and one that differs is found."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import compare_versions
import pytest
import torch

import auricle

ROOT = Path(__file__).parents[2]


def test_a_checkout_equals_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    options = [str(ROOT), str(ROOT), "--cases", "apc", "--sizes", "spectrogram", "--rounds", "0"]
    with compare_versions.Worker(ROOT) as worker:
        if not is_whole:  # one process stands for both, for each imports torch
            monkeypatch.setattr(compare_versions, "Worker", lambda _: nullcontext(worker))
        assert compare_versions.main(options) == 0
    assert capsys.readouterr().out.splitlines() == [
        "apc: equal",
        "spectrogram: equal",
        "2 compared, 0 failed",
    ]


def test_one_weight_that_changes_a_little_changes_a_digest() -> None:
    encoder = auricle.load("apc_mini")
    wavs = [0.1 * torch.randn(4_000, generator=torch.Generator().manual_seed(0))]
    before = compare_versions.digests(encoder, wavs)
    assert set(before) >= {"batch.0.rnn_1", "lone.0.0.rnn_1", "default.0.default"}
    assert compare_versions.different(before, before) == []
    with torch.no_grad():
        next(iter(encoder.parameters())).view(-1)[0] += 1e-3
    changed = compare_versions.different(before, compare_versions.digests(encoder, wavs))
    assert "default.0.default" in changed


def test_an_output_that_one_of_them_lacks_is_a_difference() -> None:
    assert compare_versions.different({"a": "1", "b": "2"}, {"a": "1"}) == ["b"]


def test_a_folder_without_the_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is no checkout"):
        compare_versions.main([str(tmp_path)])
