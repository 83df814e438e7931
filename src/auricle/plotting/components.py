"""The principal components of a representation."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Components:
    """Scores (T, num_components) of frames, and the share of the variance that each tells."""

    scores: NDArray[np.float64]
    shares: tuple[float, ...]


def principal_components(x: NDArray[np.floating[Any]], num_components: int) -> Components:
    """The first principal components of (T, D), whose columns have mean 0.

    Where there are fewer, because of few frames or dimensions, the rest is 0. The sign of each is
    that of its largest loading, so that it does not depend on the solver.
    """
    num_frames, num_dims = x.shape
    # The smaller of the two square matrices has all there is to know.
    if num_dims <= num_frames:
        values, vectors = np.linalg.eigh(x.T @ x)
        loadings = vectors[:, ::-1][:, :num_components]
    else:
        values, vectors = np.linalg.eigh(x @ x.T)
        lengths = np.sqrt(np.maximum(values[::-1][:num_components], np.finfo(np.float64).tiny))
        loadings = x.T @ vectors[:, ::-1][:, :num_components] / lengths
    largest = np.take_along_axis(loadings, np.abs(loadings).argmax(axis=0)[None], axis=0)
    loadings = loadings * np.where(largest < 0, -1.0, 1.0)
    values = np.maximum(values[::-1][:num_components], 0.0)
    total = float((x * x).sum())
    missing = num_components - loadings.shape[1]
    scores = np.pad(x @ loadings, ((0, 0), (0, missing)))
    shares = np.pad(values / total if total > 0 else values * 0, (0, missing))
    return Components(scores=scores, shares=tuple(float(share) for share in shares))
