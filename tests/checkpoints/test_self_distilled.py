"""Files of data2vec 2.0, SpidR and DinoSR in forms that their golden cases do not have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import auricle
from auricle.errors import CheckpointError
from auricle.models.base import Encoder
from golden_cases import GoldenCase

DATA2VEC2, SPIDR, DINOSR = (GoldenCase(name) for name in ("data2vec2_base", "spidr", "dinosr"))
SPIN, RSPIN = GoldenCase("spin"), GoldenCase("rspin")
AUDIO = "modality_encoders.AUDIO."


def content(case: GoldenCase) -> dict[str, Any]:
    held: dict[str, Any] = torch.load(case.checkpoints[0], weights_only=False)
    return held


def config() -> dict[str, Any]:
    held: dict[str, Any] = json.loads((SPIDR.folder / "config.json").read_text())
    return held


def load(folder: Path, held: object, beside: object = None, **options: Any) -> Encoder:
    folder.mkdir(exist_ok=True)
    torch.save(held, folder / "checkpoint.pt")
    if beside is not None:
        (folder / "config.json").write_text(json.dumps(beside))
    return auricle.load(folder / "checkpoint.pt", **options)


def is_right(case: GoldenCase, encoder: Encoder) -> bool:
    codes = encoder.codes_layer is not None and case.codes_differ(encoder)
    return encoder.family == case.family and case.deviation(encoder) <= case.limit and not codes


def old_scales(held: dict[str, Any]) -> None:
    held["model"][f"{AUDIO}alibi_scale"] = held["model"][f"{AUDIO}alibi_scale"][0]


def fine_tuned(held: dict[str, Any]) -> None:
    del held["model"]["_ema"]
    weights = {f"w2v_encoder.w2v_model.{key}": weight for key, weight in held["model"].items()}
    held["model"] = {**weights, "w2v_encoder.proj.weight": torch.zeros(5, 48)}
    own = {
        "_name": "wav2vec_ctc",
        "w2v_args": {"task": held["cfg"]["task"], "model": held["cfg"]["model"]},
    }
    held["cfg"] = {"task": {"_name": "audio_finetuning"}, "model": own}


def with_prenet(held: dict[str, Any]) -> None:
    """The first block as one of the audio's own encoder."""
    model = held["model"]
    for key in list(model):
        if key.startswith("blocks.0."):
            model[f"{AUDIO}context_encoder.{key}"] = model.pop(key)
    for key in list(model):
        if key.startswith("blocks.1."):
            model[key.replace("blocks.1.", "blocks.0.")] = model.pop(key)
    held["cfg"]["model"]["depth"] = 1
    held["cfg"]["model"]["modalities"]["audio"]["prenet_depth"] = 1


def scales_of_each_layer(held: dict[str, Any]) -> None:
    held["model"][f"{AUDIO}alibi_scale"] = held["model"][f"{AUDIO}alibi_scale"].repeat(
        2, 1, 1, 1, 1
    )


def scales_of_each_layer_and_prenet(held: dict[str, Any]) -> None:
    with_prenet(held)
    scales_of_each_layer(held)


def silent(held: dict[str, Any]) -> None:
    """Options that have the values of the code."""
    model = held["cfg"]["model"]
    for name in (
        "_name",
        "layer_norm_first",
        "norm_affine",
        "encoder_dropout",
        "supported_modality",
    ):
        del model[name]
    audio = model["modalities"]["audio"]
    for name in (
        "extractor_mode",
        "conv_pos_width",
        "conv_pos_groups",
        "conv_pos_depth",
        "num_alibi_heads",
    ):
        del audio[name]
    for name in [name for name in audio if "learned" in name or name == "use_alibi_encoder"]:
        del audio[name]


