"""data2vec 2.0, DinoSR and SpidR against their formulas, written out for one utterance."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.catalogue.family import FAMILIES
from auricle.errors import AuricleError
from auricle.models.base import Encoder
from auricle.models.self_distilled import Data2Vec2, DinoSr, SpidR
from auricle.models.waveform_transformer import WaveformTransformerConfig
from auricle.nn import attention
from auricle.nn.attention import AlibiConfig
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.cpu import policy
from auricle.nn.cpu.policy import reference_kernels
from auricle.nn.transformer import TransformerConfig
from auricle.nn.waveform_extractor import ExtractorConfig

EXTRACTOR = ExtractorConfig(layers=((8, 10, 5), (8, 3, 2), (12, 2, 2)), norm="layer")
POSITIONS = ConvPositionConfig(kind="stack", kernel_size=5, num_groups=2, depth=2)
TRANSFORMER = TransformerConfig(
    hidden_size=24, num_layers=3, num_heads=3, ffn_size=20, positions=POSITIONS
)
LIMIT = 2e-5
WAVS = [
    0.1 * torch.randn(length, generator=torch.Generator().manual_seed(length))
    for length in (1_900, 700, 2_600)
]


def build(kind: type[Encoder], *, extractor: dict[str, Any] | None = None, **options: Any) -> Any:
    """An encoder with random weights, biases and scales, some of which are below 0."""
    heads = options.pop("heads", {})
    config = kind.config_type(
        extractor=msgspec.structs.replace(EXTRACTOR, **(extractor or {})),  # type: ignore[call-arg]
        transformer=msgspec.structs.replace(TRANSFORMER, **options),
        **heads,
    )
    encoder = kind(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = "norm" in name and name.endswith("weight")
            if name == "transformer.alibi.scale":
                parameter.copy_(0.5 + noise)
            else:
                parameter.copy_(1 + 0.2 * noise if is_norm else noise / parameter.shape[-1] ** 0.5)
    return encoder


def slopes(num_heads: int) -> list[float]:
    if math.log2(num_heads).is_integer():
        first = 2 ** (-(2 ** -(math.log2(num_heads) - 3)))
        return [first**power for power in range(1, num_heads + 1)]
    lower = 2 ** math.floor(math.log2(num_heads))
    return slopes(lower) + slopes(2 * lower)[::2][: num_heads - lower]


def oracle(encoder: Any, wav: Tensor) -> dict[str, Tensor]:
    """Every layer of one utterance, in float64, step by step."""
    config: WaveformTransformerConfig = encoder.config
    options = config.transformer
    weights = {name: weight.double() for name, weight in encoder.state_dict().items()}

    def norm(x: Tensor, name: str, eps: float) -> Tensor:
        return F.layer_norm(
            x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps
        )

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    x = F.layer_norm(wav.double(), wav.shape, eps=1e-5)[None]
    for index, (_, _, stride) in enumerate(config.extractor.layers):
        name = f"extractor.convs.{index}"
        x = F.conv1d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), stride)
        if config.extractor.norm == "layer":
            x = norm(x.T, f"extractor.norms.{index}", 1e-5).T
        elif index == 0:
            scale, shift = (weights[f"extractor.norms.0.{one}"] for one in ("weight", "bias"))
            x = F.group_norm(x[None], len(x), scale, shift)[0]
        x = F.gelu(x)
    x = linear(norm(x.T, "projection_norm", 1e-5), "projection")
    positions = x.T
    kernel = options.positions.kernel_size
    for index in range(options.positions.depth):
        name = f"transformer.positions.convs.{index}"
        positions = F.conv1d(
            positions,
            weights[f"{name}.weight"],
            weights[f"{name}.bias"],
            padding=kernel // 2,
            groups=options.positions.num_groups,
        )[:, : len(x)]
        positions = F.gelu(F.layer_norm(positions.T, positions.shape[:1])).T
    x = x + positions.T
    eps = options.layer_norm_eps
    x = x if options.pre_layer_norm else norm(x, "transformer.norm", eps)
    layers = {"input": x}
    distances = (torch.arange(len(x))[:, None] - torch.arange(len(x))).abs()
    for index in range(options.num_layers):
        place = f"transformer.layers.{index}"
        inputs = norm(x, f"{place}.attention_norm", eps) if options.pre_layer_norm else x
        contexts = []
        parts = [
            linear(inputs, f"{place}.attention.{part}").chunk(options.num_heads, dim=1)
            for part in ("query", "key", "value")
        ]
        for head, (query, key, value) in enumerate(zip(*parts, strict=True)):
            scores = query @ key.T / query.shape[1] ** 0.5
            if options.alibi is not None:
                num_biased = options.alibi.num_heads or options.num_heads
                scale = weights["transformer.alibi.scale"]
                scale = scale[index if len(scale) > 1 else 0, 0, :, 0, 0].clamp(min=0)
                if head < num_biased:
                    scale = scale[head if len(scale) > 1 else 0]
                    scores = scores - slopes(num_biased)[head] * scale * distances
            contexts.append(scores.softmax(-1) @ value)
        x = x + linear(torch.cat(contexts, dim=1), f"{place}.attention.out")
        if not options.pre_layer_norm:
            x = norm(x, f"{place}.attention_norm", eps)
        inputs = norm(x, f"{place}.ffn_norm", eps) if options.pre_layer_norm else x
        ffn = linear(F.gelu(linear(inputs, f"{place}.ffn_in")), f"{place}.ffn_out")
        x = x + ffn
        if not options.pre_layer_norm:
            x = norm(x, f"{place}.ffn_norm", eps)
        layers |= {f"ffn_{index + 1}": ffn, f"layer_{index + 1}": x}
    if options.pre_layer_norm:
        layers[f"layer_{options.num_layers}"] = norm(x, "transformer.norm", eps)
    return layers


def worst(outputs: list[dict[str, Tensor]], references: list[dict[str, Tensor]]) -> float:
    return max(
        float((x.double() - reference[name]).abs().max() / reference[name].std())
        for output, reference in zip(outputs, references, strict=True)
        for name, x in output.items()
    )


DATA2VEC2 = [
    {},
    {"num_layers": 1},
    {"layer_norm_eps": 1e-2},
    {"alibi": AlibiConfig(per_layer=True)},
    {"alibi": AlibiConfig(per_head=False)},
    {"alibi": AlibiConfig(per_layer=True, per_head=False)},
    {"alibi": AlibiConfig(num_heads=2)},
    {"alibi": None},
    {"num_heads": 1},
    {"num_heads": 4},
    {"num_heads": 12},
    {"positions": msgspec.structs.replace(POSITIONS, kernel_size=4, depth=3)},
    {"positions": msgspec.structs.replace(POSITIONS, kernel_size=3, depth=1, num_groups=3)},
    {"extractor": {"norm": "group"}},
]
UNITS = [
    {},
    {"pre_layer_norm": True},
    {"qkv_bias": True},
    {"positions": msgspec.structs.replace(POSITIONS, kernel_size=4)},
    {"extractor": {"norm": "group", "bias": True}},
]
CASES = [
    *[(Data2Vec2, {"alibi": AlibiConfig(), **options}) for options in DATA2VEC2],
    *[(kind, {"qkv_bias": False, **options}) for kind in (SpidR, DinoSr) for options in UNITS],
]


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_every_layer_is_the_formula_s_alone_and_in_any_batch(
    kind: type[Encoder], options: dict[str, Any]
) -> None:
    heads = {} if kind is Data2Vec2 else {"num_codebooks": 1, "codebook_size": 5}
    encoder = build(kind, heads=heads, **options)
    references = [oracle(encoder, wav) for wav in WAVS]
    with torch.inference_mode():
        assert worst([encoder.layers([wav])[0] for wav in WAVS], references) <= LIMIT
        assert worst(encoder.layers(WAVS), references) <= LIMIT
        with reference_kernels():
            batch = encoder.layers([torch.ones(3_000), *WAVS])
        assert worst(batch[1:], references) <= LIMIT


@pytest.mark.parametrize("per_layer", [False, True])
def test_long_audio_goes_in_chunks_with_its_biases(
    per_layer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = build(Data2Vec2, alibi=AlibiConfig(per_layer=per_layer))
    units = build(SpidR, heads={"num_codebooks": 2})
    references = [[oracle(one, wav) for wav in WAVS] for one in (encoder, units)]
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 2_000)
    monkeypatch.setattr(attention, "MAX_BIAS_ELEMENTS", 400)
    with torch.inference_mode():
        for one, reference in zip((encoder, units), references, strict=True):
            assert worst(one.layers(WAVS), reference) <= LIMIT
            with reference_kernels():
                assert worst(one.layers(WAVS), reference) <= LIMIT


@pytest.mark.parametrize("num_codebooks", [1, 2, 3])
def test_heads_of_dinosr_read_the_last_layer_and_those_of_spidr_one_each(
    num_codebooks: int,
) -> None:
    for kind in (DinoSr, SpidR):
        encoder = build(kind, heads={"num_codebooks": num_codebooks, "codebook_size": 7})
        names = [f"ffn_{layer}" for layer in range(4 - num_codebooks, 4)]
        assert encoder.codes_layers == (("layer_3",) if kind is DinoSr else tuple(names))
        assert encoder.num_codebooks == num_codebooks
        with torch.inference_mode():
            for wav, codes in zip(WAVS, encoder.codes(WAVS), strict=True):
                layers = oracle(encoder, wav)
                expected = [
                    F.linear(
                        layers["layer_3" if kind is DinoSr else names[index]],
                        head.weight.double(),
                        head.bias.double(),
                    ).argmax(-1)
                    for index, head in enumerate(encoder.heads)
                ]
                assert torch.equal(codes, torch.stack(expected, dim=1))


def test_layers_are_named_and_only_what_is_asked_for_is_given() -> None:
    encoder = build(SpidR, heads={"num_codebooks": 2})
    names = ["input", "ffn_1", "layer_1", "ffn_2", "layer_2", "ffn_3", "layer_3"]
    assert list(encoder.info.layers) == names
    assert encoder.default_layer == "layer_3"
    everything = encoder.layers(WAVS)
    for some in (["ffn_2"], ["layer_1", "ffn_3"], ["input"], ["ffn_1", "layer_3"]):
        for given, whole in zip(encoder.layers(WAVS, some), everything, strict=True):
            assert list(given) == some
            assert all(torch.allclose(given[name], whole[name], atol=1e-5) for name in some)


def test_layers_that_training_leaves_out_have_feed_forward_outputs_of_zeros() -> None:
    encoder = build(SpidR, heads={"num_codebooks": 2}, layer_drop=1.0, dropout=0.0).train()
    (output,) = encoder.layers(WAVS[:1])
    assert torch.equal(output["layer_1"], output["input"])
    assert output["ffn_1"].shape == output["input"].shape
    assert not output["ffn_1"].any()


def test_an_encoder_without_heads_has_no_codes() -> None:
    encoder = build(DinoSr, heads={"num_codebooks": 0})
    assert encoder.codes_layer is None
    with pytest.raises(AuricleError, match="has no heads in its checkpoint"):
        encoder.codes(WAVS)
    with pytest.raises(AuricleError, match="attention lets every frame depend"):
        encoder.stream()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (SpidR, {"heads": {"num_codebooks": 4}}, "num_codebooks must be 0 to 3"),
        (SpidR, {"heads": {"num_codebooks": 1, "codebook_size": 0}}, "codebook_size at least 1"),
        (Data2Vec2, {"alibi": AlibiConfig(num_heads=4)}, "alibi.num_heads must be at most"),
    ],
)
def test_options_that_make_no_encoder(
    kind: type[Encoder], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(kind, **options)


def test_bias_is_one_of_two_kinds() -> None:
    relative = attention.RelativePositionConfig()
    with pytest.raises(ValueError, match="one bias"):
        TransformerConfig(alibi=AlibiConfig(), relative_positions=relative)
    with pytest.raises(ValueError, match="must be at least 1, but is 0"):
        AlibiConfig(num_heads=0)


def test_published_sizes() -> None:
    base, large = (FAMILIES["data2vec2"].preset(f"data2vec2_{size}") for size in ("base", "large"))
    for config in (base, large):
        assert isinstance(config, WaveformTransformerConfig)
        assert config.transformer.alibi == AlibiConfig()
        assert config.normalize
    # The student and what is before it, without heads, in the authors' count.
    heads = 8 * 256 * (768 + 1)
    assert FAMILIES["spidr"].sizes["spidr_base"].parameters - heads == pytest.approx(
        93.1e6, rel=1e-3
    )
