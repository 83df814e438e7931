from __future__ import annotations

from typing import Any

import pytest
import torch

from auricle.checkpoints.apc import KEYS, convert
from auricle.errors import CheckpointError
from auricle.frontends import FbankConfig
from auricle.models.apc import ApcConfig

AUDIO = {"feat_type": "fbank", "feat_dim": 40, "frame_length": 25, "frame_shift": 10, "cmvn": False}


def payload(**paras: Any) -> dict[str, Any]:
    paras = {"num_layers": 5, "hidden_size": 16, "dropout": 0.2, "residual": False, **paras}
    model = {"method": "apc", "n_future": 3, "paras": paras}
    return {"config": {"data": {"audio": AUDIO}, "model": model}, "model": {"w": torch.ones(1)}}


def test_every_option_is_read() -> None:
    converted = convert(payload())
    assert converted.config == ApcConfig(
        features=FbankConfig(num_mels=40, window="hamming", cmvn=False),
        num_layers=5,
        hidden_size=16,
        dropout=0.2,
        residual=False,
        num_future=3,
    )
    assert list(converted.weights) == ["w"]


def test_unknown_or_missing_options_are_refused() -> None:
    with pytest.raises(CheckpointError, match="not known: bidirectional"):
        convert(payload(bidirectional=True))
    with pytest.raises(CheckpointError, match="lacks hidden_size"):
        convert(payload(hidden_size=None))
    with pytest.raises(CheckpointError, match="does not hold: .* but has 0"):
        convert(payload(num_layers=0))


def test_the_prediction_head_belongs_to_pretraining() -> None:
    keys = ("postnet.weight", "vq_layers.0.vq_logits.bias")
    found = KEYS.locate(dict.fromkeys(keys, torch.ones(1)), {})
    assert (found.dropped, found.unfamiliar) == (keys, keys[1:])
