"""Weights as programs that train leave them."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import auricle
from auricle.errors import CheckpointError
from checkpoints.conftest import content, saved
from golden_cases import GoldenCase

HF = GoldenCase("hf_wav2vec2_base")


def under(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: weight for key, weight in weights.items()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder of a Hugging Face model without weights."""
    folder = tmp_path / "model"
    shutil.copytree(HF.folder / "hf", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


BARE = load_file(HF.folder / "hf" / "model.safetensors")
HEAD = {"head.weight": torch.zeros(2, 48), "pooling.attention.weight": torch.zeros(1, 48)}
TRAINERS = {
    "own.bin": under("encoder.", BARE) | HEAD,
    "ddp.pth": under("module.wav2vec2.", BARE) | under("module.", HEAD),
    "compiled.ckpt": under("_orig_mod.model.", BARE) | HEAD,
    "root.pt": BARE | HEAD,
    "lightning.ckpt": {
        "state_dict": under("model.wav2vec2.", BARE) | under("model.", HEAD),
        "epoch": 1,
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
        "hyper_parameters": {"lr": 0.1},
    },
    "trainer.pt": {"model": under("wav2vec2.", BARE) | HEAD, "args": None, "optimizer": {}},
    "deepspeed.pt": {"module": under("wav2vec2.", BARE) | HEAD, "global_steps": 3},
    "sections.pth": {"encoder": BARE, "head": {"weight": HEAD["head.weight"]}, "step": 3},
    "s3prl.ckpt": {"Upstream": under("model.", BARE), "Featurizer": HEAD, "Step": 7, "Config": {}},
    "half.pt": under("net.", {key: weight.half() for key, weight in BARE.items()}),
    "new.safetensors": under("_fsdp_wrapped_module.", BARE) | HEAD,
}


@pytest.mark.parametrize("name", TRAINERS)
def test_weights_as_trainers_leave_them(name: str, model: Path) -> None:
    content = TRAINERS[name]
    (save_file if name.endswith(".safetensors") else torch.save)(content, model / name)
    by_path, by_folder = auricle.load(model / name), auricle.load(model)
    tolerance = 1e-2 if name == "half.pt" else HF.limit
    assert HF.deviation(by_path) <= tolerance
    for key, weight in by_path.state_dict().items():
        assert torch.equal(by_folder.state_dict()[key], weight)
    heads = [key for key in by_path.unused_keys if "masked_spec_embed" not in key]
    assert all(key.endswith(("head.weight", "pooling.attention.weight")) for key in heads)
    assert len(heads) == {"half.pt": 0, "sections.pth": 1}.get(name, 2)


def test_in_the_authors_layouts_too(tmp_path: Path) -> None:
    for name, section in (
        ("apc", "model"),
        ("tera", "Transformer"),
        ("audio_albert", "Transformer"),
        ("cpc", "weights"),
        ("wav2vec2_base", "model"),
    ):
        case = GoldenCase(name)
        wrapped = content(case)
        wrapped[section] = under("module.encoder.", wrapped[section]) | HEAD
        encoder = auricle.load(saved(tmp_path, wrapped))
        assert encoder.family == case.family
        assert case.deviation(encoder) <= case.limit
        assert set(HEAD) <= set(encoder.unused_keys)


def test_weights_beside_an_encoder_are_reported_and_those_inside_must_be_known(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = model / "pytorch_model.bin"
    torch.save({**BARE, **HEAD}, path)
    auricle.load(path)
    assert "weights beside the encoder that are not known, and are not used: head" in caplog.text
    caplog.clear()
    torch.save({**under("wav2vec2.", BARE), **HEAD}, path)
    auricle.load(path)
    assert not caplog.records
    torch.save({**BARE, "encoder.layers.0.side_branch.norm.weight": torch.ones(48)}, path)
    with pytest.raises(CheckpointError, match=r"unexpected: encoder\.layers\.0\.side_branch"):
        auricle.load(path)


def test_a_part_of_an_encoder_is_an_error_that_names_what_is_missing(model: Path) -> None:
    path = model / "pytorch_model.bin"
    part = under("module.net.", BARE)
    del part["module.net.encoder.layers.1.layer_norm.bias"]
    torch.save(part | HEAD, path)
    with pytest.raises(
        CheckpointError, match=r"missing: net\.encoder\.layers\.1\.layer_norm\.bias"
    ):
        auricle.load(path)
    torch.save(HEAD, path)
    with pytest.raises(
        CheckpointError, match=r"under any prefix. It holds head\.weight, .* expected"
    ):
        auricle.load(path)


@pytest.mark.parametrize("names", [("student.", "teacher."), ("ema.", "ema.shadow.")])
def test_two_whole_encoders_are_ambiguous(names: tuple[str, str], model: Path) -> None:
    other = {key: weight + 1 for key, weight in BARE.items()}
    torch.save(under(names[0], BARE) | under(names[1], other), model / "pytorch_model.bin")
    with pytest.raises(CheckpointError) as caught:
        auricle.load(model)
    assert all(repr(name.rstrip(".")) in str(caught.value) for name in names)


@pytest.mark.parametrize(
    "held",
    [
        {"model": BARE, "model_ema": {key: weight + 1 for key, weight in BARE.items()}},
        {"ema": {key: weight + 1 for key, weight in BARE.items()}, "state_dict": BARE, "epoch": 3},
        under("net.", BARE)
        | under("ema_model.net.", {k: weight + 1 for k, weight in BARE.items()}),
    ],
)
def test_of_a_model_and_its_moving_average_the_model_is_taken(
    held: dict[str, Any], model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(held, model / "pytorch_model.bin")
    with caplog.at_level(logging.WARNING):
        encoder = auricle.load(model)
    assert HF.deviation(encoder) <= HF.limit
    assert "holds moving averages of the weights too, under " in caplog.text
    assert any("ema" in key for key in encoder.unused_keys)


def test_of_several_files_the_usual_one_counts_and_others_are_ambiguous(model: Path) -> None:
    for name in ("best.pt", "training_args.bin", "optimizer.pt", "rng_state_0.pth"):
        torch.save(BARE if name == "best.pt" else {"lr": 0.1}, model / name)
    assert HF.deviation(auricle.load(model)) <= HF.limit
    torch.save({key: weight + 1 for key, weight in BARE.items()}, model / "last.pt")
    with pytest.raises(
        CheckpointError, match=r"several files of weights: best\.pt, last\.pt; pass"
    ):
        auricle.load(model)
    save_file(BARE, model / "model.safetensors")
    assert HF.deviation(auricle.load(model)) <= HF.limit


def test_what_lies_beside_a_configuration_may_be_another_model_s(model: Path) -> None:
    case = GoldenCase("wav2vec2_large_lv60")
    shutil.copy(case.checkpoints[0], model / "checkpoint_best.pt")
    assert case.deviation(auricle.load(model / "checkpoint_best.pt")) <= case.limit
    # What a trainer calls args is no fairseq, whatever else it keeps.
    trained = {"model": under("wav2vec2.", BARE), "args": {"arch": "mine"}, "epoch": 3}
    torch.save(trained, model / "best.pt")
    assert HF.deviation(auricle.load(model / "best.pt")) <= HF.limit


def test_data2vec_s_teacher_is_named_and_not_used(tmp_path: Path) -> None:
    case = GoldenCase("wav2vec2_base")
    for path in case.checkpoints:
        held: dict[str, Any] = torch.load(path, weights_only=False)
        weights = held.get("model_weight", held.get("model"))
        weights["_ema"] = {"layer_norm.weight": torch.zeros(3)}
        encoder = auricle.load(saved(tmp_path, held))
        assert case.deviation(encoder) <= case.limit
        assert "_ema.layer_norm.weight" in encoder.unused_keys
