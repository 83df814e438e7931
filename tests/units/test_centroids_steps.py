from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from auricle.errors import AuricleError, MissingExtraError
from auricle.units.centroids import ENGINES
from auricle.units.fit_data import FitOptions


def options(**changes: Any) -> FitOptions:
    return FitOptions(**{"num_clusters": 4, **changes})


def test_wrong_options_are_refused() -> None:
    for changes in (
        {"num_clusters": 0},
        {"num_stages": True},
        {"batch_frames": 1.5},
        {"passes": 0},
        {"sample": 0.0},
        {"sample": 1.5},
        {"normalization": "cmvn"},
        {"engine": "other"},
    ):
        with pytest.raises(AuricleError, match=f"{next(iter(changes))} must be"):
            options(**changes)


def test_a_step_is_the_weighted_mean_of_the_nearest() -> None:
    centroids = np.array([[0.0], [10.0], [99.0]], np.float32)
    points = np.array([[0.0], [10.0], [99.0], [2.0], [1.0], [13.0]], np.float32)
    weights = np.array([1, 0, 5, 1, 1, 1], np.float32)
    moved = ENGINES["sklearn"].step(points, weights, centroids, 0)
    assert moved.tolist() == [[1.0], [13.0], [99.0]]


def test_an_engine_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(MissingExtraError, match="engine='faiss' needs faiss.*faiss-cpu"):
        ENGINES["faiss"].check()


def test_steps_of_faiss_pass_points_weights_and_centroids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stand-in for faiss with the parts of its interface that are used."""

    class Kmeans:
        def __init__(self, dim: int, num_clusters: int, **options: Any) -> None:
            assert (dim, num_clusters, options["niter"], options["seed"]) == (1, 3, 1, 5)

        def train(self, points: Any, weights: Any, init_centroids: Any) -> None:
            assert len(points) == len(weights) == 6
            self.centroids = init_centroids + 1

    module = type(np)("faiss")
    module.__dict__.update(Kmeans=Kmeans, __file__="faiss.py")
    monkeypatch.setitem(__import__("sys").modules, "faiss", module)
    ENGINES["faiss"].check()
    centroids, points = np.zeros((3, 1), np.float32), np.zeros((6, 1), np.float32)
    assert ENGINES["faiss"].step(points, points[:, 0], centroids, 5).tolist() == [[1.0]] * 3
