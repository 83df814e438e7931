"""In training, batch norm inside an encoder counts the true frames of a ragged batch alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auricle.models.base import Encoder
from auricle.models.npc import Npc, NpcConfig
from auricle.models.pase import Pase, PaseConfig
from auricle.models.predictive_coding import Cpc, CpcConfig
from auricle.nn.norms import BatchNorm

LENGTHS = (3_000, 1_100, 2_040, 801)


def npc(**options: Any) -> Encoder:
    return Npc(NpcConfig(hidden_size=8, num_blocks=2, dropout=0.0, codebooks=(), **options))


def pase(**options: Any) -> Encoder:
    sizes: dict[str, Any] = {
        "kernel_sizes": (31, 20, 11, 4),
        "strides": (1, 10, 2, 1),
        "block_dims": (3, 4, 5, 4),
        "embedding_dim": 4,
    }
    return Pase(PaseConfig(**sizes, **options))


ENCODERS = {
    "npc": npc,
    "npc without residuals": lambda: npc(residual=False),
    "cpc": lambda: Cpc(CpcConfig(encoder_dim=8, context_dim=6, norm="batch")),
    "pase": pase,
    "pase_plus": lambda: pase(rnn_dim=5, num_rnn_layers=2, skip_merge="sum"),
}


def built(name: str) -> tuple[Encoder, dict[str, BatchNorm]]:
    """The encoder in train mode, and its norms, whose running statistics are the last batch's."""
    torch.manual_seed(0)
    encoder = ENCODERS[name]()
    norms = {key: part for key, part in encoder.named_modules() if isinstance(part, BatchNorm)}
    assert norms
    for norm in norms.values():
        norm.momentum = 1.0
        if norm.affine:
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    return encoder.train(), norms


@pytest.mark.parametrize("name", ENCODERS)
def test_a_ragged_batch_in_training_is_normed_by_its_true_frames(name: str) -> None:
    encoder, norms = built(name)
    # Off zero, so that padding would move every mean.
    wavs = [0.2 * torch.randn(length) + 0.3 for length in LENGTHS]
    inputs: dict[str, list[tuple[Tensor, Sequence[int]]]] = {key: [] for key in norms}
    for key, norm in norms.items():
        norm.register_forward_pre_hook(lambda _, args, key=key: inputs[key].append(args))
    outputs = encoder(wavs)

    # With the statistics of that batch each waveform alone, in evaluation, gives the same. The
    # running variance has one degree of freedom less than that which the batch is normed by.
    variances = {key: norm.running_var.clone() for key, norm in norms.items()}
    counts = {key: sum(inputs[key].pop()[1]) for key in norms}
    for key, norm in norms.items():
        norm.running_var *= (counts[key] - 1) / counts[key]
    encoder.eval()
    for wav, output in zip(wavs, outputs, strict=True):
        torch.testing.assert_close(encoder([wav])[0], output, atol=2e-5, rtol=1e-4)

    # And they are those of the frames that the waveforms have when each is alone.
    for key, norm in norms.items():
        frames = torch.cat([x[0] for x, _ in inputs[key]], dim=1)
        assert frames.shape[1] == counts[key]
        torch.testing.assert_close(norm.running_mean, frames.mean(dim=1), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(variances[key], frames.var(dim=1), atol=1e-5, rtol=1e-4)
