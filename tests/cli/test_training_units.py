from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import auricle
from auricle.__main__ import main
from auricle.audio.inputs import sample_paths

MODEL = ["--model", "tera_mini", "--layer", "2"]


def test_units_are_fitted_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "u.safetensors"
    wavs = [str(path) for path in sample_paths()[:2]]
    options = ["--clusters", "4", "--residual", "2", "--passes", "2", "--batch-frames", "100"]
    options += ["--normalize", "standard", "--sample", "0.6", "--seed", "3", "--device", "cpu"]
    assert main(["units", "fit", *wavs, *MODEL, *options, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith(f"wrote {out}\n")
    units = auricle.load_units(out)
    assert units.centroids.shape == (2, 4, 192)
    assert (units.normalization, units.seed, units.layer) == ("standard", 3, "layer_2")
    assert main(["units", "info", str(out)]) == 0
    shown = capsys.readouterr().out
    assert printed.startswith(shown)
    assert "2 stages of 4, of 192 features" in shown
    assert str(units.weights_digest) in shown
    assert f"step {len(units.inertia)} " in shown
    assert f"{units.inertia[-1]:.6g}" in shown


def test_units_of_others_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    centroids = np.random.default_rng(0).standard_normal((7, 192)).astype(np.float32)
    np.savez(tmp_path / "km.npz", a=centroids, b=centroids + 1)
    out = tmp_path / "u.safetensors"
    command = ["units", "import", str(tmp_path / "km.npz"), *MODEL, "--out", str(out)]
    assert main(command) == 1
    assert "choose one by key= (--key)" in capsys.readouterr().err
    assert main([*command, "--key", "b", "--normalize", "l2"]) == 0
    units = auricle.load_units(out)
    assert units.centroids[0].numpy().tobytes() == (centroids + 1).tobytes()
    assert units.normalization == "l2"
    assert "read from km.npz" in capsys.readouterr().out


def test_a_layer_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["units", "import", "km.bin", "--model", "hubert", "--out", "u.safetensors"])
    assert "--layer" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["units"])
    assert "auricle units fit corpus/" in capsys.readouterr().err
