from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import auricle
from auricle.audio.inputs import sample_paths
from auricle.cli.options import PRECISIONS as CLI_PRECISIONS
from auricle.errors import AuricleError
from auricle.inference.approximate import (
    PRECISIONS,
    Precision,
    encoder_sha256,
    precision_of,
    set_precision,
)
from auricle.models.base import Encoder
from auricle.models.spectral_transformer import SpectralBert
from auricle.nn.conv import Linear
from auricle.nn.cpu import prepack

WAVS = [str(path) for path in sample_paths()[:2]]


def encoded(encoder: Encoder) -> list[Tensor]:
    with torch.inference_mode():
        return encoder(WAVS)


def deviation(outputs: list[Tensor], references: list[Tensor]) -> float:
    """Root mean square of the differences, in standard deviations."""
    pairs = zip(outputs, references, strict=True)
    return max(((x - y).square().mean().sqrt() / y.std()).item() for x, y in pairs)


@pytest.mark.parametrize("name", ["tera_mini", "wav2vec2_mini"])
@pytest.mark.parametrize(
    ("precision", "least", "most"),
    [("bf16", 1e-4, 0.05), ("fp16", 1e-6, 0.01), ("int8", 1e-3, 0.15)],
)
def test_fewer_bits_are_near_and_not_the_same(
    name: str, precision: Precision, least: float, most: float
) -> None:
    encoder = auricle.load(name, precision=precision)
    outputs = encoded(encoder)
    assert {output.dtype for output in outputs} == {torch.float32}
    assert least < deviation(outputs, encoded(auricle.load(name))) < most


def test_int8_follows_its_weights_and_goes_with_copies() -> None:
    encoder = auricle.load("tera_mini", precision="int8")
    before = encoded(encoder)
    for output, expected in zip(encoded(copy.deepcopy(encoder)), before, strict=True):
        assert torch.equal(output, expected)
    with torch.no_grad():
        encoder.get_parameter("bert.layers.0.ffn_in.weight").mul_(0.5)
    assert deviation(encoded(encoder), before) > 0.01


def test_it_is_told_and_taken_back() -> None:
    encoder = auricle.load("tera_mini")
    plain, digest = encoded(encoder), encoder_sha256(encoder)
    names = []
    digests = {digest}
    for precision in ("int8", "bf16", "fp16"):
        set_precision(encoder, precision)
        names.append(precision_of(encoder))
        digests.add(encoder_sha256(encoder))
    assert names == ["int8", "bfloat16", "float16"]
    assert len(digests) == 4  # no store takes one for the other
    again = auricle.load("tera_mini", precision="int8")
    set_precision(again, "float32")
    assert encoder_sha256(again) == digest
    for output, expected in zip(encoded(again), plain, strict=True):
        assert torch.equal(output, expected)


def test_gradients_are_those_of_the_weights() -> None:
    encoder = auricle.load("tera_mini", precision="int8")
    plain = auricle.load("tera_mini")
    for output, expected in zip(encoder(WAVS), plain(WAVS), strict=True):
        assert torch.equal(output, expected)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("npc_mini", {"precision": "int8"}, "int8 is for the linear layers of Transformers, and"),
        ("tera_mini", {"precision": "int4"}, "one of float32, fp16, bf16, int8, but is 'int4'"),
        ("tera_mini", {"precision": "bf16", "dtype": torch.float16}, "give one of them"),
    ],
)
def test_what_cannot_be_is_refused(name: str, options: dict[str, object], reason: str) -> None:
    with pytest.raises(AuricleError, match=reason):
        auricle.load(name, **options)  # type: ignore[arg-type]


def test_int8_is_refused_where_its_kernel_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepack, "int8_is_right", lambda: False)
    with pytest.raises(AuricleError, match="no products of 8 bits that add up .* take bf16"):
        auricle.load("tera_mini", precision="int8")


class Silent(nn.Module):
    """A new block, with linear layers that it does not name."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(4, 4)


@pytest.mark.parametrize("replaced", [slice(0, 1), slice(None)], ids=["one", "all"])
def test_int8_refuses_a_block_that_names_no_linear_layers(replaced: slice) -> None:
    encoder = auricle.load("tera_mini")
    assert isinstance(encoder, SpectralBert)
    layers = encoder.bert.layers
    assert len(layers) > 1
    for index in range(len(layers))[replaced]:
        layers[index] = Silent()
    with pytest.raises(AuricleError, match=r"no method linears\(\)|has a method linears\(\)"):
        set_precision(encoder, "int8")
    set_precision(encoder, "bf16")


def test_int8_serves_all_linear_layers_of_a_transformer() -> None:
    encoder = auricle.load("wav2vec2_mini", precision="int8")
    served = {name for name, part in encoder.named_modules() if getattr(part, "is_int8", False)}
    layers = len(encoder.layer_infos) - 1
    assert len(served) == 6 * layers
    assert all(name.startswith("transformer.layers.") for name in served)


def test_the_command_offers_all() -> None:
    assert CLI_PRECISIONS == PRECISIONS
