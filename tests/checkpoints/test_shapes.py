from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import auricle
from auricle.catalogue.family import FAMILIES
from auricle.checkpoints.checkpoint import blank_encoder
from auricle.checkpoints.formats import convert_bare
from auricle.checkpoints.keymap import KeyMap
from auricle.checkpoints.shapes import FAIRSEQ2, NAMES, TORCHAUDIO
from auricle.errors import CheckpointError
from auricle.models.waveform_transformer import WaveformTransformerConfig

CONVS = ((16, 10, 5), *((16, 3, 2),) * 4, *((16, 2, 2),) * 2)


def config(name: str, **options: Any) -> WaveformTransformerConfig:
    """A config that differs from the default in these dotted options."""
    values: dict[str, Any] = {
        "extractor": {"layers": CONVS, "norm": "group", "bias": False},
        "transformer": {
            "hidden_size": 32, "num_layers": 2, "num_heads": 16, "ffn_size": 24, "layer_drop": 0.05,
            "positions": {"kernel_size": 8, "num_groups": 4},
        },
    }  # fmt: skip
    for key, value in options.items():
        *sections, last = key.split("__")
        inner = values
        for section in sections:
            inner = inner[section]
        inner[last] = value
    kind = FAMILIES["omniasr" if name == FAIRSEQ2 else "hubert"].config_type()
    result = msgspec.convert(values, kind)
    assert isinstance(result, WaveformTransformerConfig)
    return result


def weights(name: str, config: WaveformTransformerConfig, prefix: str = "") -> dict[str, Tensor]:
    """Weights of an encoder under the names of a library."""
    encoder = blank_encoder(FAMILIES["hubert"], config)
    generator = torch.Generator().manual_seed(0)
    named = {}
    for ours, weight in encoder.state_dict().items():
        originals = list(NAMES[name].keymap.originals(ours))
        is_post_norm = name == FAIRSEQ2 and not config.transformer.pre_layer_norm
        original = originals[-1] if is_post_norm else originals[0]
        named[prefix + original] = torch.randn(weight.shape, generator=generator)
    return named


def saved(content: object, folder: Path) -> Path:
    path = folder / "some.pt"
    torch.save(content, path)
    return path


