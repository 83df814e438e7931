from __future__ import annotations

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


def test_config_is_for_baselines() -> None:
    with pytest.raises(CheckpointError, match="brings its own configuration"):
        auricle.load(GoldenCase("apc").checkpoints[0], config={"cmvn": True})
    with pytest.raises(CheckpointError, match="brings its own configuration"):
        auricle.load("apc", checkpoint=GoldenCase("apc").checkpoints[0], config={})


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
