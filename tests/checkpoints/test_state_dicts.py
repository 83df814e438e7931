from __future__ import annotations

from typing import Any

import pytest
import torch

from auricle.checkpoints.pickle.values import InertRecord
from auricle.checkpoints.state_dicts import state_dict, weights_in
from auricle.errors import CheckpointError

ONE, TWO = torch.ones(1), torch.ones(2)
STATE = {"a.weight": ONE, "b.bias": TWO}
TRAINING = {
    "optimizer": {"state": {0: {"exp_avg": ONE}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    "named_optimizer": {"state": {"a.weight": {"exp_avg": ONE}}},
    "lr_scheduler": {"last_epoch": 3},
    "epoch": 1,
    "step": torch.tensor(5),
    "rng_state": torch.zeros(4, dtype=torch.uint8),
    "args": ["--lr", "0.1"],
    3: "three",
}


@pytest.mark.parametrize(
    "path",
    [(), ("state_dict",), ("model",), ("module",), ("net",), ("params",), ("state", "model")],
)
@pytest.mark.parametrize("training", [{}, TRAINING])
def test_a_state_dict_is_found_in_what_trainers_wrap_around_it(
    path: tuple[str, ...], training: dict[Any, Any]
) -> None:
    content: dict[Any, Any] = dict(STATE)
    for name in reversed(path):
        content = {name: content}
    if path:
        content |= training
    assert weights_in(content) == STATE


def test_several_state_dicts_keep_their_paths() -> None:
    content = {"encoder": STATE, "head": {"weight": ONE}, "layer_weights": TWO, **TRAINING}
    assert weights_in(content) == {
        "layer_weights": TWO,
        "encoder.a.weight": ONE,
        "encoder.b.bias": TWO,
        "head.weight": ONE,
    }
    assert weights_in({**STATE, "_ema": {"x": ONE}}) == {**STATE, "_ema.x": ONE}


def test_what_modules_keep_beside_weights_is_left_out() -> None:
    assert weights_in({**STATE, "a._extra_state": b"", "_extra_state": None}) == STATE


def test_what_is_no_state_dict_is_named() -> None:
    assert state_dict({}, "here") == {}
    for content, message in (
        ({"a": 1}, "here must hold tensors by name, but 'a' is int"),
        ({**STATE, "c": [1.0]}, "but 'c' is list"),
        ({"model": {"a": 1}}, "but 'model' is dict"),
        ([ONE], "here must be a mapping of weights, but is list"),
        ({"a": InertRecord("numpy.ndarray")}, "'a' is numpy.ndarray; save a state dict of tensors"),
        ({1: ONE}, "but 1 is Tensor"),
    ):
        assert weights_in(content) == {}
        with pytest.raises(CheckpointError, match=message):
            state_dict(content, "here")
