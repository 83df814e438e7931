from __future__ import annotations

import math

import msgspec
import pytest
import torch
from torch import Tensor

import auricle.objectives.pase as subject
from auricle.models.pase import Pase, PaseConfig
from auricle.objectives.base import Loss
from auricle.objectives.pase import (
    ALL_WORKERS,
    PaseObjective,
    PaseObjectiveConfig,
    draw,
    pair_loss,
    sequence,
)

TINY = PaseConfig(
    kernel_sizes=(31, 20, 11, 11),
    strides=(4, 10, 2, 2),
    block_dims=(8, 8, 16, 16),
    embedding_dim=16,
)
SMALL = PaseObjectiveConfig(
    chunk_seconds=0.5, worker_dim=16, decoder_dims=(8, 8, 4), num_bins=257, sequence_max_frames=25
)


def objective(config: PaseObjectiveConfig = SMALL, encoder: PaseConfig = TINY) -> PaseObjective:
    torch.manual_seed(0)
    return PaseObjective(Pase(encoder), config)


def loss(module: PaseObjective, wavs: list[Tensor], seed: int = 0) -> Loss:
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    generator = torch.Generator().manual_seed(seed)
    return module(padded, [len(wav) for wav in wavs], step=0, generator=generator)


def noise(*lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(length, generator=generator) for length in lengths]


def test_chunks_lie_inside_and_apart() -> None:
    config = PaseObjectiveConfig()
    lengths = [32_000, 32_001, 100_000] * 200
    draws = draw(lengths, 100, config, torch.Generator().manual_seed(0))
    assert (draws.starts >= 0).all()
    assert (draws.starts + 16_000 <= torch.tensor(lengths)).all()
    assert ((draws.starts[0] - draws.starts[1]).abs() >= 16_000).all()
    assert 0.4 < (draws.starts[0] < draws.starts[1]).float().mean() < 0.6
    longest = draws.starts[:, 2::3]
    assert longest.min() < 4_000
    assert longest.max() > 80_000


def test_the_other_utterance_is_another_one() -> None:
    seen = set()
    for seed in range(60):
        draws = draw([32_000] * 4, 100, PaseObjectiveConfig(), torch.Generator().manual_seed(seed))
        assert (draws.others != torch.arange(4)).all()
        seen.update(enumerate(draws.others.tolist()))
    assert len(seen) == 12
    assert draw([32_000], 100, PaseObjectiveConfig(), torch.Generator()).others.tolist() == [0]


@pytest.mark.parametrize("num_frames", [39, 100])
def test_sequences_keep_their_distance(num_frames: int) -> None:
    config = PaseObjectiveConfig()
    draws = draw([32_000] * 500, num_frames, config, torch.Generator().manual_seed(0))
    assert config.min_frames == 39
    ends = draws.pasts + 4
    assert (draws.pasts >= (draws.anchors - 50).clamp(min=0)).all()
    assert (ends <= draws.anchors - 15).all()
    assert (draws.futures >= draws.anchors + 15).all()
    assert (draws.futures + 4 <= (draws.anchors + 50).clamp(max=num_frames - 1)).all()
    if num_frames == 100:
        assert (draws.futures - draws.anchors).unique().tolist() == list(range(15, 47))
        assert draws.anchors.unique().tolist() == list(range(19, 81))


def test_sequence_by_hand() -> None:
    x = torch.arange(12.0).view(1, 2, 6)
    assert sequence(x, torch.tensor([3]), 2).flatten().tolist() == [3, 9, 4, 10]


def test_telling_apart_by_hand() -> None:
    def summed(pairs: Tensor) -> Tensor:
        return pairs.sum(dim=1, keepdim=True)

    anchor = torch.tensor([[[1.0, 1.0]]])
    positive = torch.tensor([[[1.0, -2.0]]])
    negative = torch.tensor([[[-2.0, -4.0]]])
    value, accuracy = pair_loss(summed, anchor, positive, negative)  # type: ignore[arg-type]

    def surprise(logit: float) -> float:
        return math.log(1 + math.exp(-logit))

    expected = (surprise(2.0) + surprise(-1.0) + surprise(1.0) + surprise(3.0)) / 4
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert accuracy.item() == 0.75


def test_the_loss_is_the_mean_of_the_workers() -> None:
    module = objective()
    result = loss(module, noise(16_000, 20_000, 30_000))
    parts = torch.stack([result.metrics[name] for name in ALL_WORKERS])
    torch.testing.assert_close(result.value.detach(), parts.mean())
    one = objective(msgspec.structs.replace(SMALL, workers=("mfcc",)))
    result = loss(one, noise(16_000, 20_000, 30_000))
    torch.testing.assert_close(result.value.detach(), result.metrics["mfcc"])
    assert set(result.metrics) == {"mfcc"}


