from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from auricle.frontends import FbankConfig, LogMelConfig
from auricle.models.spectral_transformer import (
    BertConfig,
    Mockingjay,
    MockingjayConfig,
    SpectralBertConfig,
)
from auricle.nn.batch import Batch, Layout
from auricle.objectives.reconstruction import (
    ReconstructionObjective,
    ReconstructionObjectiveConfig,
    SpecHead,
    draw_time_mask,
    initialise,
)

TINY: dict[str, Any] = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "ffn_size": 32}


def objective(
    features: FbankConfig | LogMelConfig | None = None,
    transformer: dict[str, Any] | None = None,
    **options: Any,
) -> ReconstructionObjective:
    torch.manual_seed(0)
    config: SpectralBertConfig = MockingjayConfig(
        features=features or LogMelConfig(num_mels=12),
        transformer=BertConfig(
            **TINY, hidden_dropout=0.0, attention_dropout=0.0, **(transformer or {})
        ),
    )
    return ReconstructionObjective(Mockingjay(config), ReconstructionObjectiveConfig(**options))


def loss(module: ReconstructionObjective, wavs: list[torch.Tensor], seed: int = 0) -> torch.Tensor:
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    generator = torch.Generator().manual_seed(seed)
    return module(padded, [len(wav) for wav in wavs], step=0, generator=generator).value


