from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

import auricle.objectives.hubert as subject
from auricle.models.waveform_transformer import Hubert, HubertConfig
from auricle.nn.batch import Batch
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.transformer import TransformerConfig
from auricle.nn.waveform_extractor import ExtractorConfig
from auricle.objectives.base import Loss, UnitTargets
from auricle.objectives.hubert import (
    HubertObjective,
    HubertObjectiveConfig,
    UnitHead,
    begin_as_mel_filters,
)
from auricle.objectives.wav2vec2 import draw_spans

TINY = HubertConfig(
    normalize=True,
    extractor=ExtractorConfig(layers=((16, 10, 10), (16, 8, 8), (16, 4, 4)), norm="layer"),
    transformer=TransformerConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        ffn_size=64,
        positions=ConvPositionConfig(kernel_size=8, num_groups=2),
        dropout=0.0,
        attention_dropout=0.0,
        layer_drop=0.0,
    ),
)
SMALL = HubertObjectiveConfig(
    targets=(UnitTargets(num_units=5), UnitTargets(num_units=7, num_stages=2)),
    projection_dim=16,
    mask_span=3,
    unmasked_weight=0.25,
)
LENGTHS = [9_000, 6_000]


def objective(config: HubertObjectiveConfig = SMALL) -> HubertObjective:
    torch.manual_seed(0)
    return HubertObjective(Hubert(TINY), config)


