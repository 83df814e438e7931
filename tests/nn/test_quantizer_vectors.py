from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from auricle.nn.cpu import policy
from auricle.nn.quantizer import (
    GumbelQuantizer,
    GumbelQuantizerConfig,
    KmeansQuantizer,
    KmeansQuantizerConfig,
)

DIM = 6


def randomised(module: Any) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_()
    return module.eval()


def gumbel(**options: Any) -> GumbelQuantizer:
    config = GumbelQuantizerConfig(num_groups=2, num_entries=5, **options)
    quantizer: GumbelQuantizer = randomised(GumbelQuantizer(config, dim=DIM, activation="gelu"))
    return quantizer


def kmeans(**options: Any) -> KmeansQuantizer:
    config = KmeansQuantizerConfig(num_groups=2, num_entries=5, **options)
    quantizer: KmeansQuantizer = randomised(KmeansQuantizer(config, dim=DIM))
    return quantizer


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("is_shared", [False, True])
def test_gumbel_takes_the_vector_of_the_largest_logit(depth: int, is_shared: bool) -> None:
    quantizer = gumbel(depth=depth, is_shared=is_shared)
    x = torch.randn(2, DIM, 9)
    with torch.no_grad():
        vectors = quantizer(x, [9, 9])
        codes = quantizer.indices(x, [9, 9])
    assert vectors.shape == x.shape
    assert codes.shape == (2, 9, 2)
    assert quantizer.vectors.shape == (1, 5 if is_shared else 10, 3)
    weights = quantizer.state_dict()
    for row in range(2):
        for frame in range(9):
            y = x[row, :, frame]
            for index in range(depth - 1):
                weight, bias = (weights[f"hidden.{index}.{part}"] for part in ("weight", "bias"))
                assert len(weight) == 2 * DIM
                y = F.gelu(weight @ y + bias)
            logits = weights["output.weight"] @ y + weights["output.bias"]
            for group in range(2):
                code = int(logits[5 * group : 5 * group + 5].argmax())
                entry = code if is_shared else 5 * group + code
                assert codes[row, frame, group] == code
                chosen = vectors[row, 3 * group : 3 * group + 3, frame]
                assert torch.equal(chosen, weights["vectors"][0, entry])


def test_gumbel_lets_gradients_through_the_choice() -> None:
    quantizer = gumbel()
    x = torch.randn(1, DIM, 9, requires_grad=True)
    with torch.no_grad():
        vectors = quantizer(x, [9])
    for training in (False, True):
        quantizer.train(training)
        output = quantizer(x, [9])
        (gradient,) = torch.autograd.grad(output.square().sum(), x)
        assert gradient.abs().sum() > 0
        assert torch.equal(output, vectors) != training


def test_gumbel_samples_in_training_at_its_temperature() -> None:
    quantizer = gumbel().train()
    x = torch.randn(1, DIM, 50)
    quantizer.temperature = 1e-3
    first, second = quantizer(x, [50]), quantizer(x, [50])
    assert not torch.equal(first, second)


def test_the_temperature_falls_to_its_floor() -> None:
    quantizer = gumbel(temperature=(2.0, 0.5, 0.9))
    assert quantizer.temperature == 2.0
    quantizer.anneal(2)
    assert quantizer.temperature == pytest.approx(2.0 * 0.81)
    quantizer.anneal(1_000)
    assert quantizer.temperature == 0.5


@pytest.mark.parametrize("is_shared", [False, True])
def test_kmeans_takes_the_nearest_vector(is_shared: bool) -> None:
    quantizer = kmeans(is_shared=is_shared)
    weights = quantizer.state_dict()
    lengths = [9, 4]
    x = torch.randn(2, DIM, 9)
    with torch.no_grad():
        vectors = quantizer(x, lengths)
        codes = quantizer.indices(x, lengths)
    for row, length in enumerate(lengths):
        for group in range(2):
            columns = slice(3 * group, 3 * group + 3)
            projected = weights["projection.weight"][columns, :, 0] @ x[row, columns, :length]
            projected = (projected - projected.mean()) / (projected.var(correction=0) + 1e-5).sqrt()
            scale, shift = (weights[f"norm.{part}"][columns, None] for part in ("weight", "bias"))
            projected = projected * scale + shift
            table = weights["vectors"][:, 0 if is_shared else group]
            nearest = (projected.T[:, None] - table).norm(dim=2).argmin(dim=1)
            assert torch.equal(codes[row, :length, group], nearest)
            assert torch.equal(vectors[row, columns, :length], table[nearest].T)


def test_kmeans_passes_gradients_on_to_the_projected_frame() -> None:
    quantizer = kmeans()
    x = torch.randn(1, DIM, 9)
    target = torch.randn(1, DIM, 9)
    output = quantizer(x, [9])
    (through,) = torch.autograd.grad((output * target).sum(), quantizer.projection.weight)
    projected = quantizer.norm(quantizer.projection(x), [9])
    (direct,) = torch.autograd.grad((projected * target).sum(), quantizer.projection.weight)
    assert torch.allclose(through, direct)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: GumbelQuantizerConfig(num_groups=0), "at least 1"),
        (lambda: KmeansQuantizerConfig(num_entries=0), "at least 1"),
        (lambda: GumbelQuantizerConfig(depth=0), "at least 1"),
        (lambda: GumbelQuantizerConfig(temperature=(2.0, 0.0, 0.9)), "above 0"),
        (lambda: KmeansQuantizer(KmeansQuantizerConfig(num_groups=4), dim=6), "evenly among 4"),
    ],
)
def test_configurations_that_do_not_hold_are_refused(make: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()


@pytest.mark.parametrize("make", [lambda: gumbel(depth=2), kmeans, lambda: kmeans(is_shared=True)])
def test_long_sequences_by_stretches(monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    quantizer = make()
    x, num_frames = torch.randn(3, DIM, 40), [40, 11, 3]
    with torch.inference_mode():
        vectors, codes = quantizer(x, num_frames), quantizer.indices(x, num_frames)
        monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 1_000)
        stretched = quantizer(x, num_frames), quantizer.indices(x, num_frames)
    for row, count in enumerate(num_frames):
        assert torch.equal(stretched[0][row, :, :count], vectors[row, :, :count])
        assert torch.equal(stretched[1][row, :count], codes[row, :count])
