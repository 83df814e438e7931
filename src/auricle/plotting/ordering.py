"""The order in which dimensions are drawn, so that those that move together are neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

POWER_STEPS = 20
"""Power iterations: enough of the first principal component to choose a start by."""


def standardised(x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Each column of (T, D) in standard deviations from its mean; a constant one is 0."""
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    deviation = centred.std(axis=0)
    # A deviation below float32's resolution of the values is rounding: the column is constant.
    varies = deviation > np.abs(x).max(axis=0) * 1e-7
    result: NDArray[np.float64] = np.divide(
        centred, deviation, out=np.zeros_like(centred), where=varies
    )
    return result


def order_by_correlation(x: NDArray[np.float64]) -> list[int]:
    """Indices of the columns of standardised (T, D), each followed by the most correlated one left.

    Starts at one end of the strongest contrast: the column that loads most on the first principal
    component. Constant columns come last.
    """
    num_frames, num_dims = x.shape
    correlation = x.T @ x / max(num_frames, 1)
    component = correlation[:, np.abs(correlation).sum(axis=0).argmax()]
    for _ in range(POWER_STEPS):
        component = correlation @ component
        component /= max(float(np.linalg.norm(component)), np.finfo(np.float64).tiny)
    is_left = np.ones(num_dims, dtype=bool)
    order = [int(component.argmax())]
    is_left[order[0]] = False
    constant = np.diagonal(correlation) == 0
    correlation[:, constant] = -2.0  # below any correlation
    while len(order) < num_dims:
        nearest = int(np.where(is_left, correlation[order[-1]], -np.inf).argmax())
        order.append(nearest)
        is_left[nearest] = False
    return order
