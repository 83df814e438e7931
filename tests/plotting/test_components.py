from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from auricle.plotting.components import principal_components


@pytest.mark.parametrize("shape", [(200, 12), (12, 200), (30, 30)])
def test_scores_and_shares_are_those_of_an_independent_implementation(
    shape: tuple[int, int],
) -> None:
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
