from __future__ import annotations

from typing import Any

import pytest

from auricle.checkpoints.vq_wav2vec import convert
from auricle.errors import CheckpointError
from auricle.models.vq_wav2vec import VqWav2Vec, VqWav2VecConfig
from auricle.nn.vector_quantizer import GumbelQuantizerConfig, KmeansQuantizerConfig

MODEL: dict[str, Any] = {
    "conv_feature_layers": "[(8, 10, 5)]",
    "conv_aggregator_layers": "[(8, 2, 1)]",
}


def payload(**model: Any) -> dict[str, Any]:
    return {"task_cfg": {}, "model_cfg": {**MODEL, **model}, "model_weight": {}}


def quantizer_keys(**model: Any) -> set[str]:
    converted = convert(payload(**model))
    assert isinstance(converted.config, VqWav2VecConfig)
    names = VqWav2Vec(converted.config).state_dict()
    originals = {converted.keymap.original(name) for name in names}
    prefix = "vector_quantizer."
    return {key.removeprefix(prefix) for key in originals if key.startswith(prefix)}


def test_gumbel_options_and_keys() -> None:
    for temperature in ("(2.0, 0.5, 0.9)", (2.0, 0.5, 0.9), [2.0, 0.5, 0.9]):
        config = convert(
            payload(
                vq_type="gumbel", vq_vars=5, vq_groups=4, combine_groups=True, vq_depth=2,
                vq_temp=temperature,
            )
        ).config  # fmt: skip
        assert isinstance(config, VqWav2VecConfig)
        assert config.quantizer == GumbelQuantizerConfig(
            num_groups=4, num_entries=5, is_shared=True, depth=2, temperature=(2.0, 0.5, 0.9)
        )
    assert quantizer_keys(vq_type="gumbel") == {"vars", "weight_proj.weight", "weight_proj.bias"}
    assert quantizer_keys(vq_type="gumbel", vq_depth=3) == {
        "vars",
        *(
            f"weight_proj.{place}.{part}"
            for place in ("0.0", "1.0", "2")
            for part in ("weight", "bias")
        ),
    }


def test_kmeans_options_and_keys() -> None:
    config = convert(payload(vq_type="kmeans", vq_gamma=0.5)).config
    assert isinstance(config, VqWav2VecConfig)
    assert config.quantizer == KmeansQuantizerConfig(
        num_groups=2, num_entries=320, is_shared=False, commitment=0.5
    )
    assert quantizer_keys(vq_type="kmeans") == {
        "embedding", "projection.0.weight", "projection.1.weight", "projection.1.bias"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({}, "lacks vq_type"),
        ({"vq_type": "none"}, "vq_type must be one of gumbel, kmeans"),
        ({"vq_type": "kmeans", "vq_groups": 3}, "evenly among 3"),
        ({"vq_type": "kmeans", "vq_dim": 16}, "vq_dim of 0 or 8"),
        ({"vq_type": "gumbel", "vq_temp": (2.0, 0.5)}, "3 numbers in vq_temp"),
        ({"vq_type": "gumbel", "vq_depth": 0}, "at least 1"),
    ],
)
def test_what_does_not_hold_is_refused(model: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        convert(payload(**model))


def test_a_quantised_width_of_the_extractors_is_the_same_as_none() -> None:
    assert convert(payload(vq_type="kmeans", vq_dim=8)).config == (
        convert(payload(vq_type="kmeans")).config
    )
