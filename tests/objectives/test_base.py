"""Contract of objectives: learning, randomness, precision and minimum length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec
import pytest
import torch
from torch import Tensor

from auricle.audio.files import read_audio
from auricle.audio.inputs import sample_paths
from auricle.catalogue.family import FAMILIES, find_family
from auricle.checkpoints.checkpoint import build_encoder
from auricle.objectives.base import Loss, Objective, masked_mean, valid_frames

NUM_STEPS = 20
FBANK = {"type": "fbank", "num_mels": 20, "cmvn": True}
BERT = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "ffn_size": 64,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
}
LOG_MEL = {"type": "log_mel", "num_mels": 20}
SPECTRAL = {"features": LOG_MEL, "transformer": BERT}
SHARED = {"features": LOG_MEL, "transformer": {**BERT, "share_layer": True}}
CONVOLUTIONS = {
    "extractor": {"layers": [(16, 10, 5), (16, 8, 4), *[(16, 4, 2)] * 3]},
    "aggregator": {"layers": [(16, 2, 1), (12, 3, 1)]},
}
WAV2VEC2 = {
    "extractor": {"layers": [(32, 10, 10), (32, 8, 8), (32, 4, 4)]},
    "transformer": {
        "hidden_size": 32,
        "num_layers": 1,
        "num_heads": 2,
        "ffn_size": 64,
        "positions": {"kernel_size": 8, "num_groups": 2},
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "layer_drop": 0.0,
    },
}
HUBERT_LOSS = {
    "targets": [{"num_units": 4}, {"num_units": 3}],
    "projection_dim": 16,
    "mask_span": 3,
    "unmasked_weight": 1.0,
}
PASE = {
    "kernel_sizes": (31, 20, 11, 11),
    "strides": (4, 10, 2, 2),
    "block_dims": (8, 8, 16, 16),
    "embedding_dim": 16,
}


class Case(NamedTuple):
    """An objective with tiny options.

    Training must bring the loss below the share `fall` of its first values. Masks and negatives are
    always drawn, Gumbel noise in training only; `redraws` is False where a loss that differs much
    from mask to mask is to be lowered for one mask.
    """

    stem: str
    encoder: dict[str, Any]
    objective: dict[str, Any]
    learning_rate: float
    fall: float
    draws: Literal["always", "in training", "never"] = "always"
    redraws: bool = True

    def build(self) -> Objective:
        torch.manual_seed(0)
        family = find_family(self.stem)
        kind = family.objective_type()
        encoder = build_encoder(family, msgspec.convert(self.encoder, family.config_type()))
        module: Objective = kind(encoder, msgspec.convert(self.objective, kind.config_type))
        return module


CPC = {"encoder_dim": 16, "context_dim": 16}
CPC_LOSS = {
    "num_steps": 3,
    "num_negatives": 15,
    "num_heads": 2,
    "ffn_dim": 16,
    "num_distances": 20,
    "zero_conv_biases": True,
}
CODEBOOKS = [{"num_entries": 16, "dim": 16}] * 2
FUTURE = {"num_steps": 1, "first_step": 1, "loss": "info_nce"}
CASES = {
    "apc": Case(
        "apc",
        {"features": FBANK, "hidden_size": 32, "num_layers": 1, "dropout": 0.0},
        {},
        2e-2,
        0.75,
        "never",
    ),
    "vq_apc": Case(
        "vq_apc",
        {
            "features": FBANK,
            "hidden_size": 32,
            "num_layers": 1,
            "dropout": 0.0,
            "codebooks": CODEBOOKS,
        },
        {},
        2e-2,
        0.85,
        draws="in training",
    ),
    "npc": Case(
        "npc",
        {
            "features": FBANK,
            "hidden_size": 32,
            "num_blocks": 1,
            "dropout": 0.0,
            "codebooks": CODEBOOKS,
        },
        {},
        2e-2,
        0.85,
        draws="in training",
    ),
    "mockingjay": Case("mockingjay", SPECTRAL, {}, 1e-2, 0.7, redraws=False),
    "audio_albert": Case("audio_albert", SHARED, {}, 1e-2, 0.7, redraws=False),
    "tera": Case("tera", SPECTRAL, {}, 1e-2, 0.7),
    "cpc_linear": Case(
        "cpc", CPC, {**CPC_LOSS, "head": "linear", "is_mean_score": False}, 3e-3, 0.9
    ),
    "cpc_transformer": Case("cpc", CPC, {**CPC_LOSS, "head_dropout": 0.0}, 3e-3, 0.95),
    "wav2vec_binary": Case("wav2vec", CONVOLUTIONS, {**FUTURE, "loss": "binary"}, 2e-2, 0.75),
    "wav2vec_info_nce": Case("wav2vec", CONVOLUTIONS, FUTURE, 2e-2, 0.85),
    "vq_wav2vec_gumbel": Case(
        "vq_wav2vec",
        {
            **CONVOLUTIONS,
            "quantizer": {"type": "gumbel", "num_entries": 20, "temperature": (1.0, 0.5, 0.9)},
        },
        FUTURE,
        3e-2,
        0.9,
    ),
    "vq_wav2vec_kmeans": Case(
        "vq_wav2vec",
        {**CONVOLUTIONS, "quantizer": {"type": "kmeans", "num_entries": 20}},
        FUTURE,
        2e-2,
        0.9,
    ),
    "wav2vec2": Case(
        "wav2vec2",
        WAV2VEC2,
        {
            "projection_dim": 16,
            "num_entries": 16,
            "num_distractors": 10,
            "mask_span": 3,
            "feature_dropout": 0.0,
        },
        5e-3,
        0.9,
    ),
    "hubert": Case("hubert", WAV2VEC2, HUBERT_LOSS, 5e-3, 0.9),
    "pase": Case(
        "pase",
        PASE,
        {
            "chunk_seconds": 0.3,
            "worker_dim": 16,
            "decoder_dims": (8, 8, 4),
            "num_bins": 257,
            "sequence_min_frames": 5,
            "sequence_max_frames": 15,
        },
        5e-3,
        0.9,
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny layers lose more to synchronisation between threads than they gain."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def speech() -> list[Tensor]:
    """Three clips of 0.6 to 0.7 s of two voices."""
    low, high = (read_audio(path) for path in sample_paths())
    return [low[16_000:26_000], high[32_000:42_800], high[64_000:73_600]]


def loss(module: Objective, wavs: list[Tensor], seed: int = 0, step: int = 0) -> Loss:
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    num_samples = [len(wav) for wav in wavs]
    generator = torch.Generator().manual_seed(seed)
    units = {}
    if books := module.config.unit_targets:
        num_frames = module.encoder.num_frames(max(num_samples))
        columns = [torch.arange(num_frames) // 4 % book.num_units for book in books]
        units["targets"] = torch.stack(columns, dim=1).expand(len(wavs), -1, -1)
    result: Loss = module(padded, num_samples, step=step, generator=generator, **units)
    return result


def test_every_objective_is_tested() -> None:
    tested = {type(case.build()) for case in CASES.values()}
    existing = set()
    for family in FAMILIES.values():
        try:
            existing.add(family.objective_type())
        except LookupError:
            continue
    assert tested == existing


@every_case
def test_it_learns(case: Case, speech: list[Tensor]) -> None:
    module = case.build()
    before = loss(module, speech)
    optimizer = torch.optim.AdamW(module.parameters(), case.learning_rate)
    for step in range(NUM_STEPS):
        optimizer.zero_grad()
        loss(module, speech, seed=(step + 1) * case.redraws, step=step).value.backward()
        optimizer.step()
    assert not [name for name, parameter in module.named_parameters() if parameter.grad is None]
    # By the same draws, so that only learning makes the difference.
    after = loss(module, speech)
    assert after.value < case.fall * before.value
    assert after.metrics.get("code_perplexity", torch.tensor(20.0)) > 2


@every_case
@pytest.mark.parametrize("is_training", [True, False])
def test_masks_negatives_and_noise_are_the_generators(
    case: Case, speech: list[Tensor], is_training: bool
) -> None:
    values = []
    for seed, global_seed in ((1, 2), (1, 3), (4, 2)):
        module = case.build().train(is_training)
        torch.manual_seed(global_seed)
        values.append(loss(module, speech, seed).value)
    draws = case.draws == "always" or (is_training and case.draws == "in training")
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2]) is not draws


@every_case
def test_half_precision_keeps_the_loss_in_float32(case: Case, speech: list[Tensor]) -> None:
    exact = loss(case.build(), speech).value
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(case.build(), speech).value
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=0.1)


@every_case
def test_the_shortest_waveform_has_a_loss(case: Case) -> None:
    module = case.build()
    wavs = [0.1 * torch.randn(module.min_samples)] * 2
    value = loss(module, wavs).value
    value.backward()
    assert value.isfinite()
    assert value > 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_masked_mean() -> None:
    x = torch.tensor([[1.0, 3.0], [float("nan"), 5.0]])
    assert masked_mean(x, torch.tensor([[1, 1], [0, 1]])).item() == 3.0
    assert masked_mean(x, torch.tensor([[0.0, 0.0], [0.0, 0.0]])).item() == 0.0
    assert masked_mean(x, torch.tensor([[True], [False]])).item() == 2.0
    x.requires_grad_()
    masked_mean(x, torch.tensor([[True], [False]])).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.5, 0.5], [0.0, 0.0]]


def test_valid_frames() -> None:
    mask = valid_frames([2, 0, 3], 3, torch.device("cpu"))
    assert mask.tolist() == [[True, True, False], [False] * 3, [True] * 3]
