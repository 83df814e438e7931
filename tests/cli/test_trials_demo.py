from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import auricle
from auricle.__main__ import main
from auricle.audio.inputs import sample_paths
from auricle.errors import MissingExtraError
from auricle.plotting import api as pictures
from auricle.plotting import figures


def test_it_writes_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AURICLE_OFFLINE", "1")
    monkeypatch.setattr(figures, "DPI", 20)
    assert main(["demo", "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "apc_mini is a bundled toy model" in captured.out
    assert "auricle list" in captured.out
    header, *rows = captured.out.splitlines()
    assert header.split()[:5] == ["model", "file", "seconds", "frames", "dim"]
    assert (tmp_path / "apc_mini.png").read_bytes().startswith(b"\x89PNG")
    source = sample_paths()[0]
    array = np.load(tmp_path / "fbank" / f"{source.stem}.npy")
    alone = auricle.load("fbank")([source])[0].numpy()
    np.testing.assert_allclose(array, alone, atol=1e-4 * alone.std())
    (row,) = (row for row in rows if row.split()[:2] == ["fbank", source.name])
    frames, dim, hop_ms, mean, std = row.split()[3:]
    assert (int(frames), int(dim), hop_ms) == (*array.shape, "10")
    assert float(mean) == pytest.approx(array.mean(), abs=1e-3)
    assert float(std) == pytest.approx(array.std(ddof=1), abs=1e-3)


def test_without_matplotlib_the_picture_alone_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise MissingExtraError("run pip install matplotlib")

    monkeypatch.setattr(pictures, "picture_of", fail)
    assert main(["demo", "--out", str(tmp_path)]) == 0
    assert "pip install matplotlib" in capsys.readouterr().err
    assert len(list(tmp_path.rglob("*.npy"))) == 4
    assert not list(tmp_path.glob("*.png"))
