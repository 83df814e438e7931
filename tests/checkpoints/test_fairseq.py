from __future__ import annotations

from typing import Any

import pytest
import torch

from auricle.checkpoints.fairseq import (
    families,
    matches_args,
    matches_cfg,
    matches_converted,
    parse_layers,
    parse_numbers,
    sections,
)
from auricle.checkpoints.pickle.values import InertRecord
from auricle.errors import CheckpointError

WEIGHT = torch.zeros(1)
EXTRACTOR = {"feature_extractor.conv_layers.0.0.weight": WEIGHT}


def namespace(**options: Any) -> InertRecord:
    return InertRecord("argparse.Namespace", (), options)


ARGS = {"args": namespace(arch="wav2vec", normalize=True), "cfg": None, "model": EXTRACTOR}
CFG = {
    "args": None,
    "cfg": {"task": {"normalize": True}, "model": {"_name": "wav2vec2"}},
    "model": EXTRACTOR,
}
CONVERTED = {"task_cfg": {"normalize": True}, "model_cfg": {}, "model_weight": EXTRACTOR}


def test_each_layout_is_distinguished_from_the_others() -> None:
    payloads: list[dict[str, Any]] = [ARGS, CFG, CONVERTED, {"config": {}, "model": {}}, {}]
    matches = [
        (matches_args(payload), matches_cfg(payload), matches_converted(payload))
        for payload in payloads
    ]
    assert matches == [
        (True, False, False), (False, True, False), (False, False, True),
        (False, False, False), (False, False, False),
    ]  # fmt: skip


def test_where_both_are_there_the_sections_win() -> None:
    both = {**CFG, "args": namespace(arch="wav2vec")}
    assert (matches_args(both), matches_cfg(both)) == (False, True)
    assert sections(both)[1].get("_name", str, "") == "wav2vec2"


def test_a_cfg_of_another_kind_is_no_fairseq_file() -> None:
    assert not matches_cfg({"cfg": {"encoder_layers": 12}, "model": {}})
    assert not matches_cfg({"cfg": 3, "model": {}})


@pytest.mark.parametrize("payload", [ARGS, CFG, CONVERTED])
def test_sections(payload: dict[str, Any]) -> None:
    task, _, weights = sections(payload)
    assert task.get("normalize", bool, False)
    assert weights == EXTRACTOR


@pytest.mark.parametrize("prefix", ["w2v_encoder.w2v_model.", "encoder.w2v_model."])
@pytest.mark.parametrize(
    "pretrained",
    [
        namespace(arch="wav2vec2", encoder_layers=7, normalize=True),
        {"task": {"normalize": True}, "model": {"_name": "wav2vec2", "encoder_layers": 7}},
    ],
)
def test_of_a_fine_tuned_model_the_pretrained_one_is_taken(prefix: str, pretrained: object) -> None:
    weights = {f"{prefix}{key}": weight for key, weight in EXTRACTOR.items()}
    payload = {
        "args": namespace(arch="wav2vec_ctc", encoder_layers=3, w2v_args=pretrained),
        "model": {**weights, "w2v_encoder.proj.weight": WEIGHT},
    }
    task, model, found = sections(payload)
    assert model.require("encoder_layers", int) == 7
    assert task.require("normalize", bool)
    assert set(found) == {*weights, "w2v_encoder.proj.weight"}
    assert families(payload) == ("wav2vec2",)


def test_a_fine_tuned_model_without_its_pretrained_options_is_refused() -> None:
    payload = {"args": namespace(arch="wav2vec_ctc"), "model": {"w2v_encoder.w2v_model.x": WEIGHT}}
    with pytest.raises(CheckpointError, match="lacks w2v_args"):
        sections(payload)


AGGREGATOR = {"feature_aggregator.conv_layers.0.1.weight": WEIGHT}