OPTIONS: list[dict[str, Any]] = [
    {},
    {"extractor__norm": "layer", "normalize": True},
    {"extractor__bias": True},
    {"extractor__layers": ((8, 7, 5), (12, 5, 2), *((16, 3, 2),) * 5)},
    {"transformer__pre_layer_norm": True},
    {"transformer__hidden_size": 48, "transformer__ffn_size": 20, "transformer__num_layers": 3},
    {"transformer__positions": {"kernel_size": 9, "num_groups": 2}},
    {"transformer__positions": {"kind": "plain", "kernel_size": 6, "num_groups": 1}},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", [FAIRSEQ2, TORCHAUDIO])
def test_shapes_and_names_give_every_option(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    expected = config(name, **options)
    given = {
        "transformer": {"num_heads": 16, "pre_layer_norm": expected.transformer.pre_layer_norm}
    }
    path = saved(weights(name, expected), tmp_path)
    encoder = auricle.load(path, config=None if name == FAIRSEQ2 else given, device="cpu")
    assert encoder.config == expected
    assert encoder.family == ("omniasr" if name == FAIRSEQ2 else "hubert")
    assert not encoder.unused_keys


@pytest.mark.parametrize(
    ("width", "norm", "heads"), [(768, "group", 12), (768, "layer", 12), (1024, "layer", 16)]
)
def test_published_widths_need_no_options(
    width: int, norm: str, heads: int, tmp_path: Path
) -> None:
    tiny = {"transformer__num_layers": 1, "transformer__ffn_size": 8}
    expected = config(
        TORCHAUDIO,
        normalize=norm == "layer",
        extractor__norm=norm,
        transformer__hidden_size=width,
        transformer__num_heads=heads,
        transformer__pre_layer_norm=norm == "layer",
        **tiny,
    )
    path = saved(weights(TORCHAUDIO, expected), tmp_path)
    assert auricle.load(path, device="cpu").config == expected
    other = auricle.load(path, config={"num_heads": 8, "normalize": False}, device="cpu").config
    assert isinstance(other, WaveformTransformerConfig)
    assert (other.transformer.num_heads, other.normalize) == (8, False)


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "wav2vec2.", "model.wav2vec2.", "encoder.hubert_pretrain_model.wav2vec2."],
)
def test_prefixes_and_heads_of_the_trainers(
    prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = config(TORCHAUDIO, extractor__norm="layer")
    held = weights(TORCHAUDIO, expected, prefix)
    outer = prefix.removesuffix("wav2vec2.") if prefix.endswith("wav2vec2.") else prefix
    extra = {
        f"{outer}mask_generator.mask_embedding": torch.zeros(32),
        f"{outer}logit_generator.label_embeddings": torch.zeros(5, 4),
        f"{prefix}aux.weight": torch.zeros(3, 32),
    }
    if prefix.startswith("encoder."):
        extra["encoder.global_step"] = torch.tensor([7])
    options = {"encoder_num_heads": 16, "encoder_layer_norm_first": False, "mask_prob": 0.8}
    path = saved({**held, **extra}, tmp_path)
    encoder = auricle.load(path, config=options, device="cpu")
    # ESPnet never normalises waveforms; torchaudio does for models with a norm in every layer.
    normalize = "hubert_pretrain_model" not in prefix
    assert encoder.config == msgspec.structs.replace(expected, normalize=normalize)
    assert set(encoder.unused_keys) == set(extra)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_wavlm_of_torchaudio_has_packed_projections(prefix: str, tmp_path: Path) -> None:
    positions = {"num_buckets": 12, "max_distance": 99}
    expected = msgspec.convert(
        {
            **msgspec.to_builtins(config(TORCHAUDIO, transformer__num_heads=4)),
            "transformer": {
                **msgspec.to_builtins(config(TORCHAUDIO, transformer__num_heads=4).transformer),
                "relative_positions": positions,
            },
        },
        FAMILIES["wavlm"].config_type(),
    )
    encoder = blank_encoder(FAMILIES["wavlm"], expected)
    keymap = KeyMap(
        (*FAMILIES["wavlm"].formats[TORCHAUDIO].keys, *NAMES[TORCHAUDIO].keymap.renames)
    )
    held = {
        next(keymap.originals(name)): torch.rand(weight.shape)
        for name, weight in encoder.state_dict().items()
    }
    plain = dict(held)
    for layer in range(2):
        place = f"encoder.transformer.layers.{layer}.attention"
        for part in ("weight", "bias"):
            packed = [held.pop(f"{place}.{name}_proj.{part}") for name in "qkv"]
            held[f"{place}.attention.in_proj_{part}"] = torch.cat(packed)
    path = saved({prefix + key: weight for key, weight in held.items()}, tmp_path)
    options = {"pre_layer_norm": False, "encoder_max_distance": 99}
    loaded = auricle.load(path, config=options, device="cpu")
    assert (loaded.family, loaded.config) == ("wavlm", expected)
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, plain[next(keymap.originals(name))])
    given = auricle.load("wavlm", checkpoint=path, config=options, device="cpu")
    assert given.config == expected
    converted = convert_bare(held, "wavlm", expected)
    assert set(converted.keymap.locate(converted.weights, encoder.state_dict()).weights) == set(
        encoder.state_dict()
    )
    with pytest.raises(CheckpointError, match="do not fit the hubert encoder"):
        auricle.load(
            "hubert",
            checkpoint=path,
            config={"num_heads": 4, "pre_layer_norm": False},
            device="cpu",
        )


@pytest.mark.parametrize("wrapped", ["state_dict", "model"])
def test_a_trainer_s_sections(wrapped: str, tmp_path: Path) -> None:
    expected = config(FAIRSEQ2, extractor__norm="layer", normalize=True)
    content = {wrapped: weights(FAIRSEQ2, expected, "module."), "epoch": 3, "optimizer": {}}
    assert auricle.load(saved(content, tmp_path), device="cpu").config == expected


@pytest.mark.parametrize("name", [FAIRSEQ2, TORCHAUDIO])
def test_a_safetensors_file(name: str, tmp_path: Path) -> None:
    """Names that say what a file of torch is say it of safetensors too."""
    given = weights(name, config(name, transformer__hidden_size=1024, transformer__num_heads=16))
    path = tmp_path / "some.safetensors"
    save_file(given, path)
    loaded = [auricle.load(one) for one in (path, saved(given, tmp_path))]
    assert loaded[0].config == loaded[1].config
    with pytest.raises(CheckpointError, match="is a checkpoint of .*, not of npc"):
        auricle.load(path, family="npc")


