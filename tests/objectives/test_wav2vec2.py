from __future__ import annotations

import math
from typing import Literal

import msgspec
import pytest
import torch
from torch import Tensor

import auricle.objectives.wav2vec2 as subject
from auricle.models.waveform_transformer import Wav2Vec2, Wav2Vec2Config
from auricle.nn.batch import Batch
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.transformer import TransformerConfig
from auricle.nn.waveform_extractor import ExtractorConfig
from auricle.objectives.wav2vec2 import (
    MaskedFrames,
    Wav2Vec2Objective,
    Wav2Vec2ObjectiveConfig,
    contrastive_loss,
    draw_distractors,
    draw_masked_frames,
    draw_spans,
    initialise,
    perplexities,
    scale_gradient,
)

TINY = Wav2Vec2Config(
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
SMALL = Wav2Vec2ObjectiveConfig(
    projection_dim=16, num_entries=8, num_distractors=5, mask_span=3, feature_dropout=0.0
)


def objective(
    config: Wav2Vec2ObjectiveConfig = SMALL, encoder: Wav2Vec2Config = TINY
) -> Wav2Vec2Objective:
    torch.manual_seed(0)
    return Wav2Vec2Objective(Wav2Vec2(encoder), config)


def loss(
    module: Wav2Vec2Objective, wavs: list[Tensor], seed: int = 0, step: int = 0
) -> subject.Loss:
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    generator = torch.Generator().manual_seed(seed)
    return module(padded, [len(wav) for wav in wavs], step=step, generator=generator)


def test_spans_start_as_often_as_asked_and_end_inside() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = draw_spans(
        [200] * 400 + [12], probability=0.065, span=10, min_spans=2, generator=generator
    )
    # 13 different starts among 191: a frame in the middle is hidden unless all of 10 are spared.
    expected = 1 - math.comb(181, 13) / math.comb(191, 13)
    assert masks[:400, 20:180].float().mean().item() == pytest.approx(expected, abs=0.01)
    assert masks[:400, 0].float().mean().item() == pytest.approx(13 / 191, abs=0.04)
    assert not masks[400, 12:].any()
    assert masks[400].sum() >= 11
    lone = draw_spans([11], probability=0.0, span=10, min_spans=2, generator=generator)
    assert lone.all()


def test_the_fraction_of_a_span_is_rounded_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = draw_spans([100] * 1_000, probability=0.0325, span=1, min_spans=2, generator=generator)
    counts = masks.sum(dim=1)
    assert set(counts.tolist()) == {3, 4}
    assert counts.float().mean().item() == pytest.approx(3.25, abs=0.05)


def test_distractors_are_the_others_of_the_row_all_equally_often() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = draw_distractors(torch.tensor([4, 2]), 6_000, generator)
    for own in range(4):
        shares = torch.bincount(drawn[0, own], minlength=4) / 6_000
        expected = [0.0 if other == own else 1 / 3 for other in range(4)]
        assert shares.tolist() == pytest.approx(expected, abs=0.03)
    assert (drawn[1, 0] == 1).all()
    assert (drawn[1, 1] == 0).all()
    assert drawn.max() <= 3


def test_masked_frames_are_listed_in_order() -> None:
    config = msgspec.structs.replace(SMALL, mask_start_probability=0.1)
    frames = draw_masked_frames([40, 12], config, torch.Generator().manual_seed(0))
    for row in range(2):
        expected = frames.mask[row].nonzero().flatten().tolist()
        assert frames.positions[row][frames.is_masked[row]].tolist() == expected
    x = torch.randn(2, 40, 3)
    assert torch.equal(frames.select(x)[frames.is_masked], x[frames.mask])


def test_contrastive_loss_against_a_loop() -> None:
    torch.manual_seed(0)
    contexts, targets = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    codes = torch.randint(0, 2, (2, 5, 1))
    counts = [5, 3]
    frames = MaskedFrames(
        mask=torch.zeros(2, 9, dtype=torch.bool),
        positions=torch.zeros(2, 5, dtype=torch.int64),
        is_masked=torch.arange(5) < torch.tensor(counts).unsqueeze(1),
        distractors=draw_distractors(torch.tensor(counts), 4, torch.Generator().manual_seed(1)),
    )
    losses, hits = [], []
    for row, count in enumerate(counts):
        for own in range(count):
            seen = [own] + [
                other
                for other in frames.distractors[row, own].tolist()
                if not torch.equal(codes[row, other], codes[row, own])
            ]
            scores = [
                torch.cosine_similarity(contexts[row, own], targets[row, other], dim=0).item() / 0.1
                for other in seen
            ]
            losses.append(math.log(sum(math.exp(score) for score in scores)) - scores[0])
            hits.append(scores[0] == max(scores))
    value, accuracy = contrastive_loss(contexts, targets, codes, frames, temperature=0.1)
    assert value.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert accuracy.item() == pytest.approx(sum(hits) / len(hits))


def test_perplexity_counts_entries_of_valid_frames() -> None:
    choices = torch.eye(4)[torch.tensor([[0, 1, 2], [3, 0, 0]])].unsqueeze(2)
    is_masked = torch.tensor([[True, True, True], [True, False, False]])
    assert perplexities(choices, is_masked).tolist() == pytest.approx([4.0], rel=1e-4)
    assert perplexities(choices[:1], is_masked[:1]).tolist() == pytest.approx([3.0], rel=1e-4)


def test_parts_add_up_and_depend_on_their_weights() -> None:
    module = objective().eval()
    wavs = [0.1 * torch.randn(9_000), 0.1 * torch.randn(6_000)]
    result = loss(module, wavs)
    parts = result.metrics
    expected = parts["contrastive"] + 0.1 * parts["diversity"] + 10 * parts["feature_penalty"]
    torch.testing.assert_close(result.value.detach(), expected)
    assert 0 < parts["diversity"] < 1
    assert 1 <= parts["code_perplexity"] <= 8
    latents = [module.encoder.latents(Batch.of([wav])).values[0] for wav in wavs]
    torch.testing.assert_close(
        parts["feature_penalty"], torch.cat(latents).square().mean().detach()
    )


def test_padding_never_enters(monkeypatch: pytest.MonkeyPatch) -> None:
    module = objective().eval()
    lengths = [9_000, 6_000]
    wavs = [0.1 * torch.randn(length) for length in lengths]
    num_frames = [module.encoder.num_frames(length) for length in lengths]
    both = draw_masked_frames(num_frames, SMALL, torch.Generator().manual_seed(3))

    def row(index: int) -> MaskedFrames:
        count = int(both.is_masked[index].sum())
        return MaskedFrames(
            mask=both.mask[index : index + 1, : num_frames[index]],
            positions=both.positions[index : index + 1, :count],
            is_masked=both.is_masked[index : index + 1, :count],
            distractors=both.distractors[index : index + 1, :count],
        )

    def parts(frames: MaskedFrames, chosen: list[Tensor]) -> dict[str, Tensor]:
        monkeypatch.setattr(subject, "draw_masked_frames", lambda *_: frames)
        return loss(module, chosen).metrics

    together = parts(both, wavs)
    alone = [parts(row(index), [wav]) for index, wav in enumerate(wavs)]
    weights = both.is_masked.sum(dim=1).float()
    for name in ("contrastive", "accuracy"):
        values = torch.stack([part[name] for part in alone])
        expected = (values * weights).sum() / weights.sum()
        torch.testing.assert_close(together[name], expected, rtol=1e-4, atol=1e-5)
    penalties = torch.stack([part["feature_penalty"] for part in alone])
    expected = (penalties * torch.tensor(num_frames)).sum() / sum(num_frames)
    torch.testing.assert_close(together["feature_penalty"], expected)


@pytest.mark.parametrize(
    ("norm", "normalize"), [("group", False), ("layer", True), ("layer", False)]
)
def test_without_a_mask_it_is_the_encoder(norm: Literal["group", "layer"], normalize: bool) -> None:
    extractor = msgspec.structs.replace(TINY.extractor, norm=norm)
    config = msgspec.structs.replace(TINY, extractor=extractor, normalize=normalize)
    module = objective(encoder=config).eval()
    wavs = [0.1 * torch.randn(9_000) + 1_000, 0.1 * torch.randn(6_000)]
    num_samples = [len(wav) for wav in wavs]
    num_frames = [module.encoder.num_frames(count) for count in num_samples]
    latents = module.encoder.latents(Batch.of(wavs)).values
    normed = module.encoder.projection_norm(latents)
    mask = torch.zeros(normed.shape[:2], dtype=torch.bool)
    contexts = module._contexts(normed, mask, num_frames)
    for row, expected in zip(contexts, module.encoder(wavs), strict=True):
        torch.testing.assert_close(row[: len(expected)], expected)


def test_a_masked_latent_is_not_seen() -> None:
    module = objective().eval()
    latents = torch.randn(1, 20, 16, requires_grad=True)
    mask = torch.zeros(1, 20, dtype=torch.bool)
    mask[:, 5:9] = True
    contexts = module._contexts(latents, mask, [20])
    (gradient,) = torch.autograd.grad(contexts[0, 5:9].square().sum(), latents)
    assert (gradient[mask] == 0).all()
    assert (gradient[~mask].abs().sum(dim=1) > 0).all()


def test_the_extractor_learns_slower() -> None:
    x = torch.ones(2, requires_grad=True)
    (3 * scale_gradient(x, 0.1)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([0.3, 0.3])
    gradients = []
    for factor in (1.0, 0.5):
        module = objective(msgspec.structs.replace(SMALL, feature_gradient=factor))
        loss(
            module, [0.1 * torch.randn(6_000, generator=torch.Generator().manual_seed(0))]
        ).value.backward()
        gradients.append(module.encoder.extractor.convs[0].weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0] * 0.5)


def test_every_parameter_gets_a_gradient() -> None:
    module = objective()
    loss(module, [0.1 * torch.randn(9_000), 0.1 * torch.randn(6_000)]).value.backward()
    missing = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    # Adding the same to all keys changes no attention weight: rounding alone decides.
    assert [name for name in missing if not name.endswith("key.bias")] == []


def test_the_temperature_falls_to_its_end() -> None:
    config = Wav2Vec2ObjectiveConfig(gumbel_temperature=(2.0, 0.5, 0.9))
    assert config.temperature(0) == 2.0
    assert config.temperature(2) == pytest.approx(1.62)
    assert config.temperature(1_000) == 0.5
    module = objective(msgspec.structs.replace(SMALL, gumbel_temperature=(2.0, 0.5, 0.9)))
    assert loss(module, [0.1 * torch.randn(9_000)], step=2).metrics["temperature"] == pytest.approx(
        1.62
    )


def test_the_shortest_waveform_has_something_to_tell_apart() -> None:
    module = objective()
    result = loss(module, [0.1 * torch.randn(module.min_samples)] * 2)
    assert module.encoder.num_frames(module.min_samples) == 4
    assert module.encoder.num_frames(module.min_samples - 1) == 3
    assert result.value.isfinite()


def test_it_initialises_the_encoder_unless_disabled() -> None:
    encoder = Wav2Vec2(TINY)
    before = encoder.transformer.layers[0].ffn_in.weight.clone()
    Wav2Vec2Objective(encoder, msgspec.structs.replace(SMALL, initialise_encoder=False))
    assert torch.equal(encoder.transformer.layers[0].ffn_in.weight, before)
    initialise(encoder)
    assert encoder.transformer.layers[0].ffn_in.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not encoder.transformer.layers[0].attention.key.bias.any()
    taps = encoder.extractor.convs[1].weight
    assert taps.std().item() == pytest.approx(math.sqrt(2 / (16 * 8)), rel=0.1)


@pytest.mark.parametrize(
    "options",
    [
        {"min_spans": 1},
        {"mask_start_probability": 1.5},
        {"num_distractors": 0},
        {"projection_dim": 15},
        {"gumbel_temperature": (2.0, 0.0, 0.9)},
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be|cannot be divided"):
        Wav2Vec2ObjectiveConfig(**options)
