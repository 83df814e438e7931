from __future__ import annotations

import pytest
import torch

from auricle.catalogue.family import FAMILIES
from auricle.models.predictive_coding import Apc, ApcConfig

PRESETS = FAMILIES["apc"].presets()


def test_the_published_size() -> None:
    with torch.device("meta"):
        model = Apc(PRESETS["apc"])
    head = 512 * 80 + 80
    assert model.info.num_parameters + head == pytest.approx(4.1e6, rel=0.01)
    assert model.info.layers == ("rnn_1", "rnn_2", "rnn_3")


def test_it_looks_at_the_past_alone() -> None:
    torch.manual_seed(0)
    config = ApcConfig(hidden_size=8)
    features = config.features
    model = Apc(type(config)(features=type(features)(cmvn=False), hidden_size=8)).eval()
    wav = 0.1 * torch.randn(8_000)
    changed = wav.clone()
    changed[4_000:] = 0.0
    num_untouched = model.num_frames(4_000)
    first, second = model([wav])[0], model([changed])[0]
    assert torch.allclose(first[:num_untouched], second[:num_untouched], atol=1e-6)
    assert not torch.allclose(first[num_untouched:], second[num_untouched:], atol=1e-3)
    field = model.info.receptive_field
    assert (field.sees_past, field.looks_ahead, field.uses_utterance_statistics) == (
        True,
        False,
        False,
    )
    assert Apc(config).info.receptive_field.uses_utterance_statistics


def test_configurations_that_do_not_hold_are_refused() -> None:
    for options in ({"num_layers": 0}, {"hidden_size": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            ApcConfig(**options)