@pytest.mark.parametrize(
    ("options", "weights", "family"),
    [
        ({}, AGGREGATOR, "wav2vec"),
        ({"vq_type": "none"}, AGGREGATOR, "wav2vec"),
        ({"arch": "wav2vec", "vq_type": "gumbel"}, AGGREGATOR, "vq_wav2vec"),
        ({"_name": "wav2vec", "vq_type": "kmeans"}, AGGREGATOR, "vq_wav2vec"),
        ({}, {}, "wav2vec2"),
        ({"arch": "wav2vec2"}, {}, "wav2vec2"),
        ({"_name": "hubert"}, {}, "hubert"),
        ({}, {"label_embs_concat": WEIGHT}, "hubert"),
        ({"_name": "data2vec_audio"}, {}, "data2vec"),
    ],
)
def test_the_family_follows_from_names_and_weights(
    options: dict[str, Any], weights: dict[str, Any], family: str
) -> None:
    payload: dict[str, Any] = {
        "task_cfg": {}, "model_cfg": options, "model_weight": {**EXTRACTOR, **weights}
    }  # fmt: skip
    assert families(payload) == (family,)


def test_the_task_tells_hubert_too() -> None:
    task = {"_name": "hubert_pretraining"}
    payload = {"cfg": {"task": task, "model": {}}, "model": EXTRACTOR}
    assert families(payload) == ("hubert",)


@pytest.mark.parametrize(
    ("options", "weights", "reason"),
    [
        ({"_name": "transformer"}, {}, "is of the model transformer"),
        ({"vq_type": "lattice"}, {**EXTRACTOR, **AGGREGATOR}, "vq_type must be one of"),
    ],
)
def test_other_models_are_refused(
    options: dict[str, Any], weights: dict[str, Any], reason: str
) -> None:
    payload = {"task_cfg": {}, "model_cfg": options, "model_weight": weights}
    with pytest.raises(CheckpointError, match=reason):
        families(payload)


@pytest.mark.parametrize(
    ("value", "layers"),
    [
        ("[(512, 10, 5)]", [(512, 10, 5)]),
        (
            "[(512, 10, 5)] + [(512, 3, 2)] * 2 + [(512,2,2)]",
            [(512, 10, 5), (512, 3, 2), (512, 3, 2), (512, 2, 2)],
        ),
        ("2 * [[4, 3, 1]]", [(4, 3, 1), (4, 3, 1)]),
        (" ((4, 3, 1),\n (5, 2, 1)) ", [(4, 3, 1), (5, 2, 1)]),
        ([[4, 3, 1], (5, 2, 1)], [(4, 3, 1), (5, 2, 1)]),
    ],
)
def test_layers_are_read_from_text_and_lists(
    value: object, layers: list[tuple[int, int, int]]
) -> None:
    assert parse_layers(value) == layers


@pytest.mark.parametrize(
    "value",
    [
        "__import__('os').system('true')",
        "[x for x in ()]",
        "[(4, 3, 1)] * 10**9",
        "[(4, 3, 1)] * 1000000000",
        "[(4, 3, 1)] * 1000 * 1000 * 1000",
        "[(4, 3, 1)] + [(4, 3, 1)] * 1000",
        "[(4, 3, 1)] * [2]",
        "[(4, 3, 1)] - [2]",
        "[(4, 3)]",
        "[(4, 3, -1)]",
        "[(4, 3, 0)]",
        "[(4, 3, 1.5)]",
        "[]",
        "[(4, 3, 1)",
        "4",
        "1 + 2",
        "[](1)",
        "[" * 3_000 + "]" * 500,
        "[]" + "+[]" * 1_300,
        "[(4, 3, 1)]" + " " * 5_000,
        "",
        None,
        7,
        [],
        [[4, 3, True]],
        ["abc"],
        [[4, 3, 1]] * 1_001,
    ],
)
def test_other_layers_are_refused_and_nothing_runs(value: object) -> None:
    with pytest.raises(CheckpointError):
        parse_layers(value)


def test_numbers_are_read_from_text_and_lists() -> None:
    assert parse_numbers("(2.0, 0.5, 0.999995)") == [2.0, 0.5, 0.999995]
    assert parse_numbers((2, 1e-5)) == [2.0, 1e-5]
    for value in ("2.0", "(2.0, [1])", "nan", None, [True], ["2"]):
        with pytest.raises(CheckpointError):
            parse_numbers(value)
