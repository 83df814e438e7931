from __future__ import annotations

from typing import Any

import pytest

from auricle.checkpoints.npc import convert
from auricle.errors import CheckpointError
from auricle.models.npc import NpcConfig

PARAS = {
    "kernel_size": 11,
    "mask_size": 3,
    "n_blocks": 2,
    "hidden_size": 8,
    "dropout": 0.3,
    "residual": False,
}


def config(**paras: Any) -> NpcConfig:
    audio = {"feat_type": "fbank", "feat_dim": 80}
    model = {"paras": {**PARAS, **paras}}
    config = convert({"config": {"data": {"audio": audio}, "model": model}, "model": {}}).config
    assert isinstance(config, NpcConfig)
    return config


def test_options_and_their_defaults() -> None:
    assert config() == NpcConfig(
        kernel_size=11,
        mask_size=3,
        num_blocks=2,
        hidden_size=8,
        dropout=0.3,
        residual=False,
        codebooks=(),
    )
    other = config(batch_norm=False, activate="tanh", disable_cross_layer=True, dim_bottleneck=4)
    assert (other.batch_norm, other.activation, other.cross_layer, other.bottleneck_dim) == (
        False,
        "tanh",
        False,
        4,
    )
    assert len(config(vq={"codebook_size": [2, 2], "code_dim": [4, 4]}).codebooks) == 2


@pytest.mark.parametrize(
    ("paras", "reason"),
    [
        ({"activate": "elu"}, "activate must be one of relu, tanh"),
        ({"kernel_size": 7}, "must leave taps"),
        ({"stride": 2}, "not known: stride"),
        ({"mask_size": None}, "lacks mask_size"),
    ],
)
def test_what_is_not_implemented_is_refused(paras: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        config(**paras)
