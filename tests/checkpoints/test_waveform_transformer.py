from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

import auricle
from auricle.catalogue.family import FAMILIES, FamilyFormat
from auricle.checkpoints.fairseq import matches_wavlm, wavlm_families
from auricle.checkpoints.huggingface import (
    CONFIG,
    PREPROCESSOR,
    WEIGHTS,
    model_types,
)
from auricle.checkpoints.keymap import Renamed
from auricle.checkpoints.waveform_transformer import (
    convert_distiller,
    convert_fairseq,
    convert_huggingface,
    convert_wavlm,
    huggingface_keys,
    matches_distiller,
)
from auricle.errors import AuricleError, CheckpointError
from auricle.models.waveform_transformer import (
    HubertConfig,
    Wav2Vec2Config,
    WaveformTransformerConfig,
    WavLmConfig,
)
from auricle.nn.attention import RelativePositionConfig
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.transformer import TransformerConfig
from auricle.nn.waveform_extractor import ExtractorConfig
from golden_cases import GoldenCase


def config(
    model_type: str = "wav2vec2",
    *,
    preprocessor: dict[str, Any] | None = None,
    **options: Any,
) -> WaveformTransformerConfig:
    payload = {
        CONFIG: {"model_type": model_type, **options},
        PREPROCESSOR: preprocessor or {},
        WEIGHTS: {},
    }
    family = FAMILIES[model_types()[model_type]]
    result = convert_huggingface(payload, family).config
    assert isinstance(result, family.config_type())
    assert isinstance(result, WaveformTransformerConfig)
    return result


def test_what_is_not_written_is_as_transformers_has_it() -> None:
    transformer = TransformerConfig(activation_dropout=0.1, layer_drop=0.1)
    expected = {"normalize": True, "normalize_eps": 1e-7, "projection_dropout": 0.0}
    assert config() == Wav2Vec2Config(transformer=transformer, **expected)
    assert config("hubert") == HubertConfig(transformer=transformer, **expected)
    wavlm = config("wavlm")
    assert wavlm.transformer.relative_positions == RelativePositionConfig()
    data2vec = config("data2vec-audio")
    assert data2vec.extractor == ExtractorConfig(norm="layer")
    assert data2vec.transformer.positions == ConvPositionConfig(
        kind="stack", kernel_size=19, depth=5
    )


def test_every_option_is_read() -> None:
    options = {
        "feat_extract_norm": "layer",
        "feat_extract_activation": "relu",
        "conv_dim": [4, 8],
        "conv_kernel": [10, 3],
        "conv_stride": [5, 2],
        "conv_bias": True,
        "feat_proj_dropout": 0.3,
        "num_conv_pos_embeddings": 9,
        "num_conv_pos_embedding_groups": 2,
        "do_stable_layer_norm": True,
        "hidden_act": "gelu_new",
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 20,
        "layer_norm_eps": "1e-3",
        "hidden_dropout": 0.4,
        "attention_dropout": 0.5,
        "activation_dropout": 0.6,
        "layerdrop": 0.7,
        "num_buckets": 12,
        "max_bucket_distance": 34,
    }
    expected = WavLmConfig(
        normalize=False,
        normalize_eps=1e-7,
        extractor=ExtractorConfig(
            layers=((4, 10, 5), (8, 3, 2)), norm="layer", bias=True, activation="relu"
        ),
        projection_dropout=0.3,
        transformer=TransformerConfig(
            hidden_size=16,
            num_layers=3,
            num_heads=4,
            ffn_size=20,
            activation="gelu_tanh",
            pre_layer_norm=True,
            layer_norm_eps=1e-3,
            positions=ConvPositionConfig(kernel_size=9, num_groups=2),
            relative_positions=RelativePositionConfig(num_buckets=12, max_distance=34),
            dropout=0.4,
            attention_dropout=0.5,
            activation_dropout=0.6,
            layer_drop=0.7,
        ),
    )
    preprocessor = {"do_normalize": False, "sampling_rate": 16_000}
    assert config("wavlm", preprocessor=preprocessor, **options) == expected


