from __future__ import annotations

from pathlib import Path

import pytest

import auricle
from auricle.__main__ import main
from golden_cases import GoldenCase

CASE = GoldenCase("wav2vec2_base")


def test_an_encoder_is_written_and_loads_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    checkpoint = str(CASE.checkpoints[0])
    assert main(["export", checkpoint, "--to", "transformers", str(folder)]) == 0
    assert f'from_pretrained("{folder}")' in capsys.readouterr().out
    assert CASE.deviation(auricle.load(folder)) <= CASE.limit


def test_a_folder_in_use_is_refused_before_anything_is_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("keep")
    assert main(["export", "no_such_model", "--to", "transformers", str(tmp_path)]) == 1
    assert "not an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_family_that_transformers_lacks_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "fbank", "--to", "transformers", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("auricle: error: fbank, an encoder of the family baseline, cannot")
    assert error.count("\n") == 1


def test_a_model_may_be_a_url(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = CASE.checkpoints[0].absolute().as_uri()
    assert main(["export", url, "--to", "transformers", str(tmp_path / "a")]) == 0
    named = ["export", "wav2vec2", "--checkpoint", url, "--to", "transformers"]
    assert main([*named, str(tmp_path / "b")]) == 0
    weights = [(tmp_path / name / "config.json").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
