"""Centroids: the nearest one of each frame, and the libraries that move them in steps of k-means.

The nearest are found by one product, the same in any batch.

Scores are x · c - |c|²/2, in float32. Frames whose best scores are closer than rounding may make
them are decided again by distances in float64 that are summed in a fixed order, so that the result
for a frame never depends on the frames beside it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auricle.errors import AuricleError
from auricle.optional import optional

CHUNK_FRAMES = 1024
"""Frames of one product: its scores (2 MB with 500 entries) are looked at while they are cached."""

DECIDED_FRAMES = 256
"""Frames that are decided again at once."""

_ROUNDING = {"highest": 2.0**-24, "high": 2.0**-11, "medium": 2.0**-8}
"""Precision of products as torch names it -> relative rounding of a factor: float32, TF32,
bfloat16."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedStage:
    """Centroids of a stage on a device, prepared for the product.

    Both sides are taken from `origin`, the mean of the centroids: distances stay as they are, and
    the rounding of the product shrinks with the norms.

    Attributes:
        centroids: (V, D).
        origin: (D,).
        transposed: (D, V), from the origin.
        offsets: (V,), -|c|²/2 from the origin.
        max_norm: Largest norm of a centroid from the origin.
    """

    centroids: Tensor
    origin: Tensor
    transposed: Tensor
    offsets: Tensor
    max_norm: float

    @classmethod
    def of(cls, centroids: Tensor) -> PackedStage:
        """Prepare centroids (V, D)."""
        origin = centroids.double().mean(dim=0).float()
        centred = centroids - origin
        squares = centred.double().square().sum(dim=1)
        return cls(
            centroids=centroids,
            origin=origin,
            transposed=centred.T.contiguous(),
            offsets=(-squares / 2).float(),
            max_norm=float(squares.max().sqrt()),
        )

    def nearest(self, x: Tensor) -> Tensor:
        """Index (T,) of the centroid nearest to each frame (T, D), float32."""
        centred = x - self.origin
        scores = torch.addmm(self.offsets, centred, self.transposed)
        best, chosen = scores.max(dim=1)
        if not best.isfinite().all():
            raise AuricleError(
                "frames hold NaN or infinity, which have no units; check the encoder with "
                "`auricle check`, or use precision='float32'"
            )
        least = best - self._doubt(centred.norm(dim=1))
        # The second best alone says where to look closer; counting all is twice the time.
        others = scores.scatter_(1, chosen.unsqueeze(1), -torch.inf)
        doubtful = (others.amax(dim=1) >= least).nonzero()[:, 0]
        for some in chunks(len(doubtful), DECIDED_FRAMES):
            rows = doubtful[some]
            is_near = others[rows] >= least[rows].unsqueeze(1)
            is_near.scatter_(1, chosen[rows].unsqueeze(1), True)
            chosen[rows] = self._decided(x[rows], is_near)
        return chosen

    def _doubt(self, norms: Tensor) -> Tensor:
        """Difference of two scores (T,) that rounding may account for, from frames' norms (T,).

        A sum of D products is off by at most D u |x| |c| (Higham, Accuracy and Stability of
        Numerical Algorithms, 2002, section 3.1); of two scores, and with rounded operands.
        """
        rounding = _ROUNDING[torch.get_float32_matmul_precision()]
        relative = 4 * (self.transposed.shape[0] * 2.0**-24 + 2 * rounding)
        return relative * self.max_norm * (norms + self.max_norm)

    def _decided(self, x: Tensor, is_near: Tensor) -> Tensor:
        """Nearest (T,) of the near centroids (T, V) by distances in float64, lowest of equals."""
        frames, entries = is_near.nonzero(as_tuple=True)
        distances = x.new_full(is_near.shape, torch.inf, dtype=torch.float64)
        for some in chunks(len(frames), CHUNK_FRAMES):
            frame, entry = frames[some], entries[some]
            difference = x[frame].double() - self.centroids[entry].double()
            distances[frame, entry] = row_sums(difference.square())
        is_least = distances == distances.min(dim=1, keepdim=True).values
        entry = torch.arange(is_least.shape[1], device=x.device).expand_as(is_least)
        return entry.masked_fill(~is_least, is_least.shape[1]).min(dim=1).values


def chunks(length: int, size: int) -> Iterator[slice]:
    """Slices of `size` that a length is made of; the last may be shorter."""
    return (slice(start, start + size) for start in range(0, length, size))


def row_sums(x: Tensor) -> Tensor:
    """Sum of each row (N, D), by halves: in one order, whatever N and the device."""
    while x.shape[1] > 1:
        half = x.shape[1] // 2
        folded = x[:, :half] + x[:, half : 2 * half]
        x = torch.cat([folded, x[:, 2 * half :]], dim=1)
    return x[:, 0]


Engine: TypeAlias = Literal["sklearn", "faiss"]


class SklearnSteps:
    """Steps by scikit-learn."""

    @staticmethod
    def check() -> None:
        """Raise MissingExtraError where it is not installed."""
        with optional("sklearn", "fitting units"):
            import sklearn.cluster  # noqa: F401 - asks only if it works

    @staticmethod
    def step(
        points: NDArray[np.float32],
        weights: NDArray[np.float32],
        centroids: NDArray[np.float32],
        seed: int,
    ) -> NDArray[np.float32]:
        """Centroids (V, D), moved to the weighted means of the points nearest to them."""
        with optional("sklearn", "fitting units"):
            from sklearn.cluster import MiniBatchKMeans

        estimator: Any = MiniBatchKMeans(
            len(centroids),
            init=centroids,
            n_init=1,
            batch_size=len(points),
            reassignment_ratio=0.0,
            compute_labels=False,
            random_state=seed,
        )
        estimator.partial_fit(points, sample_weight=weights)
        moved: NDArray[np.float32] = estimator.cluster_centers_
        return moved


class FaissSteps:
    """Steps by faiss, which splits large clusters where others are empty."""

    @staticmethod
    def check() -> None:
        """Raise MissingExtraError where it is not installed."""
        with optional("faiss", "engine='faiss'"):
            import faiss  # noqa: F401 - asks only if it works
        SklearnSteps.check()

    @staticmethod
    def step(
        points: NDArray[np.float32],
        weights: NDArray[np.float32],
        centroids: NDArray[np.float32],
        seed: int,
    ) -> NDArray[np.float32]:
        """As `SklearnSteps.step`."""
        with optional("faiss", "engine='faiss'"):
            import faiss

        kmeans: Any = faiss.Kmeans(
            points.shape[1],
            len(centroids),
            niter=1,
            seed=seed,
            min_points_per_centroid=1,
            max_points_per_centroid=len(points),
        )
        kmeans.train(points, weights=weights, init_centroids=centroids)
        moved: NDArray[np.float32] = kmeans.centroids
        return moved


ENGINES: dict[Engine, type[SklearnSteps] | type[FaissSteps]] = {
    "sklearn": SklearnSteps,
    "faiss": FaissSteps,
}
