"""Encoders as front ends of ESPnet, and without ESPnet on a stand-in for its abstract class."""

from __future__ import annotations

import abc
import copy
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import auricle
from auricle.errors import AudioError, AuricleError, LayerError, MissingExtraError

LENGTHS = (9_000, 5_001, 800)
ABSTRACT = "espnet2.asr.frontend.abs_frontend"
IS_INSTALLED = importlib.util.find_spec("espnet2") is not None


class Abstract(nn.Module, abc.ABC):
    """What `AbsFrontend` of ESPnet asks for."""

    @abc.abstractmethod
    def output_size(self) -> int: ...

    @abc.abstractmethod
    def forward(self, *batch: Tensor) -> tuple[Tensor, Tensor]: ...


@pytest.fixture(scope="module")
def frontends() -> Iterator[Any]:
    """The module of the front end, over ESPnet where it is installed."""
    with pytest.MonkeyPatch.context() as patch:
        if not IS_INSTALLED:
            parts = ABSTRACT.split(".")
            for depth in range(1, len(parts) + 1):
                module = ModuleType(".".join(parts[:depth]))
                module.__file__, module.__path__ = "stand-in", []
                patch.setitem(sys.modules, module.__name__, module)
            module.AbsFrontend = Abstract
        yield importlib.import_module("auricle.adapters.espnet")
        if not IS_INSTALLED:
            del sys.modules["auricle.adapters.espnet"]


@pytest.fixture(scope="module")
def encoder() -> auricle.Encoder:
    return auricle.load("apc_mini", device="cpu")


def batch() -> tuple[Tensor, Tensor]:
    """Noise at 16 kHz, with 7 in the padding and more padding than needed."""
    padded = torch.randn(3, 10_000, generator=torch.Generator().manual_seed(0)) / 10
    for row, length in zip(padded, LENGTHS, strict=True):
        row[length:] = 7
    return padded, torch.tensor(LENGTHS)


def check(frames: Tensor, num_frames: Tensor, expected: list[Tensor]) -> None:
    assert num_frames.tolist() == [len(x) for x in expected]
    assert frames.shape[1] == max(num_frames)
    for row, one in zip(frames, expected, strict=True):
        assert torch.allclose(row[: len(one)], one, atol=1e-4)
        assert not row[len(one) :].any()


def alone(encoder: auricle.Encoder) -> list[dict[str, Tensor]]:
    """Layers of each row alone."""
    return [encoder.layers([row[:n]])[0] for row, n in zip(*batch(), strict=True)]


def test_every_row_is_exact(frontends: Any, encoder: auricle.Encoder) -> None:
    abstract = importlib.import_module(ABSTRACT).AbsFrontend
    for layer in (None, 1):
        frontend = frontends.EncoderFrontend("apc_mini", layer=layer, fs="16k")
        name = encoder.layer_info(layer).name
        check(*frontend(*batch()), [states[name] for states in alone(encoder)])
        assert frontend.output_size() == encoder.layer_info(layer).dim
        assert frontend.hop_length == 160
        assert isinstance(frontend, abstract)


def test_a_sum_of_layers_is_that_of_the_featurizer(
    frontends: Any, encoder: auricle.Encoder
) -> None:
    frontend = frontends.EncoderFrontend("apc_mini", layers=[2, 1], normalize=True)
    featurizer = auricle.Featurizer(encoder, [2, 1], normalize=True)
    with torch.no_grad():
        featurizer.weights.copy_(torch.tensor([1.0, -1.0]))
    frontend.featurizer.load_state_dict(featurizer.state_dict())
    check(*frontend(*batch()), featurizer(alone(encoder)))
    assert frontend.output_size() == featurizer.dim


def test_gradients_reach_the_encoder_unless_it_is_frozen(frontends: Any) -> None:
    for frozen in (False, True):
        frontend = frontends.EncoderFrontend("apc_mini", layers="all", frozen=frozen).train()
        frames, _ = frontend(*batch())
        frames.square().sum().backward()
        assert frontend.featurizer.weights.grad.any()
        assert frontend.encoder.training is not frozen
        for parameter in frontend.encoder.parameters():
            assert (parameter.grad is None) is frozen
    assert not frontend.eval().training


def test_it_is_saved_copied_and_reloaded_as_espnet_does(frontends: Any) -> None:
    frontend = frontends.EncoderFrontend("apc_mini", layers="all")
    expected, _ = frontend(*batch())
    other = copy.deepcopy(frontend)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(0.5)
    other.reload_pretrained_parameters()
    assert other.featurizer.weights[0] == 0.5  # equal weights all the same
    assert torch.allclose(other(*batch())[0], expected, atol=1e-5)
    other.load_state_dict(frontend.state_dict())
    assert not other.featurizer.weights.any()


def test_options_of_load_and_short_rows(frontends: Any) -> None:
    frontend = frontends.EncoderFrontend(
        "fbank", load_conf={"config": {"num_mels": 40}}, pad_short=True
    )
    frames, num_frames = frontend(torch.ones(2, 800), torch.tensor([800, 100]))
    assert frames.shape == (2, 3, 40)
    assert num_frames.tolist() == [3, 1]


def test_invalid_options_are_refused(frontends: Any) -> None:
    with pytest.raises(AuricleError, match="fs must be 16000.*'8k'"):
        frontends.EncoderFrontend("fbank", fs="8k")
    with pytest.raises(AuricleError, match="give one of them"):
        frontends.EncoderFrontend("apc_mini", layer=1, layers="all")
    with pytest.raises(LayerError):
        frontends.EncoderFrontend("apc_mini", layer=99)
    with pytest.raises(AudioError, match="waveform 1"):
        frontends.EncoderFrontend("fbank")(torch.ones(2, 800), torch.tensor([800, 100]))
    with pytest.raises(AudioError, match=r"lengths must be from 1 to 800, but are \[800, 801\]"):
        frontends.EncoderFrontend("fbank")(torch.ones(2, 800), torch.tensor([800, 801]))
    with pytest.raises(AudioError, match=r"must be \(B, S\), B at least 1.*\(0, 800\)"):
        frontends.EncoderFrontend("fbank")(torch.ones(0, 800), torch.ones(0))


def test_the_error_without_espnet_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "auricle.adapters.espnet", raising=False)
    for name in ("espnet2", ABSTRACT):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match="pip install espnet"):
        importlib.import_module("auricle.adapters.espnet")
