from __future__ import annotations

from typing import Any

import pytest
import torch

from auricle.catalogue.family import FAMILIES
from auricle.checkpoints.keymap import KeyMap
from auricle.checkpoints.pickle.values import InertRecord
from auricle.checkpoints.repositories import convert_cpc
from auricle.errors import CheckpointError
from auricle.models.predictive_coding import Cpc, CpcConfig

CPC = FAMILIES["cpc"]
KEYS = KeyMap(CPC.formats["cpc-audio"].keys, CPC.formats["cpc-audio"].unused)


def config(**options: Any) -> CpcConfig:
    config = convert_cpc({"config": options, "weights": {}, "best": {}}, CPC).config
    assert isinstance(config, CpcConfig)
    return config


def test_options_and_their_defaults() -> None:
    assert config() == CpcConfig(
        encoder_dim=256, context_dim=256, norm="layer", recurrence="lstm", num_recurrent_layers=1
    )
    others = {"hiddenEncoder": 8, "hiddenGar": "6", "arMode": "GRU", "nLevelsGRU": 3}
    training = {"samplingType": "sequential", "nPredicts": 5, "cpc_mode": None, "rnnMode": "linear"}
    assert config(normMode="batchNorm", **others, **training) == CpcConfig(
        encoder_dim=8, context_dim=6, norm="batch", recurrence="gru", num_recurrent_layers=3
    )
    assert config(normMode="instanceNorm", arMode="RNN").recurrence == "rnn"
    assert config(normMode="instanceNorm").norm == "instance"
    assert config(normMode="ID", cpc_mode="none").norm == "none"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"encoder_type": "mfcc"}, "encoder_type must be 'cpc', but is 'mfcc'"),
        ({"arMode": "transformer"}, "arMode must be one of LSTM, GRU, RNN, but is 'transformer'"),
        ({"arMode": "no_ar"}, "arMode must be one of"),
        ({"normMode": "groupNorm"}, "normMode must be one of"),
        ({"cpc_mode": "reverse"}, "reversed and masked"),
        ({"cpc_mode": "bert"}, "reversed and masked"),
        ({"nLevelsGRU": 0}, "at least 1"),
        ({"nLevelsGRU": 10**9}, "at most"),
        ({"hiddenGar": 0}, "context_dim must be at least 1"),
    ],
)
def test_what_is_not_implemented_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        config(**options)


@pytest.mark.parametrize("norm", ["layer", "batch", "instance", "none"])
def test_every_weight_has_its_original_key(norm: Any) -> None:
    model = Cpc(CpcConfig(encoder_dim=4, context_dim=3, norm=norm, num_recurrent_layers=2))
    originals = {KEYS.original(name) for name in model.state_dict()}
    parts = {
        "layer": ("weight", "bias"),
        "batch": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
        "instance": ("weight", "bias"),
        "none": (),
    }[norm]
    assert originals == {
        *(f"gEncoder.conv{index}.{part}" for index in range(5) for part in ("weight", "bias")),
        *(f"gEncoder.batchNorm{index}.{part}" for index in range(5) for part in parts),
        *(
            f"gAR.baseNet.{part}_{side}_l{level}"
            for part in ("weight", "bias")
            for side in ("ih", "hh")
            for level in range(2)
        ),
    }


def test_the_criterion_is_dropped_and_nothing_else() -> None:
    criterion = [
        "cpcCriterion.wPrediction.predictors.0.weight",
        "gCriterion.speakerEmb.weight",
        "criterion.wPrediction.predictors.0.weight",
        "wPrediction.predictors.0.weight",
        "speakerEmb.weight",
    ]
    inside = ["gAR.other.weight", "gEncoder.conv.weight"]
    keys = [*criterion, "other.weight", *inside]
    found = KEYS.locate(dict.fromkeys(keys, torch.zeros(1)), {})
    assert found.dropped == (*criterion, "other.weight")
    assert found.unfamiliar == ("other.weight",)
    assert found.unknown == tuple(inside)


def test_the_config_may_be_a_pickled_namespace() -> None:
    namespace = InertRecord("argparse.Namespace")
    namespace.state = {"hiddenEncoder": 8, "arMode": "GRU"}
    converted = convert_cpc({"config": namespace, "weights": {}}, CPC)
    assert converted.config == CpcConfig(encoder_dim=8, recurrence="gru")
