"""Analysis of representations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from auricle.info import FrameGeometry, Window
from auricle.plotting import analysis as module
from auricle.plotting.analysis import (
    at_common_times,
    cka_matrix,
    linear_cka,
    order_by_correlation,
    principal_components,
    standardised,
)


@pytest.mark.parametrize("shape", [(200, 12), (12, 200), (30, 30)])
def test_scores_and_shares_are_those_of_an_independent_implementation(
    shape: tuple[int, int],
) -> None:
    from sklearn.decomposition import PCA  # which takes a second, in every worker

    x = np.random.default_rng(0).standard_normal(shape) * np.linspace(3, 1, shape[1])
    x -= x.mean(axis=0)
    reference = PCA(3).fit(x)
    found = principal_components(x, 3)
    scores = reference.transform(x)
    signs = np.sign((scores * found.scores).sum(axis=0))
    np.testing.assert_allclose(found.scores, scores * signs, atol=1e-9)
    np.testing.assert_allclose(found.shares, reference.explained_variance_ratio_)


@pytest.mark.parametrize("shape", [(50, 8), (8, 50)])
def test_the_sign_follows_the_largest_loading(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(1)
    source = generator.standard_normal(shape[0])
    x = 0.01 * generator.standard_normal(shape)
    x[:, 2] += 3 * source
    x[:, 1] -= source
    for sign in (1.0, -1.0):
        signed = sign * (x - x.mean(axis=0))
        scores = principal_components(signed, 1).scores[:, 0]
        assert np.corrcoef(scores, signed[:, 2])[0, 1] > 0.99


def test_what_is_not_there_is_zero() -> None:
    found = principal_components(np.zeros((5, 3)), 2)
    np.testing.assert_array_equal(found.scores, 0)
    assert found.shares == (0, 0)
    single = principal_components(np.array([[1.0], [-1.0]]), 2)
    np.testing.assert_allclose(single.scores, [[1, 0], [-1, 0]])
    assert single.shares == (1, 0)


def test_columns_are_in_standard_deviations_from_their_means() -> None:
    x = np.array([[1, 5], [3, 5], [5, 5]], dtype=np.float32)
    expected = np.sqrt(1.5) * np.array([-1, 0, 1])
    np.testing.assert_allclose(standardised(x)[:, 0], expected)
    np.testing.assert_array_equal(standardised(x)[:, 1], 0)


def test_rounding_is_no_deviation() -> None:
    x = np.full((1000, 1), 0.1)
    x[::2] = np.nextafter(0.1, 1)
    assert x.std(axis=0) > 0
    np.testing.assert_array_equal(standardised(x), 0)


def test_columns_that_move_together_become_neighbours() -> None:
    generator = np.random.default_rng(0)
    sources = generator.standard_normal((500, 3))
    group_of = generator.integers(3, size=30)
    x = sources[:, group_of] + 0.3 * generator.standard_normal((500, 30))
    order = order_by_correlation(standardised(x))
    assert sorted(order) == list(range(30))
    groups = group_of[order]
    assert np.count_nonzero(np.diff(groups)) == 2


def test_constant_columns_come_last() -> None:
    x = np.random.default_rng(1).standard_normal((50, 5))
    x[:, [0, 3]] = 7
    assert set(order_by_correlation(standardised(x))[-2:]) == {0, 3}


def test_a_single_frame_and_nothing_but_constants() -> None:
    assert sorted(order_by_correlation(standardised(np.ones((1, 4))))) == [0, 1, 2, 3]


def noise(num_frames: int, dim: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num_frames, dim))


def test_the_plain_form_is_that_of_the_paper() -> None:
    x, y = noise(40, 7, 0) + 3, noise(40, 5, 1)
    y[:, 0] += x[:, 1]
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    norm = np.linalg.norm
    expected = norm(b.T @ a) ** 2 / (norm(a.T @ a) * norm(b.T @ b))  # section 3, equation of CKA
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-12)


def hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Song et al. 2012, as the mean over all four different frames that equation 3 is."""
    count = len(k)
    total = 0.0
    for i, j, q, r in itertools.permutations(range(count), 4):
        total += k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])
    return total / (count * (count - 1) * (count - 2) * (count - 3))


