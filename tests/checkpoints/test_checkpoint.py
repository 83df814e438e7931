from __future__ import annotations

import argparse
import collections
import io
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

import auricle
from auricle.__main__ import main
from auricle.catalogue import search
from auricle.catalogue.family import find_family
from auricle.checkpoints.checkpoint import Checkpoint, blank_encoder, build_encoder
from auricle.checkpoints.pickle import archives, unpickle
from auricle.checkpoints.pickle.tensors import fill_from_file
from auricle.checkpoints.reading import read_checkpoint
from auricle.errors import CheckpointError
from auricle.info import Provenance
from auricle.models.predictive_coding import Apc, ApcConfig
from checkpoints.conftest import content, saved
from golden_cases import GoldenCase

APC = GoldenCase("apc")


def test_keys_that_do_not_fit_are_listed_by_their_original_names(tmp_path: Path) -> None:
    broken = content()
    weights = broken["model"]
    del weights["rnn_layers.1.bias_hh_l0"]
    weights["rnn_layers.0.weight_ih_l0"] = torch.zeros(3, 4)
    weights["surprise"] = torch.zeros(1)
    weights["rnn_layers.7.bias_hh_l0"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as caught:
        auricle.load(saved(tmp_path, broken))
    message = str(caught.value)
    assert "missing: rnn_layers.1.bias_hh_l0;" in message
    assert "unexpected: surprise, rnn_layers.7.bias_hh_l0;" in message
    assert "mis-shaped: rnn_layers.0.weight_ih_l0 is 3x4, expected 96x80" in message


def test_quantised_weights_are_named(tmp_path: Path) -> None:
    quantised = content()
    weights = quantised["model"]
    weights["rnn_layers.1.weight_hh_l0"] = weights["rnn_layers.1.weight_hh_l0"].to(torch.int8)
    with pytest.raises(CheckpointError, match=r"quantised .*: rnn_layers.1.weight_hh_l0 is int8$"):
        auricle.load(saved(tmp_path, quantised))


@pytest.mark.parametrize("is_zip", [True, False])
def test_training_state_is_not_read(
    is_zip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = content()
    weights = whole["model"]
    sizes = [weight.nbytes for key, weight in weights.items() if not key.startswith("postnet")]
    whole["optimizer"] = {"state": {0: {"exp_avg": torch.ones(3 * sum(sizes))}}}
    path = tmp_path / "checkpoint.ckpt"
    torch.save(whole, path, _use_new_zipfile_serialization=is_zip)
    read: list[int] = []

    def counting(file: io.BufferedReader, target: torch.Tensor) -> memoryview:
        read.append(len(target))
        return fill_from_file(file, target)

    for module in (unpickle, archives):
        monkeypatch.setattr(module, "fill_from_file", counting)
    assert APC.deviation(auricle.load(path)) <= APC.limit
    assert sum(sizes) <= sum(read) < sum(sizes) + 20_000


def test_objects_of_any_class_beside_the_weights_change_nothing(tmp_path: Path) -> None:
    whole = content()
    whole["meter"] = collections.Counter("aab")
    whole["path"] = Path("/a")
    whole["config"]["note"] = argparse.Namespace(a=1)
    assert APC.deviation(auricle.load(saved(tmp_path, whole))) <= APC.limit


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    half = content()
    half["model"] = {key: weight.half() for key, weight in half["model"].items()}
    encoder = auricle.load(saved(tmp_path, half))
    assert encoder.dtype == torch.float32
    wav = APC.wavs[1]
    error = (encoder([wav])[0] - APC.tensors["out.1"]).abs().max()
    assert 0 < error < 1e-2


def test_an_old_batch_norm_has_no_step_counter(tmp_path: Path) -> None:
    case = GoldenCase("npc")
    old = content(case)
    old["model"] = {k: v for k, v in old["model"].items() if "num_batches_tracked" not in k}
    assert case.deviation(auricle.load(saved(tmp_path, old))) <= case.limit


@pytest.mark.parametrize(
    "change",
    [
        {"num_layers": 10**9},
        {"hidden_size": 10**12},
        {"hidden_size": 2**62},
        {"num_layers": "many"},
    ],
)
def test_an_absurd_configuration_fails_promptly(tmp_path: Path, change: dict[str, Any]) -> None:
    absurd = content()
    absurd["config"]["model"]["paras"].update(change)
    with pytest.raises(CheckpointError):
        auricle.load(saved(tmp_path, absurd))


@pytest.mark.parametrize("error", [RuntimeError("no kernel"), ValueError("bug"), OverflowError()])
def test_errors_of_other_origin_are_not_blamed_on_the_checkpoint(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Apc, config: ApcConfig) -> None:
        raise error

    monkeypatch.setattr(Apc, "__init__", broken)
    with pytest.raises(type(error)) as caught:
        auricle.load(APC.checkpoints[0])
    assert caught.value is error


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_size", 2**21, "hidden_size is 2097152, expected at most 1048576"),
        ("residual", "wide", "residual"),
        ("dropout", float("nan"), "dropout"),
    ],
)
def test_a_config_is_checked_before_it_is_built(field: str, value: object, message: str) -> None:
    config = msgspec.structs.replace(auricle.load(APC.checkpoints[0]).config, **{field: value})
    with pytest.raises(CheckpointError, match=f"configuration in x does not make.*{message}"):
        Checkpoint(family="apc", config=config, weights={}, source="x").build()


