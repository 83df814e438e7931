from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from auricle.models.wav2vec import VqWav2Vec, VqWav2VecConfig
from auricle.nn.conv_features import AggregatorConfig, ConvExtractorConfig
from auricle.nn.quantizer import GumbelQuantizerConfig, KmeansQuantizerConfig
from auricle.objectives.vq_wav2vec import (
    VqWav2VecObjective,
    VqWav2VecObjectiveConfig,
    gumbel_vectors,
    kmeans_vectors,
    restart_unused,
)

EXTRACTOR = ConvExtractorConfig(
    layers=((16, 10, 5), (16, 8, 4), *((16, 4, 2),) * 3), activation="gelu"
)
AGGREGATOR = AggregatorConfig(layers=((16, 2, 1), (16, 3, 1)), activation="gelu")
GUMBEL = GumbelQuantizerConfig(num_entries=10, depth=2, temperature=(2.0, 0.5, 0.9))
KMEANS = KmeansQuantizerConfig(num_entries=10, commitment=0.25)
QUANTIZERS = [GUMBEL, KMEANS]
SHARED = [
    GumbelQuantizerConfig(num_entries=10, is_shared=True),
    KmeansQuantizerConfig(num_entries=10, is_shared=True),
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny layers lose more to the handing over between threads than they gain."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def objective(quantizer: Any, **options: Any) -> VqWav2VecObjective:
    torch.manual_seed(0)
    config = VqWav2VecConfig(extractor=EXTRACTOR, aggregator=AGGREGATOR, quantizer=quantizer)
    encoder = VqWav2Vec(config)
    # Vectors spread out as those of a trained codebook.
    torch.nn.init.normal_(encoder.quantizer.vectors)
    return VqWav2VecObjective(encoder, VqWav2VecObjectiveConfig(**{"num_steps": 4, **options}))


def loss(module: VqWav2VecObjective, wavs: list[Tensor], seed: int = 0, step: int = 0) -> Any:
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    generator = torch.Generator().manual_seed(seed)
    return module(padded, [len(wav) for wav in wavs], step=step, generator=generator)


def vectors(module: VqWav2VecObjective, z: Tensor, num_frames: list[int]) -> Any:
    quantizer: Any = module.encoder.quantizer
    if isinstance(quantizer.config, GumbelQuantizerConfig):
        return gumbel_vectors(quantizer, z, num_frames, None)
    return kmeans_vectors(quantizer, z, num_frames)


@pytest.mark.parametrize("quantizer", [*QUANTIZERS, *SHARED])
def test_without_noise_vectors_and_gradients_are_the_encoders(quantizer: Any) -> None:
    module = objective(quantizer).eval()
    module.encoder.quantizer.temperature = 1.0
    z = torch.randn(2, 16, 9, requires_grad=True)
    weight = torch.randn(2, 16, 9)
    ours, _ = vectors(module, z, [9, 5])
    expected = module.encoder.quantizer(z, [9, 5])
    torch.testing.assert_close(ours[0], expected[0])
    torch.testing.assert_close(ours[1, :, :5], expected[1, :, :5])
    weight[1, :, 5:] = 0
    gradients = [torch.autograd.grad((x * weight).sum(), z)[0] for x in (ours, expected)]
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(gradients[0], gradients[1])


def test_gumbel_choices_follow_the_probabilities_at_any_temperature() -> None:
    module = objective(GUMBEL)
    quantizer: Any = module.encoder.quantizer
    z = torch.randn(1, 16, 1).expand(-1, -1, 20_000)
    hidden = quantizer.activation(quantizer.hidden[0](z[0, :, 0]))
    probabilities = quantizer.output(hidden).view(2, 10).softmax(dim=1)
    quantizer.temperature = 2.0
    chosen, result = gumbel_vectors(quantizer, z, [20_000], torch.Generator().manual_seed(0))
    tables = quantizer.vectors.view(2, 10, 8)
    for group in range(2):
        columns = chosen[0, 8 * group : 8 * group + 8].T
        shares = (columns[:, None] - tables[group]).abs().amax(dim=2).le(1e-5).float().mean(dim=0)
        assert shares.sum().item() == pytest.approx(1.0)
        torch.testing.assert_close(shares, probabilities[group], atol=0.015, rtol=0)
    entropy = -(probabilities * probabilities.log()).sum(dim=1)
    expected = 1 - entropy.exp().mean() / 10
    torch.testing.assert_close(result.value, expected, atol=1e-4, rtol=0)
    perplexity = result.metrics["softmax_perplexity"]
    torch.testing.assert_close(perplexity, entropy.exp().mean(), atol=1e-3, rtol=0)


def test_the_temperature_falls_with_the_updates() -> None:
    module = objective(GUMBEL)
    wavs = [torch.randn(3_000)]
    assert loss(module, wavs, step=2).metrics["temperature"].item() == pytest.approx(2 * 0.81)
    assert loss(module, wavs, step=99).metrics["temperature"].item() == 0.5


def test_the_kmeans_loss_by_hand() -> None:
    module = objective(KMEANS)
    quantizer: Any = module.encoder.quantizer
    z = torch.randn(2, 16, 9)
    _, result = kmeans_vectors(quantizer, z, [9, 5])
    squares = []
    for row, length in ((0, 9), (1, 5)):
        alone = z[row : row + 1, :, :length]
        projected = quantizer.norm(quantizer.projection(alone), [length])
        chosen = quantizer(alone, [length]).detach()
        squares.append((projected - chosen).square().flatten())
    expected = torch.cat(squares).mean()
    torch.testing.assert_close(result.value, 1.25 * expected)
    torch.testing.assert_close(result.metrics["codebook_loss"], expected.detach())
    # The commitment reaches the frames with its weight, the codebook the vectors with 1.
    to_vectors, to_frames = torch.autograd.grad(
        result.value, (quantizer.vectors, quantizer.norm.bias)
    )
    codes = quantizer.indices(z, [9, 5])
    assert (to_vectors.abs().sum(dim=2) > 0).sum() == sum(
        len(torch.cat([codes[0, :, group], codes[1, :5, group]]).unique()) for group in range(2)
    )
    (direct,) = torch.autograd.grad(torch.cat(squares).mean(), quantizer.norm.bias)
    torch.testing.assert_close(to_frames, 0.25 * direct)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_padding_never_enters(quantizer: Any) -> None:
    module = objective(quantizer, diversity_weight=1.0)
    padded = torch.zeros(2, 5_000)
    padded[0, :3_000] = torch.randn(3_000)
    padded[1] = torch.randn(5_000)
    results = []
    for extra, noise in ((0, 0.0), (3_000, 1.0)):
        padded = torch.nn.functional.pad(padded, (0, extra))
        padded[0, 3_000:] = noise * torch.randn(2_000 + extra)
        generator = torch.Generator().manual_seed(0)
        results.append(module(padded, [3_000, 5_000], step=0, generator=generator))
    torch.testing.assert_close(results[0].value, results[1].value)
    perplexities = [result.metrics["code_perplexity"] for result in results]
    torch.testing.assert_close(perplexities[0], perplexities[1])


@pytest.mark.parametrize(
    ("quantizer", "name"), [(GUMBEL, "diversity_weight"), (KMEANS, "codebook_weight")]
)
def test_what_the_quantiser_adds_has_its_weight(quantizer: Any, name: str) -> None:
    wavs = [torch.randn(3_000), torch.randn(2_000)]
    values = [
        loss(objective(quantizer, **{name: weight}), wavs).value for weight in (0.0, 1.0, 3.0)
    ]
    result = loss(objective(quantizer, **{name: 0.0}), wavs)
    torch.testing.assert_close(values[0].detach(), result.metrics["contrastive_loss"])
    assert values[1] > values[0]
    torch.testing.assert_close(values[2] - values[0], 3 * (values[1] - values[0]))


def test_noise_comes_from_the_generator_in_training_alone() -> None:
    module = objective(GUMBEL)
    wavs = [torch.randn(3_000)]
    first, again, other = (loss(module, wavs, seed).value for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    module.eval()
    perplexities = [loss(module, wavs, seed).metrics["code_perplexity"] for seed in (1, 2)]
    assert torch.equal(perplexities[0], perplexities[1])


@pytest.mark.parametrize("is_shared", [True, False])
def test_entries_that_no_frame_chose_become_frames_and_others_stay(is_shared: bool) -> None:
    quantizer = KmeansQuantizerConfig(num_groups=2, num_entries=6, is_shared=is_shared)
    module = objective(quantizer, restart_every=1)
    z = torch.randn(2, 16, 5, generator=torch.Generator().manual_seed(3))
    num_frames = [5, 3]
    table = module.encoder.quantizer
    with torch.no_grad():
        table.vectors[:3] = torch.randn(table.vectors[:3].shape)
        table.vectors[3:] = 100.0  # as far from any frame as nothing that is chosen
    before = table.vectors.detach().clone()
    frames = table.norm(table.projection(z), num_frames).transpose(1, 2)
    frames = torch.cat([frames[0, :5], frames[1, :3]]).unflatten(1, (2, -1)).transpose(0, 1)
    codes = table.indices(z, num_frames)
    codes = torch.cat([codes[0, :5], codes[1, :3]]).T

    restart_unused(table, z, num_frames, torch.Generator().manual_seed(0))

    groups = [slice(None)] if is_shared else [0, 1]
    for index, group in enumerate(groups):
        used = set(codes[group].flatten().tolist())
        assert used
        assert not used & {3, 4, 5}
        candidates = frames[group].flatten(0, -2)
        for entry in range(6):
            vector = table.vectors[entry, index]
            if entry in used:
                assert torch.equal(vector, before[entry, index])
            else:
                assert (candidates == vector).all(dim=-1).any()


def test_unused_entries_restart_in_training_alone_and_when_asked() -> None:
    config = KmeansQuantizerConfig(num_groups=2, num_entries=200, is_shared=True)
    wavs = [torch.randn(4000, generator=torch.Generator().manual_seed(1))]

    def changed(restart_every: int | None, step: int, training: bool) -> bool:
        module = objective(config, restart_every=restart_every).train(training)
        before = module.encoder.quantizer.vectors.detach().clone()
        loss(module, wavs, step=step)
        return not torch.equal(module.encoder.quantizer.vectors, before)

    assert changed(4, 8, True)
    assert not changed(4, 7, True)
    assert not changed(4, 8, False)
    assert not changed(None, 8, True)
    with pytest.raises(ValueError, match="at least 1"):
        objective(config, restart_every=0)
