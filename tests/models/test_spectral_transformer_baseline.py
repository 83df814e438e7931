from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import auricle
from auricle.catalogue.family import FAMILIES
from auricle.errors import AuricleError
from golden_cases import deviation

PRESETS = FAMILIES["baseline"].presets()


@pytest.mark.parametrize(
    ("name", "dim"),
    [("fbank", 80), ("mel", 80), ("mfcc", 13), ("spectrogram", 201), ("s3prl_fbank", 240)],
)
def test_a_baseline_is_its_front_end(name: str, dim: int) -> None:
    wav = 0.1 * torch.randn(8_000)
    (output,) = auricle.load(name)([wav])
    assert output.shape[1] == dim
    assert torch.equal(output, PRESETS[name].features.features(wav.unsqueeze(0), [8_000])[0])
    assert auricle.load(name).info.num_parameters == 0


@pytest.mark.parametrize("name", ["fbank", "mel", "linear"])
def test_features_of_s3prl_are_what_it_computes(name: str) -> None:
    """The file holds a waveform and what the upstreams of espnet-s3prl 2026.5.14 give for it."""
    golden = load_file(Path(__file__).parents[1] / "data" / "s3prl_baselines.safetensors")
    encoder = auricle.load(f"s3prl_{name}")
    (output,) = encoder([golden["wav"]])
    expected = golden[name]
    assert abs(len(output) - len(expected)) <= 1
    assert deviation(output[: len(expected)], expected) < 1e-5
    (beside_another, _) = encoder([golden["wav"], golden["wav"].repeat(2)])
    assert deviation(beside_another, output) < 1e-5


def test_options_of_the_front_end() -> None:
    config = {"cmvn": True, "delta_order": 2}
    encoder = auricle.load("fbank", config=config)
    (output,) = encoder([0.1 * torch.randn(8_000)])
    assert output.shape[1] == 240
    assert output.mean(dim=0).abs().max() < 1e-5
    with pytest.raises(AuricleError, match="fbank.*speed"):
        auricle.load("fbank", config={"speed": 2})
    with pytest.raises(AuricleError, match="window"):
        auricle.load("fbank", config={"window": "triangle"})


def test_a_baseline_computes_where_it_was_put() -> None:
    encoder = auricle.load("fbank", device="meta")
    assert encoder.device == torch.device("meta")
    (output,) = encoder([torch.randn(8_000)])
    assert (output.device.type, output.shape) == ("meta", (48, 80))
    assert auricle.load("fbank").device == torch.device("cpu")
    assert dict(encoder.state_dict()) == {}
