from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.catalogue.family import FAMILIES
from auricle.models.predictive_coding import Cpc, CpcConfig
from auricle.nn.cpu import policy

PRESETS = FAMILIES["cpc"].presets()

STEPS = ((5, 3), (4, 2), (2, 1), (2, 1), (2, 1))
"""Stride and padding of each convolution."""


def encoder(**options: Any) -> Cpc:
    torch.manual_seed(0)
    small = {"encoder_dim": 8, "context_dim": 6, "num_recurrent_layers": 2}
    model = Cpc(CpcConfig(**{**small, **options}))
    for name, value in model.state_dict().items():
        if "running_var" in name:
            value.uniform_(0.5, 2.0)
        elif value.is_floating_point():
            value.normal_(std=0.3)
    return model.eval()


def norm_by_hand(norm: str, x: Tensor, part: dict[str, Tensor]) -> Tensor:
    if norm == "none":
        return x
    weight, bias = part["weight"].view(-1, 1), part["bias"].view(-1, 1)
    if norm == "batch":
        mean, var = part["running_mean"].view(-1, 1), part["running_var"].view(-1, 1)
    else:
        dim = {"layer": 0, "instance": 1}[norm]
        mean = x.mean(dim, keepdim=True)
        var = x.var(dim, keepdim=True, unbiased=norm == "layer")
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def reference(model: Cpc, wav: Tensor) -> tuple[Tensor, Tensor]:
    """Encoder and context of one utterance: no batch, float64."""
    weights = {name: value.double() for name, value in model.state_dict().items()}
    x = wav.double().unsqueeze(0)
    for index, (stride, padding) in enumerate(STEPS):
        part = {
            name.rsplit(".", 1)[1]: value
            for name, value in weights.items()
            if name.startswith(f"blocks.{index}.norm.")
        }
        kernel, bias = (weights[f"blocks.{index}.conv.{name}"] for name in ("weight", "bias"))
        x = F.conv1d(x.unsqueeze(0), kernel, bias, stride=stride, padding=padding)[0]
        x = norm_by_hand(model.config.norm, x, part).clamp(min=0)
    cells = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
    config = model.config
    rnn = cells[config.recurrence](
        config.encoder_dim, config.context_dim, config.num_recurrent_layers, batch_first=True
    ).double()
    rnn.load_state_dict(
        {name[4:]: value for name, value in weights.items() if name.startswith("rnn.")}
    )
    return x.T, rnn(x.T.unsqueeze(0))[0][0]


NORMS, RECURRENCES = ("layer", "batch", "instance", "none"), ("lstm", "gru", "rnn")
PAIRED = {("layer", "lstm"), ("batch", "gru"), ("instance", "rnn"), ("none", "lstm")}
"""Each norm and each recurrence, which are modules of their own, once."""


@pytest.mark.parametrize(
    ("norm", "recurrence"),
    [
        pytest.param(*pair, marks=() if pair in PAIRED else pytest.mark.whole)
        for pair in itertools.product(NORMS, RECURRENCES)
    ],
)
@pytest.mark.usefixtures("any_stretch")
def test_layers_in_a_ragged_batch(norm: Any, recurrence: Any) -> None:
    model = encoder(norm=norm, recurrence=recurrence)
    lengths = (model.min_samples, 2000, 777, 333)
    wavs = [torch.randn(length) for length in lengths]
    wavs[2] += 0.5
    wavs[1][800:] = 0.0
    with torch.inference_mode():
        encoded, contexts = (model(wavs, layer=name) for name in ("encoder", "context"))
    for wav, x, context in zip(wavs, encoded, contexts, strict=True):
        expected = reference(model, wav)
        assert x.dtype == context.dtype == torch.float32
        assert x.shape == expected[0].shape
        assert torch.allclose(x.double(), expected[0], atol=2e-5 * float(expected[0].std()))
        assert torch.allclose(context.double(), expected[1], atol=2e-5)


@pytest.mark.parametrize(("norm", "fewest"), [("layer", 159), ("instance", 319)])
def test_the_shortest_waveform(norm: Any, fewest: int) -> None:
    model = encoder(norm=norm)
    assert model.min_samples == fewest
    assert model.num_frames(fewest) == (2 if norm == "instance" else 1)
    assert model.num_frames(fewest - 1) == 0
    with torch.inference_mode():
        assert torch.isfinite(model([torch.randn(fewest)])[0]).all()


@pytest.mark.parametrize("stretch_bytes", [64 << 20, 1 << 16])
def test_a_steady_tone_keeps_its_digits_under_a_norm_over_time(
    monkeypatch: pytest.MonkeyPatch, stretch_bytes: int
) -> None:
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", stretch_bytes)
    # Its period is the hop, so that deep layers are constant but for rounding and the ends.
    model = encoder(norm="instance")
    tone = torch.sin(2 * torch.pi * torch.arange(16_000) / 160)
    with torch.inference_mode():
        alone = model([tone], layer="encoder")[0]
        batched = model([torch.randn(17_000), tone], layer="encoder")[1]
    assert (batched - alone).abs().max() <= 1e-6 * alone.std()


def test_what_a_frame_depends_on() -> None:
    assert not encoder().uses_utterance_statistics
    receptive_field = encoder().layer_infos[-1].geometry.window_samples
    assert (receptive_field, encoder().sees_past) == (465, True)
    assert encoder(norm="instance").uses_utterance_statistics


def test_published_sizes() -> None:
    with torch.device("meta"):
        sizes = {name: Cpc(config) for name, config in PRESETS.items()}
    counts = {name: sum(p.numel() for p in model.parameters()) for name, model in sizes.items()}
    assert counts["modified_cpc"] == pytest.approx(1.84e6, rel=0.005)
    assert [info.dim for info in sizes["cpc"].layer_infos] == [512, 256]


def test_a_norm_over_one_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        CpcConfig(encoder_dim=1)