def test_options_count_for_the_models_that_read_them() -> None:
    own = {"feat_proj_layer_norm": False, "conv_pos_batch_norm": True}
    hubert = config("hubert", **own)
    assert not hubert.projection_norm
    assert hubert.transformer.positions.kind == "batch_norm"
    assert config("wav2vec2", **own) == config("wav2vec2")
    others = {"feat_extract_norm": "group", "do_stable_layer_norm": True}
    assert config("data2vec-audio", **others) == config("data2vec-audio")
    data2vec = config("data2vec-audio", conv_pos_kernel_size=7, num_conv_pos_embeddings=2)
    positions = data2vec.transformer.positions
    assert (positions.kernel_size, positions.depth) == (7, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"add_adapter": True}, "add_adapter must be False, but is True: adapters"),
        ({"adapter_attn_dim": 16}, "has adapter_attn_dim: adapters"),
        ({"hidden_act": "mish"}, "hidden_act must be one of gelu, .*, but is 'mish'"),
        ({"feat_extract_activation": "selu"}, "feat_extract_activation must be one of"),
        ({"feat_extract_norm": "batch"}, "must be one of group, layer, but is 'batch'"),
        ({"conv_dim": [512] * 6}, "must list as many conv_dim .* but lists 6, 7, 7"),
        ({"num_hidden_layers": 10**9}, "at most 1000 layers"),
        ({"hidden_size": 100}, "multiple of num_heads"),
        ({"layer_norm_eps": "small"}, r"config\.json\.layer_norm_eps"),
        (
            {"preprocessor": {"sampling_rate": 8_000}},
            r"preprocessor_config\.json\.sampling_rate must be 16000, but is 8000",
        ),
    ],
)
def test_what_is_not_known_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        config(**options)


ORIGINALS = {
    "feature_extractor.conv_layers.3.conv.weight": "extractor.convs.3.weight",
    "feature_extractor.conv_layers.0.layer_norm.bias": "extractor.norms.0.bias",
    "feature_projection.layer_norm.weight": "projection_norm.weight",
    "encoder.pos_conv_embed.conv.bias": "transformer.positions.convs.0.bias",
    "encoder.pos_conv_embed.layers.4.conv.weight": "transformer.positions.convs.4.weight",
    "encoder.layers.0.attention.rel_attn_embed.weight": "transformer.relative_bias.table.weight",
    "encoder.layers.11.attention.gru_rel_pos_const": "transformer.layers.11.attention.gate_scale",
    "encoder.layers.11.layer_norm.weight": "transformer.layers.11.attention_norm.weight",
    "encoder.layers.11.final_layer_norm.weight": "transformer.layers.11.ffn_norm.weight",
    "encoder.layer_norm.weight": "transformer.norm.weight",
}


def located(*originals: str, expected: Iterable[str] = ORIGINALS.values()) -> Renamed:
    weights = {original: torch.zeros(1) for original in originals}
    keys = [FAMILIES[stem].formats["huggingface"].keys for stem in ("wavlm", "data2vec")]
    spec = FamilyFormat(keys=(*keys[0], *keys[1]))
    return huggingface_keys(spec).locate(weights, dict.fromkeys(expected, torch.zeros(1)))


@pytest.mark.parametrize("prefix", ["", "wav2vec2.", "hubert.", "wavlm.", "data2vec_audio.", "x."])
def test_keys_of_encoders_with_and_without_a_head(prefix: str) -> None:
    heads = ("lm_head.weight", "project_q.bias", "quantizer.codevectors", "layer_weights")
    strange = (f"{prefix}encoder.layers.1.attention.rel_attn_embed.weight",)
    found = located(
        *(prefix + name for name in ORIGINALS), prefix + "masked_spec_embed", *heads, *strange
    )
    assert found.originals == {name: prefix + original for original, name in ORIGINALS.items()}
    assert found.dropped == (prefix + "masked_spec_embed", *heads)
    assert found.unknown == strange
    assert not found.unfamiliar


