from __future__ import annotations

import hashlib
import json
from pathlib import Path

import auricle
from auricle.cli.metadata import encoder_metadata, source_metadata
from auricle.outputs import FrameGeometry, LayerInfo, Window


def test_one_layer(tera_checkpoint: Path) -> None:
    encoder = auricle.load(tera_checkpoint)
    facts = encoder_metadata(encoder, "mine", tera_checkpoint, encoder.layer_infos[1:2])
    assert json.loads(facts.pop("layers")) == {
        "layer_1": {"dim": 48, "hop_samples": 160, "window_samples": 400, "start_samples": -200}
    }
    assert facts == {
        "model": "mine",
        "family": "tera",
        "sample_rate": "16000",
        "default_layer": "layer_3",
        "dtype": "float32",
        "layer": "layer_1",
        "hop_samples": "160",
        "checkpoint_sha256": hashlib.sha256(tera_checkpoint.read_bytes()).hexdigest(),
    }


def test_layers_of_two_rates_have_no_common_hop() -> None:
    layers = [
        LayerInfo(name=name, dim=2, geometry=FrameGeometry((Window(size=hop, stride=hop),)))
        for name, hop in (("fast", 10), ("slow", 20))
    ]
    facts = encoder_metadata(auricle.load("fbank"), "fbank", None, layers)
    assert facts.keys().isdisjoint({"layer", "hop_samples", "checkpoint_sha256"})
    assert json.loads(facts["layers"])["slow"]["hop_samples"] == 20


def test_the_source_is_known_by_name_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"sound")
    assert source_metadata(path) == {
        "source": str(path),
        "source_sha256": hashlib.sha256(b"sound").hexdigest(),
    }


def test_a_checkpoint_that_is_a_folder_has_no_digest(tmp_path: Path) -> None:
    encoder = auricle.load("fbank")
    facts = encoder_metadata(encoder, "mine", tmp_path, encoder.layer_infos)
    assert "checkpoint_sha256" not in facts