def speech(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [0.1 * torch.randn(length, generator=generator) for length in lengths]


def mask_of(module: ReconstructionObjective, num_frames: list[int], seed: int = 0) -> Any:
    return draw_time_mask(
        num_frames, proportion=0.15, span=(7, 7), generator=torch.Generator().manual_seed(seed)
    )


def straight_line(module: ReconstructionObjective, wav: torch.Tensor, mask: Any) -> torch.Tensor:
    """Errors (masked frames, D) of one utterance, its frames altered by `mask` (one row)."""
    features = module.encoder.features(Batch.of([wav])).values
    altered = features[0][mask.source[0]].clone()
    altered[mask.is_zeroed[0]] = 0.0
    *_, state = module.encoder.bert(altered.unsqueeze(0), Layout([len(altered)]))
    head = module.head
    hidden = F.layer_norm(
        F.gelu(state @ head.dense.weight.T + head.dense.bias),
        (16,),
        head.norm.weight,
        head.norm.bias,
        1e-12,
    )
    predicted = hidden @ head.output.weight.T + head.output.bias
    target = module.target.features(wav.unsqueeze(0), [len(wav)])
    return (predicted - target)[0][mask.is_masked[0]].abs()


@pytest.mark.parametrize(
    "target",
    [None, LogMelConfig(kind="linear", num_freqs=201, cmvn=False)],
    ids=["own features", "linear"],
)
def test_it_is_the_mean_error_of_the_masked_frames(target: LogMelConfig | None) -> None:
    module = objective(target=target)
    (wav,) = speech(9_600)
    # Seeds with zeros, replaced spans and neither.
    treatments = set()
    for seed in range(40):
        mask = mask_of(module, [61], seed)
        treatments.add((bool(mask.is_zeroed.any()), bool((mask.source != torch.arange(61)).any())))
        expected = straight_line(module, wav, mask).mean()
        torch.testing.assert_close(loss(module, [wav], seed), expected)
    assert treatments == {(True, False), (False, True), (False, False)}


@pytest.mark.parametrize("transformer", [{}, {"pre_layer_norm": True}, {"max_chunk_frames": 40}])
def test_padding_never_enters(transformer: dict[str, Any]) -> None:
    module = objective(transformer=transformer)
    wavs = speech(4_000, 12_000)
    mask = mask_of(module, [26, 76])
    errors = []
    for row, (wav, length) in enumerate(zip(wavs, [26, 76], strict=True)):
        own = type(mask)(
            mask.is_masked[row : row + 1, :length],
            mask.is_zeroed[row : row + 1, :length],
            mask.source[row : row + 1, :length],
        )
        errors.append(straight_line(module, wav, own))
    torch.testing.assert_close(loss(module, wavs), torch.cat(errors).mean())
    # Nor does padding.
    padded = torch.full((2, 15_000), float("nan"))
    for row, wav in zip(padded, wavs, strict=True):
        row[: len(wav)] = wav
    generator = torch.Generator().manual_seed(0)
    value = module(padded, [4_000, 12_000], step=0, generator=generator).value
    torch.testing.assert_close(value, loss(module, wavs))


def test_masked_frames_are_not_seen() -> None:
    module = objective(features=LogMelConfig(num_mels=12, cmvn=False))
    features = torch.randn(1, 61, 12)
    mask = next(
        mask for mask in (mask_of(module, [61], seed) for seed in range(9)) if mask.is_zeroed.any()
    )
    other = torch.where(mask.is_masked.unsqueeze(-1), torch.randn(1, 61, 12), features)
    states = [list(module.encoder.bert(mask.apply(x), Layout([61])))[-1] for x in (features, other)]
    assert not torch.equal(features, other)
    assert torch.equal(states[0], states[1])


def test_initial_weights() -> None:
    module = objective(transformer={"init_std": 0.05})
    weights = [p for p in module.parameters() if p.dim() == 2]
    assert len(weights) == 1 + 2 * 6 + 2
    pooled = torch.cat([weight.flatten() for weight in weights])
    assert pooled.std().item() == pytest.approx(0.05, rel=0.05)
    for name, parameter in module.named_parameters():
        if parameter.dim() == 1:
            is_norm_weight = "norm" in name and name.endswith("weight")
            assert (parameter == float(is_norm_weight)).all(), name


def test_an_encoder_may_keep_its_weights() -> None:
    torch.manual_seed(0)
    encoder = Mockingjay(MockingjayConfig(transformer=BertConfig(**TINY)))
    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    ReconstructionObjective(encoder, ReconstructionObjectiveConfig(initialise_encoder=False))
    assert all(torch.equal(before[name], weight) for name, weight in encoder.state_dict().items())
    ReconstructionObjective(encoder, ReconstructionObjectiveConfig())
    assert not torch.equal(before["bert.project.weight"], encoder.bert.project.weight)


def test_initialise_resets_norms() -> None:
    head = SpecHead(BertConfig(**TINY), output_dim=3)
    torch.nn.init.constant_(head.norm.weight, 3.0)
    torch.nn.init.constant_(head.norm.bias, 3.0)
    initialise(head, std=0.02)
    assert (head.norm.weight == 1).all()
    assert (head.norm.bias == 0).all()


@pytest.mark.parametrize(
    ("features", "min_samples"),
    [
        (LogMelConfig(num_mels=12), 7 * 160),
        (FbankConfig(num_mels=12, cmvn=True, delta_order=2), 400 + 7 * 160),
    ],
)
def test_the_shortest_waveform_leaves_a_frame_to_see(
    features: FbankConfig | LogMelConfig, min_samples: int
) -> None:
    module = objective(features=features)
    assert module.min_samples == min_samples
    wav = speech(min_samples)[0]
    value = loss(module, [wav])
    value.backward()
    assert value.isfinite()
    assert value > 0
    gradients = [p.grad for p in module.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert mask_of(module, [8]).is_masked.sum() == 7


def test_predicted_share() -> None:
    module, wavs = objective(), speech(16_000, 9_000)
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    generator = torch.Generator().manual_seed(0)
    metrics = module(padded, [16_000, 9_000], step=0, generator=generator).metrics
    share = mask_of(module, [101, 57]).is_masked.sum() / (101 + 57)
    torch.testing.assert_close(metrics["predicted_share"], share)


def test_a_target_with_other_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="as many frames"):
        objective(target=FbankConfig())


@pytest.mark.parametrize(
    "options",
    [{"mask_proportion": 0.0}, {"mask_proportion": 1.5}, {"min_span": 8}, {"min_span": 0}],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ReconstructionObjectiveConfig(**options)
