from __future__ import annotations

from typing import Any

import pytest
import torch

from auricle.checkpoints.formats import recognise
from auricle.checkpoints.pickle.values import InertRecord
from auricle.errors import CheckpointError


def npc_repo(method: str, **paras: object) -> dict[str, Any]:
    return {"config": {"model": {"method": method, "paras": paras}}, "model": {}}


def s3prl(config: dict[str, Any], *, legacy: bool) -> dict[str, Any]:
    sections = {"Config": config} if legacy else {"Config": {}, "Upstream_Config": config}
    return {"Transformer": {}, **sections}


@pytest.mark.parametrize(
    ("content", "name", "families"),
    [
        (npc_repo("apc"), "npc-repo", ("apc",)),
        (npc_repo("apc", vq={"codebook_size": [2]}), "npc-repo", ("vq_apc",)),
        (npc_repo("apc", vq=None), "npc-repo", ("apc",)),
        (npc_repo("vqapc"), "npc-repo", ("vq_apc",)),
        (npc_repo("npc"), "npc-repo", ("npc",)),
        (s3prl({}, legacy=False), "s3prl", ("tera", "mockingjay")),
        (s3prl({}, legacy=True), "s3prl-legacy", ("mockingjay", "tera")),
        (s3prl({"task": {"noise_proportion": 0.15}}, legacy=True), "s3prl-legacy", ("tera", "mockingjay")),
        (s3prl({"task": {"mask_frequency": 8}}, legacy=True), "s3prl-legacy", ("tera", "mockingjay")),
        (s3prl({"task": {"mask_frequency": 0}}, legacy=True), "s3prl-legacy", ("mockingjay", "tera")),
        (s3prl({"transformer": {"share_layer": True}}, legacy=True), "s3prl-legacy", ("audio_albert",)),
        (s3prl({"transformer": {"share_layer": True}}, legacy=False), "s3prl", ("audio_albert",)),
    ],
)  # fmt: skip
def test_content_tells_format_and_family(
    content: dict[str, Any], name: str, families: tuple[str, ...]
) -> None:
    layout, payload = recognise(content)
    assert layout.name == name
    assert layout.families(payload) == families


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "holds a list, expected a mapping"),
        (InertRecord("a.Model"), r"holds a a.Model, expected a mapping; save its state_dict\(\)"),
        ({"a.weight": torch.ones(1)}, "bare tensors family= and config="),
        ({}, "holds nothing"),
        ({"state": 1, "other": 2}, "not one of .*: it holds state, other"),
        ({"config": "text", "model": {}}, "not one of"),
    ],
)
def test_other_content_is_refused(content: object, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        recognise(content)


def test_an_unknown_method_is_refused() -> None:
    layout, payload = recognise(npc_repo("cpc"))
    with pytest.raises(CheckpointError, match="must be one of apc, vqapc, npc, but is 'cpc'"):
        layout.families(payload)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"dims": {}, "model_state_dict": {}}, "Whisper"),
        ({"Distiller": {}, "Config": {}, "Step": 1}, "DistilHuBERT"),
        ({"Transformer": {}, "Settings": {}}, "s3prl before December 2020"),
        ({"cfg": {"normalize": True}, "model": {}}, "WavLM or UniSpeech-SAT as Microsoft"),
    ],
)
def test_published_layouts_that_are_not_read_are_named(content: dict[str, Any], name: str) -> None:
    with pytest.raises(CheckpointError, match=f"it looks like .*{name}.* does not read"):
        recognise(content)
