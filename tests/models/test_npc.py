from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from auricle.catalogue.family import FAMILIES
from auricle.frontends import FbankConfig
from auricle.models.npc import Npc, NpcConfig
from auricle.nn.batch import Batch
from auricle.nn.quantizer import CodebookConfig

PRESETS = FAMILIES["npc"].presets()

SMALL: dict[str, Any] = {
    "features": FbankConfig(num_mels=6),
    "num_blocks": 2,
    "hidden_size": 4,
    "kernel_size": 9,
    "mask_size": 3,
    "codebooks": (),
}


def encoder(**options: Any) -> Npc:
    torch.manual_seed(0)
    model = Npc(NpcConfig(**{**SMALL, **options}))
    for name, value in model.state_dict().items():
        if "running_var" in name:
            value.uniform_(0.5, 2.0)
        elif value.is_floating_point():
            value.normal_(std=0.5)
    return model.eval()


def reference(model: Npc, wav: torch.Tensor) -> dict[str, torch.Tensor]:
    """NPC as the paper's section 2 writes it, one utterance, no padding."""
    config = model.config
    act = {"relu": torch.relu, "tanh": torch.tanh}[config.activation]
    weights = model.state_dict()

    def conv(name: str, x: torch.Tensor, mask: range | None = None) -> torch.Tensor:
        weight = weights[f"{name}.weight"].clone()
        if mask is not None:
            weight[:, :, list(mask)] = 0.0
        return F.conv1d(x, weight, weights[f"{name}.bias"], padding=weight.shape[2] // 2)

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        if not config.batch_norm:
            return x
        mean, var, weight, bias = (
            weights[f"{name}.{part}"].unsqueeze(1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    x = config.features.features(wav.unsqueeze(0), [len(wav)]).transpose(1, 2)
    layers = {}
    for index in range(config.num_blocks):
        y = act(norm(f"blocks.{index}.bn1", conv(f"blocks.{index}.conv", x)))
        y = norm(f"blocks.{index}.bn2", conv(f"blocks.{index}.linear", y))
        x = act(y + x) if config.residual and index > 0 else act(y)
        layers[f"block_{index + 1}"] = x
        if config.cross_layer or index == config.num_blocks - 1:
            hidden = config.mask_size + 2 * (index + 1)
            first = (config.kernel_size - hidden) // 2
            mask = range(first, first + hidden)
            layers[f"masked_{index + 1}"] = torch.tanh(conv(f"masked_convs.{index}.conv", x, mask))
    layers["masked_sum"] = sum(
        (layer for name, layer in layers.items() if "masked" in name), torch.zeros(1)
    )
    layers = {name: layer[0].T for name, layer in layers.items()}
    if config.bottleneck_dim is not None:
        layers["bottleneck"] = layers["masked_sum"] @ weights["bottleneck.weight"].T
    return layers


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "tanh"},
        {"residual": False},
        {"batch_norm": False},
        {"cross_layer": False},
        {"bottleneck_dim": 3},
        {"bottleneck_dim": 3, "cross_layer": False},
        {"mask_size": 4, "num_blocks": 1},
        {"num_blocks": 1, "kernel_size": 7},
        {"num_blocks": 6, "kernel_size": 19, "activation": "tanh"},
    ],
)
@pytest.mark.usefixtures("any_stretch")
def test_layers_follow_the_formulas(options: dict[str, Any]) -> None:
    model = encoder(**options)
    wav = 0.1 * torch.randn(6_000)
    expected = reference(model, wav)
    assert list(expected) == list(model.info.layers)
    with torch.no_grad():
        for name, layer in expected.items():
            assert torch.allclose(model([wav], name)[0], layer, atol=1e-5), name
        assert torch.equal(model([wav])[0], model([wav], -1)[0])


def test_without_cross_layers_the_last_masked_convolution_is_the_sum() -> None:
    model = encoder(cross_layer=False)
    wav = 0.1 * torch.randn(3_000)
    assert torch.equal(model([wav], "masked_2")[0], model([wav], "masked_sum")[0])


def test_no_frame_sees_itself() -> None:
    model = encoder(num_blocks=1)
    features = torch.randn(1, 4, 21, requires_grad=True)
    masked = model.masked_convs["0"](features)
    (gradient,) = torch.autograd.grad(masked[0, :, 10].sum(), features)
    seen = gradient.abs().sum(dim=(0, 1)).nonzero().flatten().tolist()
    assert seen == [6, 7, 13, 14]


def test_dropout_acts_in_training() -> None:
    model = encoder(dropout=0.5).train()
    wav = 0.1 * torch.randn(3_000)
    assert not torch.equal(model([wav])[0], model([wav])[0])


@pytest.mark.parametrize("residual", [True, False])
def test_in_training_statistics_are_over_valid_frames(residual: bool) -> None:
    features = torch.randn(2, 30, 6)
    features[1, 12:] = 0.0
    layers, states = [], []
    for extra in (0, 40):
        model = encoder(dropout=0.0, residual=residual).train()
        padded = F.pad(features, (0, 0, 0, extra))
        wanted = frozenset(model.info.layers)
        outputs = model.encode_features(Batch.padded(padded, [30, 12]), wanted)
        layers.append({name: output.values for name, output in outputs})
        states.append(model.state_dict())
    for name, x in layers[0].items():
        torch.testing.assert_close(layers[1][name][0, :30], x[0], msg=name)
        torch.testing.assert_close(layers[1][name][1, :12], x[1, :12], msg=name)
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, msg=name)
    # By hand: those of the first norm are over the 42 true frames.
    before = encoder().state_dict()["blocks.0.bn1.running_mean"]
    x = model.blocks[0].conv(features.transpose(1, 2)).transpose(1, 2)
    mean = torch.cat([x[0], x[1, :12]]).mean(dim=0)
    after = states[0]["blocks.0.bn1.running_mean"]
    torch.testing.assert_close(after, 0.9 * before + 0.1 * mean)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kernel_size": 8}, "kernel_size must be odd"),
        ({"mask_size": 7}, "must leave taps of the kernel of 9, but hides 11"),
        ({"num_blocks": 0}, "at least 1"),
        ({"bottleneck_dim": 2, "codebooks": (CodebookConfig(num_entries=2, dim=4),)}, "both"),
        ({"codebooks": (CodebookConfig(num_entries=2, dim=3),)}, "add up to 4"),
    ],
)
def test_configurations_that_do_not_hold_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        NpcConfig(**{**SMALL, **options})


def test_the_published_size() -> None:
    with torch.device("meta"):
        model = Npc(PRESETS["npc"])
    head = 512 * 80 + 80
    assert model.info.num_parameters + head == pytest.approx(19.4e6, rel=0.01)