@pytest.mark.parametrize(
    "names",
    [
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ],
)
def test_both_spellings_of_weight_norm(names: tuple[str, str]) -> None:
    ours = [f"transformer.positions.convs.0.weight_{end}" for end in "gv"]
    found = located(*(f"encoder.pos_conv_embed.conv.{name}" for name in names), expected=ours)
    assert list(found.originals) == ours
    assert not found.unknown


def test_a_head_may_be_called_like_the_extractor() -> None:
    head = ("feature_extractor.weight", "feature_extractor.bias")
    found = located(*(f"wavlm.{name}" for name in ORIGINALS), *head)
    assert found.dropped == head
    assert located(*ORIGINALS, *head).unknown == head


def test_weights_must_be_tensors() -> None:
    payload = {CONFIG: {"model_type": "hubert"}, PREPROCESSOR: {}, WEIGHTS: {"a": 1}}
    with pytest.raises(CheckpointError, match="must hold tensors by name"):
        convert_huggingface(payload, FAMILIES["hubert"])


@pytest.mark.parametrize("stem", ["wav2vec2", "hubert", "data2vec"])
def test_files_of_both_are_of_the_family(stem: str) -> None:
    family = FAMILIES[stem]
    (model_type,) = (name for name, own in model_types().items() if own == stem)
    sizes = {"encoder_embed_dim": 32, "encoder_attention_heads": 4}
    payload = {"task_cfg": {"_name": "task"}, "model_cfg": {"_name": stem, **sizes}}
    theirs = convert_fairseq({**payload, "model_weight": {}}, family).config
    ours = config(model_type, hidden_size=32, num_attention_heads=4)
    assert type(ours) is type(theirs) is family.config_type()
    assert isinstance(theirs, WaveformTransformerConfig)
    assert (theirs.normalize_eps, theirs.transformer.hidden_size) == (1e-5, 32)
    assert (ours.normalize_eps, ours.transformer.hidden_size) == (1e-7, 32)


def official(**options: Any) -> dict[str, Any]:
    name = "feature_extractor.conv_layers.0.0.weight"
    return {"cfg": options, "model": {name: torch.zeros(1)}}


def test_files_of_wavlm_s_authors() -> None:
    """Options that a file does not state are those of the authors' code."""
    payload = official(relative_position_embedding=True)
    assert wavlm_families(payload) == ("wavlm",)
    config = convert_wavlm(payload, FAMILIES["wavlm"]).config
    assert isinstance(config, WaveformTransformerConfig)
    relative = RelativePositionConfig(num_buckets=320, max_distance=1280, gated=False)
    assert config.transformer.relative_positions == relative
    assert (config.normalize, config.normalize_eps) == (False, 1e-5)
    assert matches_wavlm(payload)
    assert not matches_wavlm({"cfg": {}, "model": {"a": torch.zeros(1)}})


def test_a_bias_of_distance_without_gates(tmp_path: Path) -> None:
    """Without `gru_rel_pos`, the default of the authors' code, gates are 1."""
    case = GoldenCase("wavlm_official_base")
    held = torch.load(case.checkpoints[0], weights_only=True)
    gates = [key for key in held["model"] if "grep_" in key]
    for key in gates:
        # The update is open and the scale 0: 1 * (0 - 1) + 2 (arXiv:2110.13900, equation 5).
        value = 100.0 if key.endswith("grep_linear.bias") else 0.0
        held["model"][key] = torch.full_like(held["model"][key], value)
    wav = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    expected, found = tmp_path / "gated.pt", tmp_path / "bare.pt"
    torch.save(held, expected)
    for key in gates:
        del held["model"][key]
    del held["cfg"]["gru_rel_pos"]
    torch.save(held, found)
    outputs = [auricle.load(path).layers([wav])[0] for path in (expected, found)]
    for name, output in outputs[0].items():
        torch.testing.assert_close(outputs[1][name], output, rtol=0, atol=1e-5)
    with pytest.raises(AuricleError, match=r"relative_positions\.gated False"):
        auricle.export_to_transformers(auricle.load(found), tmp_path / "hf")


