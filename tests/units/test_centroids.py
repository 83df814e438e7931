from __future__ import annotations

import pytest
import torch
from torch import Tensor

from auricle.units.codebook import Units


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reference(centroids: Tensor, x: Tensor) -> Tensor:
    """Units by all distances in float64."""
    differences = x.double().unsqueeze(1) - centroids.double()
    return differences.square().sum(dim=2).argmin(dim=1).int()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_units_are_those_of_the_nearest_centroids(seed: int, offset: float) -> None:
    x = normal(300, 24, seed=seed) + offset
    units = Units(centroids=normal(1, 40, 24, seed=seed + 10) + offset, layer="a")
    codes = units.assign(x)
    assert codes.dtype == torch.int32
    assert codes.equal(reference(units.centroids[0], x))


def test_ties_go_to_the_lowest_index() -> None:
    centroids = normal(8, 6)
    doubled = torch.cat([centroids, centroids]).flip(0)
    x = normal(100, 6, seed=1)
    codes = Units(centroids=doubled[None], layer="a").assign(x)
    assert codes.max() < 8
    assert codes.equal(7 - reference(centroids, x))
    between = Units(centroids=torch.tensor([[[5.0], [1.0], [-1.0]]]), layer="a")
    assert between.assign(torch.zeros(1, 1)).item() == 1


def test_near_ties_are_decided_beyond_float32() -> None:
    """Products in float32 cannot tell these centroids apart."""
    base = normal(768) * 30
    step = torch.zeros(768)
    step[3] = 2.0**-12
    centroids = torch.stack([base + step, base, base + 2 * step])
    x = base + normal(50, 768) * 10
    units = Units(centroids=torch.cat([centroids, normal(5, 768)])[None], layer="a")
    expected = reference(units.centroids[0], x)
    assert set(expected.tolist()) > {1}
    assert units.assign(x).equal(expected)


@pytest.mark.parametrize("num_stages", [1, 3])
def test_units_are_the_same_in_any_batch(num_stages: int) -> None:
    x = normal(300, 256)
    half = normal(num_stages, 15, 256)  # each twice, closer than products in float32 can tell
    near = half + normal(num_stages, 15, 256, seed=1) * 3e-7
    units = Units(centroids=torch.cat([half, near], dim=1), layer="a")
    whole = units.assign(x)
    alone = torch.cat([units.assign(row[None]) for row in x])
    assert whole.equal(alone)
    assert whole.equal(torch.cat([units.assign(part) for part in x.split(37)]))
    assert len(whole.unique()) > 5


def test_chunks_join(monkeypatch: pytest.MonkeyPatch) -> None:
    units = Units(centroids=normal(2, 9, 5), layer="a")
    x = normal(50, 5)
    whole = units.assign(x)
    monkeypatch.setattr("auricle.units.centroids.CHUNK_FRAMES", 7)
    assert units.assign(x).equal(whole)
    assert units.assign(x[:0]).shape == (0, 2)


def test_autocast_does_not_change_units() -> None:
    units, x = Units(centroids=normal(1, 50, 64), layer="a"), normal(200, 64, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert units.assign(x).equal(reference(units.centroids[0], x))


def test_lower_precision_of_products_does_not_change_units() -> None:
    units, x = Units(centroids=normal(1, 50, 64), layer="a"), normal(200, 64, seed=1)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert units.assign(x).equal(reference(units.centroids[0], x))
    finally:
        torch.set_float32_matmul_precision(before)
