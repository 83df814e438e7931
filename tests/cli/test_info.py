from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import auricle
from auricle.__main__ import main
from auricle.catalogue.search import find
from auricle.hub.cache import cached_path, embedded_path
from auricle.models.predictive_coding import ApcConfig


def facts_of(capsys: pytest.CaptureFixture[str], model: str | Path) -> dict[str, str]:
    """The last value of each label that `auricle info` prints."""
    assert main(["info", str(model)]) == 0
    pairs = (line.partition("  ") for line in capsys.readouterr().out.splitlines())
    return {label: text.strip() for label, _, text in pairs if label}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURICLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AURICLE_OFFLINE", "1")


def test_a_licence_against_commercial_use_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    facts = facts_of(capsys, "mhubert_147")
    assert facts["licence"].startswith("CC BY-NC-SA 4.0")
    assert facts["commercial use"] == "not allowed by the licence"
    facts = facts_of(capsys, "hubert")
    assert facts["licence"] == "Apache-2.0, stated by the repository facebook/hubert-base-ls960"
    assert "commercial use" not in facts
    facts = facts_of(capsys, "ms_hubert")
    assert facts["licence"] == "not known"
    assert "commercial use" not in facts


@pytest.mark.parametrize("model", ["wavlm_large", "wav2vec2_mini"])
def test_changed_fields_are_shown(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the published size, and of weights that are there."""
    assert "changed config" not in facts_of(capsys, model)
    assert main(["info", model, "--config", "normalize_eps=0.5"]) == 0
    assert 'changed config       {"normalize_eps": 0.5}' in capsys.readouterr().out
    assert main(["info", model, "--config", "normalise=false"]) == 1
    assert f"config for {model}: there is no field normalise" in capsys.readouterr().err


def test_a_name_without_weights_shows_the_published_size(
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = facts_of(capsys, "tera")
    assert facts["name"] == "tera_960hr"
    assert "tera" in facts["aliases"].split(", ")
    assert facts["published"] == "2020-07-12"
    assert facts["input"] == "mel"
    assert facts["stride"] == "160 samples (10 ms)"
    assert facts["pretraining data"] == "LibriSpeech (960 h)"
    assert facts["weights published"] == "yes"
    assert facts["repository"] == "https://github.com/s3prl/s3prl"
    assert facts["size of the weights"] == "not known"
    assert facts["weights"].startswith("not on this machine")
    assert facts["published size"] == "tera_base"
    assert facts["parameters"] == "21,327,360"
    assert facts["minimum length"] == "201 samples (12.5625 ms)"
    assert facts["dim"] == "768 (layer_3, the default layer)"
    assert facts["receptive field"].startswith("400 samples (25 ms), plus the whole utterance")
    assert facts["layers"] == "input 768, layer_1 768, layer_2 768, layer_3 768"


def test_weights_in_the_cache_are_read(
    capsys: pytest.CaptureFixture[str], tera_checkpoint: Path
) -> None:
    path = cached_path(find("tera"))
    path.parent.mkdir(parents=True)
    shutil.copy(tera_checkpoint, path)
    facts = facts_of(capsys, "tera")
    assert facts["weights"].startswith("on this machine")
    assert "published size" not in facts
    assert facts["dim"] == "48 (layer_3, the default layer)"


def test_a_path_is_read(capsys: pytest.CaptureFixture[str], tera_checkpoint: Path) -> None:
    facts = facts_of(capsys, tera_checkpoint)
    assert facts["file"] == str(tera_checkpoint)
    assert facts["model"] == "TERA"
    assert facts["size of the weights"] == f"{tera_checkpoint.stat().st_size:,} bytes"
    assert facts["sha256"] == hashlib.sha256(tera_checkpoint.read_bytes()).hexdigest()
    assert facts["pretraining data"] == "not known"
    assert facts["parameters"] == "60,864"


def test_a_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    facts = facts_of(capsys, "fbank")
    assert facts["parameters"] == "0"
    assert facts["receptive field"] == "400 samples (25 ms)"
    assert facts.keys().isdisjoint({"paper", "published", "sha256", "source"})


def test_what_does_not_exist_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "gone.ckpt"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("auricle: error: gone.ckpt does not exist; ")
    assert captured.err.count("\n") == 1


def test_the_size_of_embedded_weights_is_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    num_bytes = embedded_path(find("apc_mini")).stat().st_size
    assert facts_of(capsys, "apc_mini")["size of the weights"] == f"{num_bytes:,} bytes"


def test_a_url_is_read(capsys: pytest.CaptureFixture[str], tera_checkpoint: Path) -> None:
    facts = facts_of(capsys, tera_checkpoint.as_uri())
    assert facts["url"] == tera_checkpoint.as_uri()
    assert facts["family"] == "tera"


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("terra", "no model is called 'terra'; close matches: tera"),
        ("gone.ckpt", "gone.ckpt does not exist"),
        ("owner/name", "a repository of Hugging Face is written hf://owner/name"),
    ],
)
def test_an_unknown_model_fails_before_torch_is_imported(model: str, hint: str) -> None:
    code = (
        "import sys; from auricle.__main__ import main; status = main(['info', sys.argv[1]]); "
        "sys.exit(99 if 'torch' in sys.modules else status)"
    )
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", code, model],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 1, done.stderr
    assert hint in done.stderr


def test_random_weights_are_not_shown_as_published(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    auricle.build(ApcConfig(hidden_size=8)).save(tmp_path / "random.safetensors")
    facts = facts_of(capsys, tmp_path / "random.safetensors")
    assert facts["name"] == "apc (random weights)"
    assert facts["pretraining data"] == "none stated: built with random weights"
    assert not {"published", "paper"} & set(facts)


def test_what_others_state_of_files_is_shown_with_its_source(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["info", "hubert_base"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "size of the weights 377,569,754 bytes" in text
    digest = "1703cf8d2cdc76f8c046f5f6a9bcd224e0e6caf4744cad1a1f4199c32cac8c8d"
    assert (
        f"hubert_base_ls960.pt: 1,136,468,879 bytes, sha256 {digest}; stated by its authors" in text
    )
    assert "at commit dba3bb02; seen in public code, not stated by its authors" in text


def test_json_of_a_published_model_is_what_the_text_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["info", "hubert", "--config", "normalize=true", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["name"], facts["weights"], facts["num_bytes"]) == (
        "hubert_base",
        "download",
        377_569_754,
    )
    assert facts["architecture"]["layers"][-1] == "layer_12"
    assert facts["architecture"]["dims"]["layer_12"] == 768
    assert facts["architecture"]["changed_config"] == {"normalize": True}


def test_json_of_a_file(capsys: pytest.CaptureFixture[str], tera_checkpoint: Path) -> None:
    assert main(["info", str(tera_checkpoint), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["place"] == str(tera_checkpoint)
    assert facts["num_bytes"] == tera_checkpoint.stat().st_size
    assert facts["architecture"]["family"] == "tera"
    assert main(["info", "fbank", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["architecture"]["num_parameters"] == 0