def test_workers_see_the_chunk_that_they_predict() -> None:
    module = objective().eval()
    wavs = noise(20_000, 16_000)
    draws = draw([20_000, 16_000], 50, SMALL, torch.Generator().manual_seed(0))
    chunks = torch.stack(
        [wav[start : start + 8_000] for wav, start in zip(wavs, draws.starts[0], strict=True)]
    )
    embedding = torch.stack(module.encoder(list(chunks))).transpose(1, 2)
    metrics = loss(module, wavs).metrics
    decoded = module.workers["waveform"](embedding).squeeze(1)
    torch.testing.assert_close(metrics["waveform"], (decoded - chunks).abs().mean().detach())
    spectra = torch.stft(
        torch.nn.functional.pad(chunks.unsqueeze(1), (256, 256), "reflect").squeeze(1),
        512,
        160,
        400,
        torch.hann_window(400),
        center=False,
        return_complex=True,
    )
    target = (spectra.abs().square() + 1e-10).log()[:, :, :50]
    predicted = module.workers["spectrum"](embedding)
    expected = (predicted - target).square().mean().detach()
    torch.testing.assert_close(metrics["spectrum"], expected, rtol=1e-4, atol=1e-4)


def test_pairs_come_from_the_right_utterances(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def record(*parts: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(parts[1:])
        return torch.zeros(()), torch.zeros(())

    monkeypatch.setattr(subject, "pair_loss", record)
    module = objective()
    x = torch.randn(6, 16, 50)
    draws = draw([16_000] * 3, 50, SMALL, torch.Generator().manual_seed(0))
    module._classify(x, draws)
    anchor, same, other = seen[0]
    assert torch.equal(anchor, x[:3])
    assert torch.equal(same, x[3:])
    assert torch.equal(other, x[3:][draws.others])
    assert torch.equal(seen[1][0], x[:3].mean(dim=2, keepdim=True))
    row = 4
    start = int(draws.futures[row])
    assert torch.equal(seen[2][0][row, :, 0], x[row, :, int(draws.anchors[row])])
    assert torch.equal(seen[2][1][row, :, 0], x[row, :, start : start + 5].T.flatten())
    start = int(draws.pasts[row])
    assert torch.equal(seen[2][2][row, :, 0], x[row, :, start : start + 5].T.flatten())


def test_padding_never_enters() -> None:
    module = objective()
    wavs = noise(16_000, 40_000)
    expected = loss(module, wavs).value
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    padded[0, 16_000:] = float("nan")
    fresh = objective()
    generator = torch.Generator().manual_seed(0)
    value = fresh(padded, [16_000, 40_000], step=0, generator=generator).value
    assert torch.equal(value, expected)


def test_a_lone_utterance_has_no_pairs_but_all_gradients() -> None:
    module = objective()
    result = loss(module, noise(16_000))
    assert result.metrics["lim"] == result.metrics["gim"] == 0
    assert result.metrics["spc"] > 0
    result.value.backward()
    assert [name for name, p in module.named_parameters() if p.grad is None] == []


def test_targets_get_no_gradient_and_encoder_does() -> None:
    module = objective()
    result = loss(module, noise(16_000, 17_000))
    result.value.backward()
    assert all(p.grad is not None and p.grad.any() for p in module.workers.parameters())
    assert all(p.grad is not None for p in module.encoder.parameters())
    assert module.encoder.blocks[0].conv.low_hz.grad.any()


def test_pase_plus_trains_as_well() -> None:
    encoder = msgspec.structs.replace(TINY, rnn_dim=8, skip_merge="concat")
    result = loss(objective(encoder=encoder), noise(16_000, 17_000))
    result.value.backward()
    assert result.value.isfinite()


def test_the_shortest_waveform_holds_two_chunks() -> None:
    module = objective()
    assert module.min_samples == 16_000
    assert PaseObjective(Pase(PaseConfig()), PaseObjectiveConfig()).min_samples == 32_000
    assert loss(module, noise(16_000, 16_000)).value.isfinite()


def test_decoders_whose_kernels_have_odd_spares() -> None:
    config = msgspec.structs.replace(SMALL, decoder_kernel_sizes=(7, 4, 29))
    assert loss(objective(config), noise(16_000, 16_000)).value.isfinite()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk_seconds": 0.503}, "whole number"),
        ({"chunk_seconds": 0.3}, "at least 39 frames"),
        ({"decoder_strides": (4, 4, 9)}, "multiply"),
        ({"decoder_strides": (4, 4)}, "equally long"),
        ({"decoder_kernel_sizes": (3, 30, 30)}, "at least decoder_strides"),
        ({"workers": ()}, "each once"),
        ({"workers": ("lim", "lim")}, "each once"),
        ({"sequence_max_frames": 18}, "at least 19"),
        ({"chunk_seconds": 0.0}, "above 0"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        objective(msgspec.structs.replace(SMALL, **options))
