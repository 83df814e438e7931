from __future__ import annotations

from typing import Any

import pytest
import torch

from auricle.checkpoints.wav2vec import KEYS, convert
from auricle.errors import CheckpointError
from auricle.models.wav2vec import Wav2Vec

MODEL: dict[str, Any] = {
    "conv_feature_layers": "[(4, 10, 5), (4, 4, 2)]",
    "conv_aggregator_layers": "[(4, 2, 1), (6, 3, 1)]",
}


def payload(**model: Any) -> dict[str, Any]:
    return {"task_cfg": {}, "model_cfg": {**MODEL, **model}, "model_weight": {}}


def test_every_weight_has_its_original_key() -> None:
    config = convert(payload()).config
    originals = {KEYS.original(name) for name in Wav2Vec(config).state_dict()}
    assert originals == {
        *(f"feature_extractor.conv_layers.{layer}.0.weight" for layer in range(2)),
        *(
            f"feature_extractor.conv_layers.{layer}.2.{part}"
            for layer in range(2)
            for part in ("weight", "bias")
        ),
        *(
            f"feature_aggregator.conv_layers.{layer}.{module}.{part}"
            for layer in range(2)
            for module in (1, 3)
            for part in ("weight", "bias")
        ),
        "feature_aggregator.residual_proj.1.weight",
    }


def test_what_pretraining_alone_uses_is_dropped() -> None:
    weight = torch.zeros(1)
    keys = [
        "wav2vec_predictions.project_to_steps.weight",
        "project_features.conv_layers.0.1.weight",
        "vector_quantizer.vars",
        "feature_extractor.conv_layers.0.9",
    ]
    found = KEYS.locate(dict.fromkeys(keys, weight), {})
    assert found.dropped == tuple(keys[:3])
    assert found.unfamiliar == ("vector_quantizer.vars",)
    assert found.unknown == tuple(keys[3:])


def test_a_quantised_model_is_of_another_family() -> None:
    with pytest.raises(CheckpointError, match="is of the family vq_wav2vec"):
        convert(payload(vq_type="gumbel"))


def test_a_config_that_does_not_hold_is_a_bad_checkpoint() -> None:
    with pytest.raises(CheckpointError, match="residual_scale must be at least 0"):
        convert(payload(residual_scale=-1.0))
