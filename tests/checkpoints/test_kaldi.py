from __future__ import annotations

import pytest

from auricle.checkpoints.kaldi import FIXED, RENAMED, fbank_fields
from auricle.checkpoints.options import Options
from auricle.errors import CheckpointError
from auricle.frontends import FbankConfig


def test_every_option_reaches_its_field() -> None:
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
    assert set(values) == set(RENAMED)
    config = FbankConfig(**fbank_fields(Options(values, "fbank")))
    default = FbankConfig()
    for name, (field, kind) in RENAMED.items():
        assert getattr(config, field) == kind(values[name])  # type: ignore[call-arg]
        if name != "sample_frequency":
            assert getattr(config, field) != getattr(default, field)


@pytest.mark.parametrize("name", FIXED)
def test_what_is_not_implemented_is_refused(name: str) -> None:
    fbank_fields(Options({name: FIXED[name][0]}, "fbank"))
    with pytest.raises(CheckpointError, match=rf"fbank\.{name} must be"):
        fbank_fields(Options({name: 8_000.5}, "fbank"))


def test_options_without_effect_are_accepted_and_unknown_ones_refused() -> None:
    assert fbank_fields(Options({"channel": 0, "htk_compat": True}, "fbank")) == {}
    with pytest.raises(CheckpointError, match="not known: bins"):
        fbank_fields(Options({"bins": 3}, "fbank"))