def test_a_family_that_does_not_match_is_an_error(tmp_path: Path) -> None:
    checkpoint = APC.checkpoints[0]
    assert auricle.load("apc", checkpoint=checkpoint).family == "apc"
    with pytest.raises(
        CheckpointError, match=r"checkpoint of apc \(format npc-repo\), not of tera"
    ):
        auricle.load("tera", checkpoint=checkpoint)
    native = tmp_path / "apc.safetensors"
    auricle.load(checkpoint).save(native)
    with pytest.raises(CheckpointError, match="checkpoint of apc, not of npc"):
        auricle.load("npc", checkpoint=native)


def test_mockingjay_and_tera_files_look_the_same_so_the_name_decides() -> None:
    checkpoint = GoldenCase("mockingjay").checkpoints[0]
    assert auricle.load(checkpoint).family == "mockingjay"
    assert auricle.load("tera", checkpoint=checkpoint).family == "tera"
    with pytest.raises(CheckpointError, match="not of audio_albert"):
        auricle.load("audio_albert", checkpoint=checkpoint)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        auricle.load(tmp_path / "nothing.ckpt")
    with pytest.raises(CheckpointError, match="expected the folder of a Hugging Face model"):
        auricle.load(tmp_path)


def test_weights_that_are_not_tensors_are_refused(tmp_path: Path) -> None:
    broken = content()
    broken["model"]["rnn_layers.0.weight_ih_l0"] = [1.0]
    with pytest.raises(CheckpointError, match="must hold tensors by name"):
        auricle.load(saved(tmp_path, broken))


def test_an_encoder_does_not_share_memory_with_another() -> None:
    first, second = APC.load(), APC.load()
    with torch.no_grad():
        next(first.parameters()).zero_()
    assert next(second.parameters()).abs().sum() > 0


def test_a_fine_tuned_head_is_listed_as_unused_and_changes_nothing(tmp_path: Path) -> None:
    case = GoldenCase("hf_wav2vec2_base")
    folder = tmp_path / "hf"
    shutil.copytree(case.folder / "hf", folder)
    weights = load_file(folder / "model.safetensors")
    tuned = {f"wav2vec2.{key}": weight for key, weight in weights.items()}
    tuned |= {"lm_head.weight": torch.zeros(32, 48), "lm_head.bias": torch.zeros(32)}
    save_file(tuned, folder / "model.safetensors")
    encoder = auricle.load(folder)
    assert case.deviation(encoder) <= case.limit
    assert {"lm_head.weight", "lm_head.bias"} <= set(encoder.unused_keys)
    assert not set(encoder.unused_keys) & set(tuned) - {
        "lm_head.weight",
        "lm_head.bias",
        "wav2vec2.masked_spec_embed",
    }


def test_a_file_s_own_source_and_digest_stay_together(tmp_path: Path) -> None:
    encoder = auricle.load(APC.checkpoints[0])
    encoder.provenance = Provenance(source_url="https://example.org/original.pt")
    encoder.save(tmp_path / "x.safetensors")
    found = Provenance(name="found", source_url="https://example.org/x", sha256="1" * 64)
    again = read_checkpoint(tmp_path / "x.safetensors", family=None, provenance=found).build()
    # The digest is of the file that was found, not of the original.
    assert again.provenance == Provenance(
        name="found", source_url="https://example.org/original.pt"
    )
    encoder.provenance = Provenance()
    encoder.save(tmp_path / "x.safetensors")
    again = read_checkpoint(tmp_path / "x.safetensors", family=None, provenance=found).build()
    assert again.provenance == found


def test_a_blank_encoder_has_the_shapes_of_the_encoder_and_no_memory() -> None:
    encoder = auricle.build("apc")
    bare = blank_encoder(find_family(encoder.family), encoder.config)
    assert bare.info.dims == encoder.info.dims
    assert {weight.device.type for weight in bare.state_dict().values()} == {"meta"}
    shapes = {name: weight.shape for name, weight in encoder.state_dict().items()}
    assert {name: weight.shape for name, weight in bare.state_dict().items()} == shapes


def test_random_state_is_left_alone() -> None:
    encoder = auricle.build("apc")
    before = torch.get_rng_state()
    blank_encoder(find_family(encoder.family), encoder.config)
    assert torch.equal(torch.get_rng_state(), before)


OF_ANOTHER_PAPER = {
    "xlsr_53": "wav2vec2_large_lv60",
    "xls_r_300m": "wav2vec2_large_lv60",
    "modified_cpc": "modified_cpc",
    "pase_plus": "pase_plus",
}
"""Model whose paper is not its family's -> a golden case of the family."""


@pytest.mark.parametrize("name", OF_ANOTHER_PAPER)
def test_title_and_paper_are_the_record_s(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = search.find(name)
    family = find_family(record.family)
    assert record.paper is not None
    assert record.paper != family.paper
    given = auricle.load(name, checkpoint=GoldenCase(OF_ANOTHER_PAPER[name]).checkpoints[0])
    given.save(tmp_path / "own.safetensors")
    built = blank_encoder(family, given.config, Provenance(name=f"{name} (random weights)"))
    assert (built.title, built.paper) == (family.title, family.paper)
    named = build_encoder(family, given.config, name=name)
    for encoder in (given, auricle.load(tmp_path / "own.safetensors"), named):
        assert (encoder.info.title, encoder.info.paper) == (record.title, record.paper)
    assert main(["info", name]) == 0
    assert record.paper.title in capsys.readouterr().out


def test_a_name_of_another_family_does_not_count() -> None:
    tera = find_family("tera")
    encoder = blank_encoder(tera, tera.preset("tera_base"), Provenance(name="xlsr_53"))
    assert (encoder.info.title, encoder.info.paper) == (tera.title, tera.paper)
