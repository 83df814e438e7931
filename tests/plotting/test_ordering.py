from __future__ import annotations

import numpy as np

from auricle.plotting.ordering import order_by_correlation, standardised


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