@pytest.mark.parametrize(
    "change",
    [
        old_scales,
        fine_tuned,
        with_prenet,
        scales_of_each_layer,
        scales_of_each_layer_and_prenet,
        silent,
        lambda held: held["model"].pop("_ema"),
        lambda held: held.update(model={f"module.{key}": x for key, x in held["model"].items()}),
    ],
)
def test_forms_of_data2vec2(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    held = content(DATA2VEC2)
    change(held)
    assert is_right(DATA2VEC2, load(tmp_path, held))


def test_norms_of_data2vec2_have_the_constant_of_the_code_where_the_file_is_silent(
    tmp_path: Path,
) -> None:
    held = content(DATA2VEC2)
    del held["cfg"]["model"]["norm_eps"]
    encoder = load(tmp_path, held)
    assert encoder.config.transformer.layer_norm_eps == 1e-6  # type: ignore[attr-defined]
    assert encoder.projection_norm.eps == 1e-5  # type: ignore[union-attr, attr-defined]


def set_option(place: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(held: dict[str, Any]) -> None:
        *sections, name = place.split(".")
        options = held["cfg"]["model"]
        for section in sections:
            options = options[section]
        options[name] = value

    return change


def as_image(held: dict[str, Any]) -> None:
    held["model"] = {
        key.replace("AUDIO", "IMAGE"): x for key, x in held["model"].items() if key != "_ema"
    }
    held["cfg"]["model"]["supported_modality"] = "IMAGE"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_option("layer_norm_first", True), "layer_norm_first must be False.*leave out a resid"),
        (set_option("norm_affine", False), "norm_affine must be True"),
        (set_option("modalities.audio.learned_alibi", True), "audio.learned_alibi must be False"),
        (set_option("modalities.audio.num_extra_tokens", 1), "num_extra_tokens must be 0"),
        (set_option("modalities.audio.conv_pos_pre_ln", True), "conv_pos_pre_ln must be False"),
        (set_option("modalities.audio.num_alibi_heads", 24), "alibi.num_heads must be at most"),
        (set_option("modalities.audio.use_alibi_encoder", False), "unexpected: .*alibi_scale"),
        (set_option("depth", 3), r"missing: blocks.2.attn.qkv.weight, .*blocks.2.norm1"),
        (as_image, "for the modality IMAGE; expected AUDIO"),
    ],
)
def test_what_is_not_implemented_is_refused(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    held = content(DATA2VEC2)
    change(held)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path, held)


def test_a_fused_weight_of_another_shape_is_named_once(tmp_path: Path) -> None:
    held = content(DATA2VEC2)
    held["model"]["blocks.0.attn.qkv.weight"] = torch.zeros(145, 48)
    with pytest.raises(CheckpointError, match="blocks.0.attn.qkv.weight is 145x48, .* 48x48$"):
        load(tmp_path, held)
    del held["model"]["blocks.0.attn.qkv.weight"]
    with pytest.raises(CheckpointError, match="missing: blocks.0.attn.qkv.weight$"):
        load(tmp_path, held)


def test_forms_of_spidr(tmp_path: Path) -> None:
    held, beside = content(SPIDR), config()
    weights = held["model"]
    wrapped = {"model": {f"module.{key}": weight for key, weight in weights.items()}}
    for number, (form, options) in enumerate(
        [(wrapped, beside), (weights, beside["model"]), (held, {"model": beside["model"]})]
    ):
        assert is_right(SPIDR, load(tmp_path / str(number), form, options))
    torch.save(held, tmp_path / "alone.pt")
    assert is_right(SPIDR, auricle.load(tmp_path / "alone.pt", family="spidr", config=beside))
    assert is_right(SPIDR, auricle.load(tmp_path / "alone.pt", config=beside))


def test_the_configuration_says_which_of_both_it_is(tmp_path: Path) -> None:
    held, beside = content(SPIDR), config()
    beside["run"]["model_type"] = "dinosr"
    encoder = load(tmp_path, held, beside)
    assert (encoder.family, encoder.codes_layers) == ("dinosr", ("layer_2",))
    assert load(tmp_path, held, beside, family="spidr").family == "spidr"
    for name in ("ema_timescale", "ema_threshold"):
        del beside["model"][name]
    assert load(tmp_path, held, beside["model"]).family == "dinosr"


def test_options_of_spidr_that_are_not_known_are_refused(tmp_path: Path) -> None:
    beside = config()
    beside["model"]["encoder_flavour"] = 1
    with pytest.raises(CheckpointError, match="not known: encoder_flavour"):
        load(tmp_path, content(SPIDR), beside)


