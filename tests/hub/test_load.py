from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

import auricle
from auricle.errors import AuricleError, CheckpointError, UnknownModelError
from auricle.hub.load import usable_device
from golden_cases import GoldenCase


def test_unknown_names_offer_close_matches() -> None:
    with pytest.raises(UnknownModelError, match="mockingjay"):
        auricle.load("mokingjay")


def test_precision_is_the_weights_and_representations_stay_float32() -> None:
    checkpoint = GoldenCase("apc").checkpoints[0]
    encoder = auricle.load(str(checkpoint), device="cpu", precision="bf16")
    assert encoder.dtype == torch.bfloat16
    assert encoder([torch.zeros(8_000)])[0].dtype == torch.float32


def test_the_deprecated_dtype() -> None:
    checkpoint = GoldenCase("apc").checkpoints[0]
    with pytest.warns(DeprecationWarning, match="dtype=torch.float64 is deprecated: pass preci"):
        assert auricle.load(checkpoint, dtype=torch.float64).dtype == torch.float64
    with pytest.warns(DeprecationWarning, match='pass precision="bf16", or'):
        auricle.load(checkpoint, dtype=torch.bfloat16)
    with pytest.raises(AuricleError, match="floating-point type .*, but is torch.int64"):
        auricle.load("fbank", dtype=torch.int64)


def test_the_default_device_is_a_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_device("auto") == torch.empty(0).device
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(AuricleError, match="cannot use device 'cuda'"):  # this build has none
        usable_device("auto")


def test_a_checkpoint_under_a_catalogue_name_keeps_the_name() -> None:
    checkpoint = GoldenCase("apc").checkpoints[0]
    encoder = auricle.load("apc_960hr", checkpoint=checkpoint)
    assert encoder.info.name == "apc_960hr"
    # What is known of the published file does not hold for another one.
    assert encoder.info.source_url is None


def test_no_file_takes_the_place_of_a_configuration(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    checkpoint = GoldenCase("apc").checkpoints[0]
    for places in ((checkpoint, None), ("apc", checkpoint), ("apc_mini", None)):
        with pytest.raises(CheckpointError, match="its own configuration; .* as a mapping"):
            auricle.load(places[0], checkpoint=places[1], config=config)


@pytest.mark.parametrize("way", ["name", "native file", "original file", "URL"])
def test_fields_of_a_configuration_are_changed(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AURICLE_CACHE", str(tmp_path / "cache"))
    original = GoldenCase("wav2vec2_large_lv60").checkpoints[0]
    auricle.load(original).save(tmp_path / "own.safetensors")
    config: dict[str, Any] = {"normalize": False}
    place: str | Path = tmp_path / "own.safetensors"
    if way == "name":
        place, config = "apc_mini", {"features": {"cmvn": False}}
    elif way != "native file":
        place = original if way == "original file" else original.as_uri()
    plain, encoder = auricle.load(place), auricle.load(place, config=config)
    expected = msgspec.to_builtins(plain.config)
    for field, value in config.items():
        expected[field] = {**expected[field], **value} if isinstance(value, dict) else value
    assert msgspec.to_builtins(encoder.config) == expected != msgspec.to_builtins(plain.config)
    assert (plain.info.changed_config, encoder.info.changed_config) == (None, config)
    wav = 0.3 + 0.01 * torch.randn(4_000)
    with torch.no_grad():
        assert not torch.allclose(encoder([wav])[0], plain([wav])[0], atol=1e-3)
        encoder.save(tmp_path / "changed.safetensors")
        again = auricle.load(tmp_path / "changed.safetensors")
        assert again.info.changed_config == config
        assert torch.equal(again([wav])[0], encoder([wav])[0])
    assert auricle.load(place).info.changed_config is None


def test_parts_of_a_configuration_are_changed_and_changes_add_up(tmp_path: Path) -> None:
    config = {"transformer": {"layer_norm_eps": 0.1}}
    encoder = auricle.load("wav2vec2_mini", config=config)
    before = msgspec.to_builtins(auricle.load("wav2vec2_mini").config)
    before["transformer"]["layer_norm_eps"] = 0.1
    assert msgspec.to_builtins(encoder.config) == before
    encoder.save(tmp_path / "a.safetensors")
    change = {"normalize": not encoder.config.normalize}  # type: ignore[attr-defined]
    info = auricle.load(tmp_path / "a.safetensors", config=change).info
    assert info.changed_config == {**config, **change}
    assert auricle.load("wav2vec2_mini", config={}).info.changed_config is None


def test_a_change_that_is_none_of_the_family_is_refused() -> None:
    for config, message in (
        ({"normalise": True}, "config for wav2vec2_mini: there is no field normalise; expected one of normalize"),
        ({"transformer": {"heads": 1}}, "no field transformer.heads; expected one of transformer.hidden_size"),
        ({"normalize": "perhaps"}, "config for wav2vec2_mini: Expected `bool`"),
    ):  # fmt: skip
        with pytest.raises(AuricleError, match=message):
            auricle.load("wav2vec2_mini", config=config)
    with pytest.raises(CheckpointError, match="transformer"):  # which the weights do not fit
        auricle.load("wav2vec2_mini", config={"transformer": {"ffn_size": 7}})


def test_a_device_or_dtype_that_is_none_is_a_clear_error() -> None:
    with pytest.raises(AuricleError, match="cannot use device 'nowhere'"):
        auricle.load("fbank", device="nowhere")
    with pytest.raises(AuricleError, match="but is 'bfloat16'; .* pass precision=\"bf16\""):
        auricle.load("fbank", dtype="bfloat16")  # type: ignore[arg-type]


def test_a_checkpoint_of_another_size_than_its_name_says_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    auricle.load("tera_960hr", checkpoint=GoldenCase("tera").checkpoints[0])
    assert "tera_960hr is not of its size: it has 4 layers of up to 48 dims" in caplog.text
    caplog.clear()
    auricle.load("apc_360hr", checkpoint=GoldenCase("apc").checkpoints[0])
    assert "expected 3 of up to 512" in caplog.text
    caplog.clear()
    auricle.load("apc", checkpoint=GoldenCase("apc").checkpoints[0])  # a family has no size
    assert not caplog.text


def test_the_paper_of_a_variant_is_its_record_s() -> None:
    info = auricle.load("modified_cpc_mini").info
    assert (info.title, info.paper and info.paper.arxiv) == ("Modified CPC", "2002.02848")
    info = auricle.load("cpc_mini").info
    assert (info.title, info.paper and info.paper.arxiv) == ("CPC", "1807.03748")