def test_the_estimate_is_the_mean_over_all_quadruples() -> None:
    x, y = noise(9, 3, 2), noise(9, 4, 3)
    y[:, 0] += 2 * x[:, 0]
    k, m = x @ x.T, y @ y.T
    expected = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    assert linear_cka(x, y, unbiased=True) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("unbiased", [False, True])
def test_rotation_scale_and_offset_change_nothing(unbiased: bool) -> None:
    x, other = noise(60, 8, 4), noise(60, 8, 5)
    rotation, _ = np.linalg.qr(noise(8, 8, 6))
    turned = (100 * x @ rotation + 7).astype(np.float32)
    assert linear_cka(x, turned, unbiased=unbiased) == pytest.approx(1, abs=1e-6)
    both = [linear_cka(one, other, unbiased=unbiased) for one in (x, turned)]
    assert both[0] == pytest.approx(both[1], abs=1e-6)
    assert both[0] < 0.4


def test_few_frames_of_noise_are_not_alike_by_the_estimate() -> None:
    x, y = noise(100, 768, 7), noise(100, 768, 8)
    assert linear_cka(x, y) > 0.8
    assert abs(linear_cka(x, y, unbiased=True)) < 0.05


def test_the_matrix_has_every_pair() -> None:
    layers = [noise(30, 4, 9), noise(30, 6, 10), np.full((30, 2), 0.1)]
    for unbiased in (False, True):
        matrix = cka_matrix(layers, unbiased=unbiased)
        np.testing.assert_allclose(np.diagonal(matrix), [1, 1, 0])
        np.testing.assert_array_equal(matrix[2], 0)
        expected = linear_cka(layers[0], layers[1], unbiased=unbiased)
        assert matrix[0, 1] == matrix[1, 0] == pytest.approx(expected)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="as many frames in both, got 3 and 4"):
        linear_cka(noise(3, 2, 0), noise(4, 2, 0))
    with pytest.raises(ValueError, match="at least 4 frames, got 3"):
        linear_cka(noise(3, 2, 0), noise(3, 2, 0), unbiased=True)


def centres(geometry: FrameGeometry, count: int) -> np.ndarray:
    half = (geometry.window_samples - 1) / 2
    return geometry.start_samples + half + geometry.hop_samples * np.arange(count)


@pytest.mark.parametrize("limit", [1000, 7])
def test_frames_of_different_rates_meet_at_the_nearest_centres(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(module, "MAX_FRAMES", limit)
    fine = FrameGeometry((Window(size=400, stride=160, pad_left=200, pad_right=200),))
    coarse = FrameGeometry((Window(size=400, stride=320),))
    num_samples = 16_000
    layers = []
    for geometry in (fine, coarse):
        count = geometry.num_frames(num_samples)
        layers.append((centres(geometry, count)[:, None], geometry))
    first, second = at_common_times(layers)
    assert len(first) == len(second) <= limit
    assert len(first) > min(limit, 49) // 2
    assert np.abs(first - second).max() <= 80
    assert set(np.diff(second[:, 0])) == {320.0 * -(-49 // limit)}


def test_moments_that_one_layer_does_not_reach_are_left_out() -> None:
    short = FrameGeometry((Window(size=1600, stride=160),))
    full = FrameGeometry((Window(size=160, stride=160),))
    layers = [
        (centres(geometry, geometry.num_frames(4000))[:, None], geometry)
        for geometry in (full, short)
    ]
    first, second = at_common_times(layers)
    assert len(first) == len(second) == short.num_frames(4000)
    assert np.abs(first - second).max() <= 80