def test_a_spidr_without_its_configuration_has_the_published_sizes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CheckpointError, match=r"mis-shaped: .*missing|missing: .*mis-shaped"):
        load(tmp_path, content(SPIDR))
    assert "without config.json beside it is read as SpidR" in caplog.text


def test_dinosr_as_its_code_keeps_it(tmp_path: Path) -> None:
    held = content(DINOSR)
    for name in ("_pre_encoder_cnn", "_pre_encoder_ln", "_pre_encoder_proj"):
        held["model"][name] = {"weight": torch.zeros(2)}
    encoder = load(tmp_path, held)
    assert is_right(DINOSR, encoder)
    assert "_pre_encoder_ln.weight" in encoder.unused_keys


def test_heads_of_a_moving_average_are_no_codebooks_of_dinosr(tmp_path: Path) -> None:
    held = content(DINOSR)
    weights = {key: x for key, x in held["model"].items() if isinstance(x, Tensor)}
    held["model"] = {
        **{f"model.{key}": x for key, x in weights.items()},
        **{f"model_ema.{key}": x + 1 for key, x in weights.items()},
    }
    assert is_right(DINOSR, load(tmp_path, held))


def test_a_dinosr_without_heads_gives_layers_and_no_codes(tmp_path: Path) -> None:
    held = content(DINOSR)
    held["model"] = {
        key: x for key, x in held["model"].items() if not key.startswith(("heads", "_codebook"))
    }
    encoder = load(tmp_path, held)
    assert encoder.codes_layer is None
    assert DINOSR.deviation(encoder) <= DINOSR.limit


def test_a_projection_between_equal_widths_is_used(tmp_path: Path) -> None:
    held = content(DINOSR)
    held["cfg"]["model"]["conv_feature_layers"] = "[(48,10,5)] + [(48,3,2)] * 4 + [(48,2,2)] * 2"
    for key, weight in held["model"].items():
        if isinstance(weight, Tensor) and 32 in weight.shape:
            shape = [48 if size == 32 else size for size in weight.shape]
            held["model"][key] = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert load(tmp_path, held).config.projection  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", [DATA2VEC2, SPIDR, DINOSR], ids=lambda case: case.name)
def test_saved_and_bare_tensors(case: GoldenCase, tmp_path: Path) -> None:
    encoder = case.load()
    encoder.save(tmp_path / "own.safetensors")
    assert is_right(case, auricle.load(tmp_path / "own.safetensors"))
    held = content(case)
    bare = {key: x for key, x in held["model"].items() if isinstance(x, Tensor)}
    if case is DATA2VEC2:
        bare[f"{AUDIO}alibi_scale"] = bare[f"{AUDIO}alibi_scale"][0]
    save_file(bare, tmp_path / "bare.safetensors")
    options = config() if case is SPIDR else held["cfg"]
    for one in (encoder.config.to_dict(), options):
        again = auricle.load(tmp_path / "bare.safetensors", family=case.family, config=one)
        assert is_right(case, again)
    save_file(encoder.state_dict(), tmp_path / "ours.safetensors")
    again = auricle.load(
        tmp_path / "ours.safetensors", family=case.family, config=encoder.config.to_dict()
    )
    assert is_right(case, again)


def options_of_spin(held: dict[str, Any]) -> dict[str, Any]:
    model: dict[str, Any] = held["hyper_parameters"]["model"]
    return model


def deeper_head(held: dict[str, Any]) -> None:
    """Another linear layer, which changes no code: its ReLU cannot act on what it is given."""
    weights = held["state_dict"]
    first, bias = (weights[f"pred_head.layers.0.{part}"] for part in ("weight", "bias"))
    width = len(first)
    both = torch.eye(width)
    weights["pred_head.layers.0.weight"] = torch.cat([first, -first])
    weights["pred_head.layers.0.bias"] = torch.cat([bias, -bias])
    weights["pred_head.layers.1.weight"] = torch.cat([both, -both], dim=1)
    weights["pred_head.layers.1.bias"] = torch.zeros(width)


