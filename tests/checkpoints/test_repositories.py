from __future__ import annotations

from typing import Any

import pytest

from auricle.catalogue.family import FAMILIES
from auricle.checkpoints.keymap import KeyMap
from auricle.checkpoints.repositories import convert_pase
from auricle.errors import CheckpointError
from auricle.models.pase import Pase, PaseConfig

PRESETS = FAMILIES["pase"].presets()

SMALL = {"kwidths": [5, 4, 3], "strides": [1, 2, 2], "fmaps": [4, 6, 8]}


def config(**options: Any) -> PaseConfig:
    config = convert_pase({"config": options, "weights": {}}, FAMILIES["pase"]).config
    assert isinstance(config, PaseConfig)
    return config


def test_published_configs() -> None:
    blocks = {
        "kwidths": [251, 20, 11, 11, 11, 11, 11, 11],
        "strides": [1, 10, 2, 1, 2, 1, 2, 2],
        "fmaps": [64, 64, 128, 128, 256, 256, 512, 512],
    }
    assert config(**blocks, emb_dim=100, norm_out=True) == PRESETS["pase"]
    plus = {"rnn_dim": 512, "denseskips": True, "rnn_pool": True, "rnn_layers": 1}
    assert config(**blocks, **plus, emb_dim=256, norm_out=True) == PRESETS["pase_plus"]


def test_options_and_their_defaults() -> None:
    assert config() == PaseConfig(
        kernel_sizes=(251, 10, 5, 5, 5, 5, 5, 5), embedding_dim=256, normalizes_output=False
    )
    assert config(rnn_dim=8).rnn_dim is None
    assert config(rnn_pool=True, emb_dim=12).rnn_dim == 12
    assert config(rnn_pool=True, rnn_layers=3, rnn_dropout=0.2).num_rnn_layers == 3
    assert config(rnn_pool=True, rnn_dropout=0.2).rnn_dropout == 0.2
    assert config(densemerge="concat").skip_merge is None
    assert config(densemerge="concat", denseskips=True).skip_merge == "concat"
    plain = {"sincnet": True, "norm_type": "bnorm", "activation": None, "vq_K": None, "sr": 16000}
    assert config(**plain, dilations=[1, 1], name="WaveFe", vq_beta=0.5) == config()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sincnet": False}, "sincnet must be True"),
        ({"norm_type": "inorm"}, "norm_type must be 'bnorm'"),
        ({"pad_mode": "constant"}, "pad_mode must be 'reflect'"),
        ({"activation": "glu"}, "activation must be 'prelu'"),
        ({"rnn_type": "GRU", "rnn_pool": True}, "rnn_type must be 'qrnn'"),
        ({"vq_K": 50}, "vq_K must be 0"),
        ({"tanh_out": True}, "tanh_out must be False"),
        ({"resblocks": True}, "resblocks must be False"),
        ({"name": "asppRes"}, "name must be 'WaveFe'"),
        ({"sr": 8000}, "sr must be 16000"),
        ({"dilations": [1, 2]}, "dilations other than 1"),
        ({"densemerge": "max"}, "densemerge must be one of sum, concat"),
        ({"sinc_stride": 2}, "not known: sinc_stride"),
        ({**SMALL, "strides": [1, 2]}, "equally long"),
        ({**SMALL, "kwidths": [6, 4, 3]}, "begin with an odd one"),
        ({**SMALL, "fmaps": [4, 0, 8]}, "at least 1"),
        ({"emb_dim": 0}, "at least 1"),
        ({"rnn_pool": True, "rnn_layers": 10**9}, "at most"),
    ],
)
def test_what_is_not_implemented_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        config(**options)


def test_every_weight_has_its_original_key() -> None:
    model = Pase(config(**SMALL, rnn_pool=True, rnn_layers=2, denseskips=True, norm_out=True))
    keymap = KeyMap(FAMILIES["pase"].formats["pase"].keys)
    originals = {keymap.original(name) for name in model.state_dict()}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert originals == {
        "blocks.0.conv.low_hz_",
        "blocks.0.conv.band_hz_",
        *(f"blocks.{index}.conv.{part}" for index in (1, 2) for part in ("weight", "bias")),
        *(
            f"blocks.{index}.norm.{part}"
            for index in range(3)
            for part in ("weight", "bias", *statistics)
        ),
        *(f"blocks.{index}.act.weight" for index in range(3)),
        *(f"rnn.layers.{index}.linear.{part}" for index in (0, 1) for part in ("weight", "bias")),
        *(f"denseskips.{index}.weight" for index in (0, 1)),
        "W.weight",
        "W.bias",
        *(f"norm_out.{part}" for part in statistics),
    }
