from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch

from auricle.checkpoints.huggingface import CONFIG, PREPROCESSOR, WEIGHTS
from auricle.checkpoints.huggingface_encoder import KEYS, convert
from auricle.checkpoints.keymap import Renamed
from auricle.errors import CheckpointError
from auricle.models.hubert import HubertConfig
from auricle.models.wav2vec2_encoder import WaveformTransformerConfig
from auricle.models.wavlm import WavLmConfig
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.relative_positions import RelativePositionConfig
from auricle.nn.waveform_extractor import ExtractorConfig
from auricle.nn.waveform_transformer import TransformerConfig


def config(
    model_type: str = "wav2vec2",
    *,
    preprocessor: dict[str, Any] | None = None,
    config_type: type[WaveformTransformerConfig] = WaveformTransformerConfig,
    **options: Any,
) -> WaveformTransformerConfig:
    payload = {
        CONFIG: {"model_type": model_type, **options},
        PREPROCESSOR: preprocessor or {},
        WEIGHTS: {},
    }
    result = convert(payload, config_type).config
    assert isinstance(result, config_type)
    return result


def test_what_is_not_written_is_as_transformers_has_it() -> None:
    transformer = TransformerConfig(activation_dropout=0.1, layer_drop=0.1)
    expected = {"normalize": True, "normalize_eps": 1e-7, "projection_dropout": 0.0}
    assert config() == WaveformTransformerConfig(transformer=transformer, **expected)
    assert config("hubert", config_type=HubertConfig) == HubertConfig(
        transformer=transformer, **expected
    )
    wavlm = config("wavlm", config_type=WavLmConfig)
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
    assert (
        config("wavlm", preprocessor=preprocessor, config_type=WavLmConfig, **options) == expected
    )


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
        ({"num_hidden_layers": 10**9}, "num_layers must be 1 to 1000"),
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
    return KEYS.locate(weights, dict.fromkeys(expected, torch.zeros(1)))


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
        convert(payload, HubertConfig)
