from __future__ import annotations

import pytest
import torch

import auricle
from auricle.errors import AuricleError, CheckpointError, UnknownModelError
from golden_cases import GoldenCase


def test_unknown_names_offer_close_matches() -> None:
    with pytest.raises(UnknownModelError, match="mockingjay"):
        auricle.load("mokingjay")


def test_device_and_dtype_are_the_weights_and_representations_stay_float32() -> None:
    checkpoint = GoldenCase("apc").checkpoints[0]
    encoder = auricle.load(str(checkpoint), device="cpu", dtype=torch.bfloat16)
    assert encoder.dtype == torch.bfloat16
    assert encoder([torch.zeros(8_000)])[0].dtype == torch.float32
    with pytest.raises(AuricleError, match="floating-point type, but is torch.int64"):
        auricle.load("fbank", dtype=torch.int64)


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
