from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from auricle.models.spectral_transformer import BertConfig, BertEncoder, sinusoidal_positions
from auricle.nn.batch import Layout

SMALL = {"hidden_size": 8, "num_layers": 2, "num_heads": 2, "ffn_size": 12}


def encoder(**options: object) -> BertEncoder:
    torch.manual_seed(0)
    module = BertEncoder(BertConfig(**{**SMALL, **options}), input_dim=5)  # type: ignore[arg-type]
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.eval()


def attend(layer: torch.nn.Module, x: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Softmax attention of one utterance (T, D), written out."""
    attention = layer.attention
    width = x.shape[1] // num_heads
    heads = []
    for head in range(num_heads):
        columns = slice(head * width, (head + 1) * width)
        query, key, value = (
            projection(x)[:, columns]
            for projection in (attention.query, attention.key, attention.value)
        )
        heads.append(torch.softmax(query @ key.T / math.sqrt(width), dim=1) @ value)
    return attention.out(torch.cat(heads, dim=1))


def reference(module: BertEncoder, features: torch.Tensor) -> list[torch.Tensor]:
    """States of one utterance (T, input_dim), written out."""
    config = module.config

    def act(x: torch.Tensor) -> torch.Tensor:
        return {"gelu": F.gelu, "relu": F.relu, "swish": F.silu}[config.activation](x)

    x = module.project(features) + sinusoidal_positions(len(features), config.hidden_size)
    x = module.input_norm(x)
    states = [x]
    for index in range(config.num_layers):
        layer = module.layers[0 if config.share_layer else index]
        if config.pre_layer_norm:
            x = x + attend(layer, layer.attention_norm(x), config.num_heads)
            x = x + layer.ffn_out(act(layer.ffn_in(layer.ffn_norm(x))))
        else:
            x = layer.attention_norm(x + attend(layer, x, config.num_heads))
            x = layer.ffn_norm(x + layer.ffn_out(act(layer.ffn_in(x))))
        states.append(x)
    if config.pre_layer_norm:
        states = [norm(state) for norm, state in zip(module.output_norms, states, strict=True)]
    return states


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "relu"},
        {"activation": "swish", "layer_norm_eps": 0.1},
        {"pre_layer_norm": True},
        {"share_layer": True, "num_layers": 3},
        {"share_layer": True, "pre_layer_norm": True},
        {"num_heads": 4},
    ],
)
def test_states_follow_the_formulas_in_any_batch(
    options: dict[str, object], is_packed: bool
) -> None:
    module = encoder(**options)
    features = torch.randn(3, 7, 5)
    lengths = [7, 4, 1]
    layout = Layout(lengths, is_packed=is_packed)
    states = [layout.rows(state) for state in module(features, layout)]
    for row, length in enumerate(lengths):
        expected = reference(module, features[row, :length])
        assert len(expected) == len(states) == module.config.num_layers + 1
        for ours, theirs in zip(states, expected, strict=True):
            assert torch.allclose(ours[row], theirs, atol=1e-5)


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("limit", [1, 3, 4, 7, 100])
def test_chunks_are_cut_as_torch_cuts_them_and_encoded_alone(limit: int, is_packed: bool) -> None:
    module = encoder(max_chunk_frames=limit)
    whole = encoder()
    features = torch.randn(2, 10, 5)
    lengths = [10, 6]
    layout = Layout(lengths, is_packed=is_packed)
    states = [layout.rows(state) for state in module(features, layout)]
    for row, length in enumerate(lengths):
        chunks = features[row, :length].chunk(math.ceil(length / limit))
        for index, ours in enumerate(states):
            expected = torch.cat([reference(whole, chunk)[index] for chunk in chunks])
            assert torch.allclose(ours[row], expected, atol=1e-5)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 64, 65, 3000])
def test_positions(num_frames: int) -> None:
    table = sinusoidal_positions(num_frames, 6)
    assert table.shape == (num_frames, 6)
    frame = num_frames - 1
    for column in range(6):
        angle = frame / 10_000 ** (2 * (column // 2) / 6)
        expected = math.sin(angle) if column % 2 == 0 else math.cos(angle)
        assert float(table[frame, column]) == pytest.approx(expected, abs=1e-7)


def test_shared_layers_are_stored_once() -> None:
    assert len(encoder(share_layer=True, num_layers=12).layers) == 1
    assert len(encoder(num_layers=12).layers) == 12


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_heads": 3}, "multiple of num_heads"),
        ({"num_layers": 0}, "at least 1"),
        ({"num_layers": 10**9}, "at most"),
        ({"max_chunk_frames": -1}, "0 or more"),
    ],
)
def test_configurations_that_do_not_hold_are_refused(options: dict[str, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        BertConfig(**{**SMALL, **options})