def wavs_of(lengths: list[int] = LENGTHS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [0.1 * torch.randn(length, generator=generator) for length in lengths]


def units_of(module: HubertObjective, lengths: list[int] = LENGTHS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(6)
    columns = [head.embeddings.shape[0] for head in module.heads]
    return [
        torch.stack(
            [
                torch.randint(size, (module.encoder.num_frames(length),), generator=generator)
                for size in columns
            ],
            dim=1,
        )
        for length in lengths
    ]


def loss(module: HubertObjective, wavs: list[Tensor], units: list[Tensor], seed: int = 0) -> Loss:
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    targets = torch.nn.utils.rnn.pad_sequence(units, batch_first=True, padding_value=-1)
    generator = torch.Generator().manual_seed(seed)
    return module(padded, [len(wav) for wav in wavs], step=0, generator=generator, targets=targets)


def by_hand(
    module: HubertObjective, wav: Tensor, units: Tensor, mask: Tensor
) -> tuple[list[float], list[float]]:
    """Losses of masked and of other frames of a lone waveform, one frame and unit at a time."""
    latents = module.encoder.latents(Batch.of([wav])).values
    x = module.encoder.projection(module.encoder.projection_norm(latents))[0]
    x = torch.where(mask.unsqueeze(1), module.mask_embedding, x)
    *_, states = module.encoder.transformer(x[None], subject.Layout([len(x)]))
    losses: tuple[list[float], list[float]] = ([], [])
    for frame, state in enumerate(states[0]):
        total = 0.0
        for head, unit in zip(module.heads, units[frame].tolist(), strict=True):
            projected = head.projection.weight @ state + head.projection.bias
            scores = [
                torch.cosine_similarity(projected, embedding, dim=0).item() / 0.1
                for embedding in head.embeddings
            ]
            total += math.log(sum(math.exp(score) for score in scores)) - scores[unit]
        losses[0 if mask[frame] else 1].append(total)
    return losses


def test_the_loss_against_a_loop_over_frames_and_units() -> None:
    module = objective().eval()
    wavs, units = wavs_of(), units_of(module)
    num_frames = [len(one) for one in units]
    masks = draw_spans(
        num_frames,
        probability=SMALL.mask_start_probability,
        span=SMALL.mask_span,
        min_spans=SMALL.min_spans,
        generator=torch.Generator().manual_seed(0),
    )
    masked: list[float] = []
    others: list[float] = []
    for wav, one, mask in zip(wavs, units, masks, strict=True):
        of_masked, of_others = by_hand(module, wav, one, mask[: len(one)])
        masked += of_masked
        others += of_others
    result = loss(module, wavs, units)
    assert len(masked) == int(masks.sum())
    assert result.metrics["masked_loss"].item() == pytest.approx(
        sum(masked) / len(masked), rel=1e-4
    )
    assert result.metrics["unmasked_loss"].item() == pytest.approx(
        sum(others) / len(others), rel=1e-4
    )
    latents = [module.encoder.latents(Batch.of([wav])).values[0] for wav in wavs]
    penalty = torch.cat(latents).square().mean().item()
    assert result.metrics["feature_penalty"].item() == pytest.approx(penalty, rel=1e-4)
    expected = sum(masked) / len(masked) + 0.25 * sum(others) / len(others) + 10 * penalty
    assert result.value.item() == pytest.approx(expected, rel=1e-4)


def test_padding_and_its_targets_never_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    module = objective().eval()
    wavs, units = wavs_of(), units_of(module)
    num_frames = [len(one) for one in units]
    masks = draw_spans(
        num_frames, probability=0.2, span=3, min_spans=2, generator=torch.Generator().manual_seed(3)
    )

    def parts(rows: slice) -> dict[str, Tensor]:
        longest = max(num_frames[rows])
        monkeypatch.setattr(subject, "draw_spans", lambda *_, **__: masks[rows, :longest])
        return loss(module, wavs[rows], units[rows]).metrics

    together, alone = parts(slice(0, 2)), [parts(slice(0, 1)), parts(slice(1, 2))]
    hidden = masks.sum(dim=1).float()
    counts = {"masked": hidden, "unmasked": torch.tensor(num_frames) - hidden}
    for name, weights in counts.items():
        for part in ("loss", "accuracy"):
            values = torch.stack([one[f"{name}_{part}"] for one in alone])
            expected = (values * weights).sum() / weights.sum()
            torch.testing.assert_close(together[f"{name}_{part}"], expected)


def test_without_a_mask_it_is_the_encoder() -> None:
    module = objective().eval()
    wavs = wavs_of()
    latents = module.encoder.latents(Batch.of(wavs)).values
    num_frames = [module.encoder.num_frames(length) for length in LENGTHS]
    mask = torch.zeros(latents.shape[:2], dtype=torch.bool)
    contexts = module._contexts(latents, mask, num_frames, torch.Generator())
    for row, expected in zip(contexts, module.encoder(wavs), strict=True):
        torch.testing.assert_close(row[: len(expected)], expected)


def test_a_masked_latent_is_not_seen() -> None:
    module = objective().eval()
    latents = torch.randn(1, 20, 16, requires_grad=True)
    mask = torch.zeros(1, 20, dtype=torch.bool)
    mask[:, 5:9] = True
    contexts = module._contexts(latents, mask, [20], torch.Generator())
    (gradient,) = torch.autograd.grad(contexts[0, 5:9].square().sum(), latents)
    assert (gradient[mask] == 0).all()
    assert (gradient[~mask].abs().sum(dim=1) > 0).all()


def test_every_parameter_gets_a_gradient_and_the_extractor_a_smaller_one() -> None:
    gradients = []
    for factor in (1.0, 0.5):
        module = objective(msgspec.structs.replace(SMALL, feature_gradient=factor))
        loss(module, wavs_of(), units_of(module)).value.backward()
        gradients.append(module.encoder.extractor.convs[0].weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0] * 0.5)
    missing = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    # Adding the same to all keys changes no attention weight: rounding alone decides.
    assert [name for name in missing if not name.endswith("key.bias")] == []


def test_similarities_are_not_in_half_precision() -> None:
    torch.manual_seed(0)
    head = UnitHead(4, 3, 6, 0.1)
    x = torch.randn(2, 5, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(x)
    assert logits.dtype == torch.float32
    assert logits.abs().max() <= 10.001
    projected = head.projection(x)
    expected = torch.cosine_similarity(projected.unsqueeze(2), head.embeddings, dim=3) / 0.1
    torch.testing.assert_close(logits, expected, rtol=0.02, atol=0.1)


def test_it_learns_units_by_heart() -> None:
    config = msgspec.structs.replace(SMALL, penalty_weight=0.0, feature_gradient=1.0)
    module = objective(config)
    wavs = wavs_of([6_000])
    units = units_of(module, [6_000])
    optimizer = torch.optim.AdamW(module.parameters(), 1e-2)
    for seed in range(60):
        optimizer.zero_grad()
        result = loss(module, wavs, units, seed)
        result.value.backward()
        optimizer.step()
    assert result.metrics["unmasked_accuracy"] > 0.9
    assert result.metrics["masked_accuracy"] > 0.7


def test_only_the_losses_with_a_weight_are_computed() -> None:
    units = units_of(objective())
    names = set(loss(objective(), wavs_of(), units).metrics)
    assert names == {
        "feature_penalty",
        *(f"{frames}_{kind}" for frames in ("masked", "unmasked") for kind in ("loss", "accuracy")),
    }
    only = msgspec.structs.replace(SMALL, unmasked_weight=0.0)
    assert "unmasked_loss" not in loss(objective(only), wavs_of(), units).metrics
    every = msgspec.structs.replace(SMALL, mask_span=1, mask_start_probability=1.0)
    assert loss(objective(every), wavs_of(), units).metrics["unmasked_loss"] == 0


def test_the_shortest_waveform_has_a_whole_span() -> None:
    module = objective()
    length = module.min_samples
    assert module.encoder.num_frames(length) == 3
    assert module.encoder.num_frames(length - 1) == 2
    assert loss(module, wavs_of([length]), units_of(module, [length])).value.isfinite()


def test_the_encoder_is_initialised_unless_it_goes_on() -> None:
    encoder = Hubert(TINY)
    before = encoder.transformer.layers[0].ffn_in.weight.clone()
    HubertObjective(encoder, msgspec.structs.replace(SMALL, initialise_encoder=False))
    assert torch.equal(encoder.transformer.layers[0].ffn_in.weight, before)
    HubertObjective(encoder, SMALL)
    assert encoder.transformer.layers[0].ffn_in.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_filters_that_begin_on_the_mel_scale() -> None:
    weight = torch.full((40, 1, 320), torch.nan)
    begin_as_mel_filters(weight)
    torch.testing.assert_close(weight.square().sum(dim=2), torch.full((40, 1), 2.0))
    spectra = torch.fft.rfft(weight[:, 0], n=16_000).abs()  # bins of 1 Hz
    cosines, sines = spectra.argmax(dim=1).float().chunk(2)
    mels = [1127 * math.log1p(8_000 / 700) * place / 22 for place in range(1, 21)]
    expected = torch.tensor([700 * math.expm1(mel / 1127) for mel in mels])
    # Below the width of a pass band the mirrored one interferes.
    torch.testing.assert_close(cosines[3:], expected[3:], atol=6, rtol=0)
    torch.testing.assert_close(sines[3:], expected[3:], atol=6, rtol=0)
    assert (weight[:20] * weight[20:]).sum(dim=2).abs().max() < 1e-5
    narrow, wide = ((spectra[row] > spectra[row].max() / 2).sum().item() for row in (3, 18))
    assert narrow < 0.5 * wide
    with pytest.raises(ValueError, match="are pairs, but the first convolution has 5"):
        begin_as_mel_filters(torch.zeros(5, 1, 10))


@pytest.mark.parametrize("mel_filters", [True, False])
def test_the_first_convolution_begins_as_asked(mel_filters: bool) -> None:
    module = objective(msgspec.structs.replace(SMALL, mel_filters=mel_filters))
    weight = module.encoder.extractor.convs[0].weight
    expected = torch.empty_like(weight)
    begin_as_mel_filters(expected)
    assert torch.equal(weight, expected) is mel_filters


def test_targets_of_another_shape_are_refused() -> None:
    module = objective()
    wavs, units = wavs_of(), units_of(module)
    with pytest.raises(ValueError, match=r"units of shape \(2, 28, 3\).*but got \(2, 27, 3\)"):
        loss(module, wavs, [one[:-1] for one in units])
    with pytest.raises(ValueError, match="but got none"):
        module(torch.zeros(1, 6_000), [6_000], step=0, generator=torch.Generator())


@pytest.mark.parametrize(
    "options",
    [
        {"targets": ()},
        {"mask_start_probability": 1.5},
        {"mask_span": 0},
        {"logit_temperature": 0.0},
        {"masked_weight": 0.0},
        {"unmasked_weight": -1.0},
        {"feature_gradient": -0.1},
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        HubertObjectiveConfig(**{"targets": (UnitTargets(num_units=5),), **options})


@pytest.mark.parametrize("options", [{"num_units": 1}, {"num_stages": 0}, {"sample": 0.0}])
def test_codebooks_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="num_units must be at least 2"):
        UnitTargets(**{"num_units": 5, **options})
