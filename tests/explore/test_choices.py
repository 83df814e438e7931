from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import auricle
from auricle.catalogue import search
from auricle.explore import choices
from auricle.explore.choices import (
    describe_choice,
    list_choices,
    list_layers,
    must_be_downloaded,
)
from auricle.hub.location import Availability


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURICLE_CACHE", str(tmp_path))


def test_what_works_offline_comes_first_and_what_was_never_published_not_at_all() -> None:
    labels = dict(list_choices())
    assert labels["apc_mini (bundled)"] == "apc_mini"
    assert labels["tera_960hr (download)"] == "tera_960hr"
    assert labels["fbank (no weights)"] == "fbank"
    names = list(labels.values())
    assert "cpc_2018" not in names
    assert set(auricle.list_models()) - set(names) == {"cpc_2018", "pase_2019", "bestrq"}
    downloads = [must_be_downloaded(name) for name in names]
    assert downloads == sorted(downloads)
    assert 0 < sum(downloads) < len(downloads)


def test_a_sentence_tells_place_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe_choice("fbank") == "fbank: no weights."
    size = Path(choices.__file__).parents[1] / "pretrained" / "apc_mini.safetensors"
    megabytes = f"{size.stat().st_size / 1e6:.1f}"
    assert describe_choice("apc_mini") == f"apc_mini: bundled, {megabytes} MB."
    assert describe_choice("tera_960hr") == (
        "tera_960hr has to be downloaded: the size of the file is unknown, the encoder has "
        "85.3 MB of weights."
    )
    monkeypatch.setattr(choices, "known_num_bytes", lambda _: 1_234_567_890)
    assert describe_choice("tera_960hr") == "tera_960hr has to be downloaded: 1,234.6 MB."
    monkeypatch.setattr(choices, "availability", lambda _: Availability.CACHED)
    assert describe_choice("tera_960hr") == "tera_960hr: cached, 1,234.6 MB."


def test_a_model_without_a_published_size_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "availability", lambda _: Availability.DOWNLOAD)
    monkeypatch.setattr(choices, "known_num_bytes", lambda _: None)
    assert "the size of the file is unknown" in describe_choice("apc_mini")
    assert list_layers("apc_mini").names == ()


@pytest.mark.parametrize("name", ["apc_mini", "wav2vec2_base_960", "tera_960hr", "fbank"])
def test_layers_are_those_of_the_encoder(name: str) -> None:
    record = search.find(name)
    encoder = auricle.load(name) if record.size is None else auricle.build(record.size)
    layers = list_layers(name)
    assert layers.names == encoder.info.layers
    assert layers.default == encoder.info.default_layer


def test_the_list_needs_no_torch() -> None:
    code = (
        "import sys; from auricle.explore.choices import list_choices; list_choices(); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