def test_options_in_espnet_s_configuration_or_beside_the_checkpoint(tmp_path: Path) -> None:
    expected = config(TORCHAUDIO)
    path = saved(weights(TORCHAUDIO, expected), tmp_path)
    options = {"encoder_num_heads": 16, "encoder_layer_norm_first": False}
    espnet = {"encoder": "torchaudio_hubert", "encoder_conf": {**options, "final_dim": 256}}
    assert auricle.load(path, config=espnet, device="cpu").config == expected
    path.with_suffix(".json").write_text(msgspec.json.encode(options).decode())
    assert auricle.load(path, device="cpu").config == expected
    strides = {**options, "extractor_conv_layer_config": [[16, size, 1] for _, size, _ in CONVS]}
    other = auricle.load(path, config=strides, family="wav2vec2", device="cpu")
    assert other.family == "wav2vec2"
    assert other.num_frames(400) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "Nothing in it says transformer.num_heads and transformer.pre_layer_norm"),
        ({"num_heads": 16, "heads": 3}, "the option heads is not known"),
        ({"num_heads": "many", "pre_layer_norm": False}, "do not hold: .*num_heads"),
        ({"num_heads": 5, "pre_layer_norm": False}, "hidden_size must be a multiple of num_heads"),
        ({"encoder_conf": 3}, "encoder_conf must be a mapping"),
    ],
)
def test_what_is_not_said_is_asked_for(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = saved(weights(TORCHAUDIO, config(TORCHAUDIO)), tmp_path)
    with pytest.raises(CheckpointError, match=message):
        auricle.load(path, config=change, device="cpu")


def test_other_counts_of_convolutions_and_damaged_weights_are_refused(tmp_path: Path) -> None:
    heads = {"num_heads": 16, "pre_layer_norm": False}
    short = config(TORCHAUDIO, extractor__layers=CONVS[:3])
    path = saved(weights(TORCHAUDIO, short), tmp_path)
    with pytest.raises(CheckpointError, match="3 convolutions.*says extractor.layers"):
        auricle.load(path, config=heads, device="cpu")
    layers = {"conv_feature_layers": "[(16, 10, 5)] + [(16, 3, 2)] * 2"}
    assert auricle.load(path, config={**heads, **layers}, device="cpu").config == short
    held = weights(TORCHAUDIO, config(TORCHAUDIO))
    for name, weight in (
        ("encoder.transformer.pos_conv_embed.conv.weight_v", torch.zeros(3)),
        ("encoder.transformer.layers.0.feed_forward.intermediate_dense.weight", torch.zeros(0, 4)),
    ):
        newer = name.replace("weight_v", "parametrizations.weight.original1")
        key = next(key for key in held if key in (name, newer))
        with pytest.raises(CheckpointError, match="expected a weight of"):
            auricle.load(saved({**held, key: weight}, tmp_path), config=heads, device="cpu")


def test_two_encoders_of_different_sizes_are_refused(tmp_path: Path) -> None:
    small, large = config(FAIRSEQ2), config(FAIRSEQ2, transformer__num_layers=3)
    both = {**weights(FAIRSEQ2, small, "student."), **weights(FAIRSEQ2, large, "teacher.")}
    with pytest.raises(CheckpointError, match="encoders of several sizes, under 'student', 'teach"):
        auricle.load(saved(both, tmp_path), device="cpu")


def test_a_named_model_of_the_same_width_says_the_rest(tmp_path: Path) -> None:
    expected = config(
        TORCHAUDIO, normalize=True, transformer__num_heads=2, transformer__pre_layer_norm=True
    )
    held = weights(TORCHAUDIO, expected, "wav2vec2.")
    converted = convert_bare(held, "hubert", expected)
    shapes = blank_encoder(FAMILIES["hubert"], expected).state_dict()
    assert converted.config == expected
    assert set(converted.keymap.locate(held, shapes).weights) == set(shapes)
    path = saved(held, tmp_path)
    with pytest.raises(CheckpointError, match="Nothing in it says transformer.num_heads"):
        auricle.load("hubert_base", checkpoint=path, device="cpu")


@pytest.mark.parametrize("name", ["omniasr", "omniasr_w2v_300m"])
def test_a_family_s_name_stands_for_every_size(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = config(FAIRSEQ2, transformer__pre_layer_norm=True)
    path = saved(weights(FAIRSEQ2, other), tmp_path)
    with caplog.at_level(logging.WARNING):
        assert auricle.load(name, checkpoint=path, device="cpu").config == other
    assert ("is not of its size" in caplog.text) == (name != "omniasr")