SWISH_ROOT = 1.2784645
"""Where swish is 1."""


@pytest.mark.parametrize(
    ("activation", "half", "bias"), [("swish", 0, 1), ("linear", 1, SWISH_ROOT)]
)
@pytest.mark.parametrize("name", ["wavlm_official_base", "unispeech_sat_base"])
def test_feed_forward_of_two_halves(
    name: str, activation: str, half: int, bias: float, tmp_path: Path
) -> None:
    """`glu` is one half times swish of the other: where one is 1 it is the other's."""
    held = torch.load(GoldenCase(name).checkpoints[0], weights_only=True)
    held["cfg"]["activation_fn"] = activation
    torch.save(held, tmp_path / "one.pt")
    held["cfg"]["activation_fn"] = "glu"
    for key in [key for key in held["model"] if ".fc1." in key]:
        own = held["model"].pop(key)
        constant = torch.full_like(own, bias if key.endswith("bias") else 0.0)
        halves = (constant, own) if half == 0 else (own, constant)
        held["model"][key.replace("fc1", "fc1.linear")] = torch.cat(halves)
    torch.save(held, tmp_path / "halves.pt")
    wav = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    encoders = [auricle.load(tmp_path / f"{kind}.pt") for kind in ("one", "halves")]
    with torch.inference_mode():
        one, halves_ = (encoder.layers([wav])[0] for encoder in encoders)
    for layer, output in one.items():
        torch.testing.assert_close(halves_[layer], output, rtol=0, atol=1e-4)


def test_gates_of_no_bias_are_unused(tmp_path: Path) -> None:
    """The authors' code makes gates wherever `gru_rel_pos` is true, and has no use for them."""
    case = GoldenCase("unispeech_sat_base")
    held = torch.load(case.checkpoints[0], weights_only=True)
    gate = "encoder.layers.0.self_attn.grep_a"
    held["model"][gate] = torch.ones(1, 4, 1, 1)
    held["cfg"]["gru_rel_pos"] = True
    torch.save(held, tmp_path / "gates.pt")
    encoder = auricle.load(tmp_path / "gates.pt")
    assert gate in encoder.unused_keys
    assert case.deviation(encoder) <= case.limit


def distilled(**options: Any) -> dict[str, Any]:
    return {"Config": {"distiller": options}, "Distiller": {}}


def test_options_that_a_distilhubert_does_not_state_are_those_of_its_code() -> None:
    assert matches_distiller(distilled())
    assert not matches_distiller({"Config": {}, "Transformer": {}})
    expected = HubertConfig(
        projection_norm=False,
        transformer=TransformerConfig(num_layers=1, activation_dropout=0.1, layer_drop=0.0),
    )
    assert convert_distiller(distilled(), FAMILIES["hubert"]).config == expected


def test_options_of_a_distilhubert_are_read() -> None:
    config = convert_distiller(
        distilled(
            extractor_mode="layer_norm",
            extractor_conv_feature_layers="[(32, 10, 5)] + [(32, 3, 2)] * 2",
            encoder_layers=2,
            encoder_embed_dim=96,
            conv_pos=32,
        ),
        FAMILIES["hubert"],
    ).config
    assert isinstance(config, HubertConfig)
    assert config.extractor == ExtractorConfig(
        layers=((32, 10, 5), (32, 3, 2), (32, 3, 2)), norm="layer", bias=False
    )
    assert (config.transformer.num_layers, config.transformer.hidden_size) == (2, 96)
    assert config.transformer.positions.kernel_size == 32


@pytest.mark.parametrize(
    "options", [{"attention_type": "sparse"}, {"task_emb_type": "add"}, {"task_emb_type": "concat"}]
)
def test_a_distilhubert_with_another_encoder_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=next(iter(options))):
        convert_distiller(distilled(**options), FAMILIES["hubert"])
