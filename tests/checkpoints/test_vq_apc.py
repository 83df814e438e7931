from __future__ import annotations

from typing import Any

import pytest

from auricle.checkpoints.vq_apc import convert
from auricle.errors import CheckpointError
from auricle.models.vq_apc import VqApcConfig
from auricle.nn.quantizer import CodebookConfig


def config(**paras: Any) -> VqApcConfig:
    audio = {"feat_type": "fbank", "feat_dim": 80}
    paras = {"num_layers": 2, "hidden_size": 16, "residual": True, **paras}
    payload = {"config": {"data": {"audio": audio}, "model": {"paras": paras}}, "model": {}}
    config = convert(payload).config
    assert isinstance(config, VqApcConfig)
    return config


def test_the_quantiser_is_read() -> None:
    vq = {"codebook_size": [4, 6], "code_dim": [10, 6], "gumbel_temperature": 0.9}
    read = config(vq=vq)
    assert read.codebooks == (
        CodebookConfig(num_entries=4, dim=10),
        CodebookConfig(num_entries=6, dim=6),
    )
    assert read.gumbel_temperature == 0.9
    assert read.num_future == 5
    assert config(vq=None).codebooks == ()


def test_a_quantiser_that_does_not_fit_is_refused() -> None:
    with pytest.raises(CheckpointError, match="must add up to 16, but add up to 10"):
        config(vq={"codebook_size": [4], "code_dim": [10]})
    with pytest.raises(CheckpointError, match="not known: ema"):
        config(vq={"codebook_size": [4], "code_dim": [16], "ema": True})