def without_options(held: dict[str, Any]) -> None:
    held["hyper_parameters"] = {"model": {"encoder": {}, "pred_head": {}, "loss": {}}}


@pytest.mark.parametrize(
    "change",
    [
        deeper_head,
        without_options,
        lambda held: held.update(
            state_dict={f"_orig_mod.{key}": weight for key, weight in held["state_dict"].items()}
        ),
        lambda held: held.update(optimizer_states=[{"state": {}}], loops={"fit_loop": {}}),
    ],
)
def test_forms_of_spin(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    held = content(SPIN)
    change(held)
    assert is_right(SPIN, load(tmp_path, held))


def test_spin_of_a_wavlm_is_that_of_rspin(tmp_path: Path) -> None:
    weights = content(RSPIN)["state_dict"]
    renamed = {
        key.replace("encoder.", "encoder.model.", 1)
        .replace("pred_head.", "pred_head.layers.0.")
        .replace("codebook.", "loss_module.codebook."): weight
        for key, weight in weights.items()
    }
    held = {"state_dict": renamed, "hyper_parameters": {"model": {"encoder": {"type": "WavLM"}}}}
    assert is_right(RSPIN, load(tmp_path, held))


def test_the_head_of_spin_may_read_an_inner_layer(tmp_path: Path) -> None:
    held = content(SPIN)
    options_of_spin(held)["encoder"]["use_layer"] = 1
    encoder = load(tmp_path, held)
    assert encoder.codes_layers == ("layer_1",)
    wav = SPIN.wavs[1]
    with torch.inference_mode():
        (layer,) = encoder([wav], "layer_1")
        (codes,) = encoder.codes([wav])
    weights = held["state_dict"]
    z = layer @ weights["pred_head.layers.0.weight"].T + weights["pred_head.layers.0.bias"]
    z = torch.nn.functional.normalize(z, dim=-1)
    assert torch.equal(codes[:, 0], (z @ weights["loss_module.codebook.weight"].T).argmax(-1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: options_of_spin(held)["encoder"].update(pre_normalize=True), "pre_normalize"),
        (lambda held: options_of_spin(held)["encoder"].update(feat_select="ffn"), "feat_select"),
        (lambda held: options_of_spin(held)["pred_head"].update(activation="GELU"), "activation"),
        (lambda held: options_of_spin(held)["encoder"].update(use_layer=3), "units_layer must be"),
        (
            lambda held: held["state_dict"].pop("encoder.model.encoder.layer_norm.weight"),
            "lack encoder.model.encoder.layer_norm.weight",
        ),
        (
            lambda held: held["state_dict"].update(
                {"encoder.model.feature_extractor.conv_layers.0.0.weight": torch.zeros(32, 1, 8)}
            ),
            r"kernels are \[8, 3",
        ),
        (
            lambda held: held["state_dict"].update(
                {"encoder.model.feature_extractor.conv_layers.1.2.1.weight": torch.zeros(32)}
            ),
            "unexpected: .*conv_layers.1.2.1.weight",
        ),
        (
            lambda held: held["state_dict"].update(
                {"encoder.model.encoder.layer_norm.weight": torch.zeros(130)}
            ),
            "a multiple of 64 wide",
        ),
    ],
)
def test_other_variants_of_spin_are_refused(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    held = content(SPIN)
    change(held)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path, held)


@pytest.mark.parametrize("name", ["spin", "rspin"])
def test_saved_and_bare_spin(name: str, tmp_path: Path) -> None:
    case = GoldenCase(name)
    encoder = case.load()
    encoder.save(tmp_path / "own.safetensors")
    assert is_right(case, auricle.load(tmp_path / "own.safetensors"))
    save_file(content(case)["state_dict"], tmp_path / "bare.safetensors")
    own = encoder.config.to_dict()
    assert is_right(case, auricle.load(tmp_path / "bare.safetensors", family="spin", config=own))
    options = content(case).get("hyper_parameters", {"model": {}})
    again = auricle.load(tmp_path / "bare.safetensors", family="spin", config=options)
    assert is_right(case, again)
