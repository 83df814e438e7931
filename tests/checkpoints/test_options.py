from __future__ import annotations

import pytest
import torch

from auricle.checkpoints.options import FBANK_DEMANDS, FBANK_FIELDS, Options, fbank_fields
from auricle.checkpoints.pickle.values import InertRecord
from auricle.errors import CheckpointError
from auricle.frontends.fbank import FbankConfig

SECTION = Options({"eps": "1e-12", "size": 8.0, "flag": 1, "none": None, "kind": "relu"}, "model")


def test_loose_types_are_read_as_what_they_mean() -> None:
    assert SECTION.require("eps", float) == 1e-12
    assert SECTION.require("size", int) == 8
    assert SECTION.require("flag", bool) is True
    assert SECTION.get("none", int, 3) == 3
    assert "none" not in SECTION


def test_what_cannot_be_read_is_an_error_that_names_it() -> None:
    with pytest.raises(CheckpointError, match=r"model\.kind: Expected `int`"):
        SECTION.require("kind", int)
    with pytest.raises(CheckpointError, match=r"model lacks depth; it has eps, size"):
        SECTION.require("depth", int)
    with pytest.raises(CheckpointError, match=r"model must be a mapping of options, but is list"):
        Options([], "model")
    with pytest.raises(CheckpointError, match=r"model\.kind must be a mapping"):
        SECTION.section("kind")


def test_tensors_and_records_are_no_values() -> None:
    options = Options({"t": torch.ones(3), "r": InertRecord("a.B")}, "model")
    for name in ("t", "r"):
        with pytest.raises(CheckpointError, match=rf"model\.{name} must be 1, but is"):
            options.demand(name, 1, "why")
        for kind in (int, float, bool, str):
            with pytest.raises(CheckpointError, match=rf"model\.{name}: Expected"):
                options.require(name, kind)


def test_choices() -> None:
    assert SECTION.choice("kind", ("relu", "tanh"), None) == "relu"
    assert SECTION.choice("other", ("relu", "tanh"), "tanh") == "tanh"
    with pytest.raises(CheckpointError, match=r"model\.kind must be one of gelu, but is 'relu'"):
        SECTION.choice("kind", ("gelu",), None)


def test_unknown_options_are_refused() -> None:
    SECTION.refuse_unknown(("eps", "size", "flag", "kind"))
    with pytest.raises(CheckpointError, match=r"not known: flag, kind"):
        SECTION.refuse_unknown(("eps", "size"))
    SECTION.without(("flag", "kind")).refuse_unknown(("eps", "size"))


def test_demands() -> None:
    SECTION.demand("kind", "relu", "so it is")
    SECTION.demand("absent", 1, "so it is")
    with pytest.raises(CheckpointError, match=r"model\.kind must be 'tanh', but is 'relu': why"):
        SECTION.demand("kind", "tanh", "why")


def test_every_option_of_kaldi_reaches_its_field() -> None:
    values: dict[str, object] = {
        "num_mel_bins": 40,
        "frame_length": "20",
        "frame_shift": 12.5,
        "window_type": "blackman",
        "blackman_coeff": 0.4,
        "preemphasis_coefficient": 0.9,
        "remove_dc_offset": False,
        "round_to_power_of_two": False,
        "use_power": False,
        "low_freq": 50,
        "high_freq": -400,
        "use_log_fbank": False,
        "subtract_mean": True,
        "sample_frequency": 16000.0,
    }
    assert set(values) == set(FBANK_FIELDS)
    config = FbankConfig(**fbank_fields(Options(values, "fbank")))
    default = FbankConfig()
    for name, (field, kind) in FBANK_FIELDS.items():
        assert getattr(config, field) == kind(values[name])  # type: ignore[call-arg]
        if name != "sample_frequency":
            assert getattr(config, field) != getattr(default, field)


@pytest.mark.parametrize("name", FBANK_DEMANDS)
def test_options_of_kaldi_that_are_not_implemented(name: str) -> None:
    fbank_fields(Options({name: FBANK_DEMANDS[name][0]}, "fbank"))
    with pytest.raises(CheckpointError, match=rf"fbank\.{name} must be"):
        fbank_fields(Options({name: 8_000.5}, "fbank"))


def test_options_without_effect_are_accepted_and_unknown_ones_refused() -> None:
    assert fbank_fields(Options({"channel": 0, "htk_compat": True}, "fbank")) == {}
    with pytest.raises(CheckpointError, match="not known: bins"):
        fbank_fields(Options({"bins": 3}, "fbank"))
