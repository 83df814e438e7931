"""Layers by index and name, counts and times of frames, and facts of an encoder."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

import auricle
from auricle.audio.files import resample
from auricle.errors import AudioError, AuricleError, LayerError
from auricle.info import Provenance
from auricle.models.definition import CODES_FAMILIES
from auricle.models.predictive_coding import ApcConfig
from golden_cases import encoder_names, family, shared_encoder
from toy_encoder import Halves


def test_a_layer_is_given_by_index_name_or_default() -> None:
    encoder = Halves()
    asked: dict[str, list[int | str | None]] = {
        "whole": [0, -3, "whole"],
        "half": [1, -2, "half", None],
        "quarter": [2, -1, "quarter"],
    }
    for name, keys in asked.items():
        assert {encoder.layer_info(key).name for key in keys} == {name}
    with pytest.raises(LayerError, match="no layer 3: expected an index from -3 to 2 or one of"):
        encoder.layer_info(3)


def test_times_are_seconds_of_each_layer_s_own_frames() -> None:
    times = Halves().frame_times(5, "quarter") * 16_000
    assert times.tolist() == [[0, 1], [4, 5]]


def test_info_takes_the_name_from_the_provenance() -> None:
    encoder = Halves()
    assert encoder.info.name == "apc"
    encoder.provenance = Provenance(name="mine", licence="CC0")
    assert (encoder.info.name, encoder.info.licence) == ("mine", "CC0")
    assert encoder.device == torch.device("cpu")


def test_lengths_are_whole_numbers() -> None:
    encoder = Halves()
    assert encoder.num_frames(torch.tensor([0, 5])).tolist() == [0, 3]
    for wrong in (1.5, torch.tensor(1.5)):
        with pytest.raises(AuricleError, match="num_samples must be"):
            encoder.num_frames(wrong)  # type: ignore[type-var]


def test_a_configuration_is_a_dict_to_other_libraries() -> None:
    config = ApcConfig(num_layers=2)
    assert config.to_dict()["num_layers"] == 2
    assert msgspec.convert(config.to_dict(), ApcConfig) == config


def test_codes_are_of_the_layer_that_has_codebooks() -> None:
    for name, layer, num_codebooks in (("vq_apc_mini", "rnn_3", 1), ("apc_mini", None, 0)):
        encoder = auricle.load(name)
        assert (encoder.codes_layer, encoder.num_codebooks) == (layer, num_codebooks)
        quantised = [info.name for info in encoder.layer_infos if info.num_codebooks]
        assert quantised == ([] if layer is None else [layer])


def test_printing_an_encoder_names_it_first() -> None:
    text = repr(auricle.load("apc_mini"))
    first = text.splitlines()[1].strip()
    assert text.startswith("Apc(")
    assert first.startswith("apc_mini, family=apc, layers=")
    assert first.endswith("frames_per_second=100")


def test_an_encoder_without_codes_says_why_and_which_families_give_them() -> None:
    families = {
        family(name) for name in encoder_names() if shared_encoder(name).codes_layer is not None
    }
    assert families == set(CODES_FAMILIES.replace(" and ", ", ").split(", "))
    message = r"wav2vec2_mini .*has no quantiser \(that of wav2vec 2.0 served pretraining only and"
    with pytest.raises(AuricleError, match=f"{message}.*encoders of {CODES_FAMILIES} do"):
        auricle.load("wav2vec2_mini").codes_info()


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000])
def test_frame_times_at_the_rate_of_a_file(rate: int) -> None:
    """They are those of the waveform that the encoder makes of it, to the sample."""
    encoder = auricle.load("fbank")
    for num_samples in range(9000, 9011):
        resampled = len(resample(np.zeros(num_samples, np.float32), rate, 16_000))
        times = encoder.frame_times(num_samples, sample_rate=rate)
        assert torch.equal(times, encoder.frame_times(resampled))
        centres = encoder.frame_centres(num_samples, sample_rate=rate)
        assert torch.equal(centres, encoder.frame_centres(resampled))
    with pytest.raises(AudioError, match="sample rate is 0"):
        encoder.frame_times(9000, sample_rate=0)
