"""Parts of a fit of units: its options, its state on disk, and the libraries that compute steps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auricle.errors import AuricleError, CheckpointError
from auricle.files.atomic import write_whole
from auricle.files.safetensors import write_safetensors
from auricle.optional import optional
from auricle.units.codebook import Normalization

Engine: TypeAlias = Literal["sklearn", "faiss"]

BATCH_FRAMES = 10_000
"""Frames of a step at least: 200 s of speech at 50 frames a second, of some 15 utterances."""

MIN_STEPS = 100
"""Steps that a stage takes at least, in whole passes, unless passes are given."""

STATE_KEY = "auricle_units_fit"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Options of a fit, all of which decide its result.

    Attributes:
        num_clusters: V.
        num_stages: R, of a residual stack; 1 for plain units.
        passes: Passes over the data in each stage; None for as many as make `MIN_STEPS` steps.
        batch_frames: Frames of a step, at least: batches are of whole utterances.
        sample: Part of the utterances that are used, chosen at random.
        seed: Seed of everything random.
        normalization: Of frames; the statistics of `"standard"` are those of the seeding sample.
        engine: Library that computes the steps.
    """

    num_clusters: int
    num_stages: int = 1
    passes: int | None = None
    batch_frames: int = BATCH_FRAMES
    sample: float = 1.0
    seed: int = 0
    normalization: Normalization = "none"
    engine: Engine = "sklearn"

    def __post_init__(self) -> None:
        counts = ("num_clusters", "num_stages", "batch_frames", "passes")
        for name in counts:
            value = getattr(self, name)
            if not (name == "passes" and value is None) and (type(value) is not int or value < 1):
                raise AuricleError(f"{name} must be a whole number from 1, but is {value!r}")
        if not 0 < self.sample <= 1:
            raise AuricleError(f"sample must be more than 0 and at most 1, but is {self.sample!r}")
        for name, kind in (("normalization", Normalization), ("engine", Engine)):
            if getattr(self, name) not in get_args(kind):
                raise AuricleError(
                    f"{name} must be one of {', '.join(get_args(kind))}, but is "
                    f"{getattr(self, name)!r}"
                )


@dataclasses.dataclass(kw_only=True)
class FitState:
    """All that the rest of a fit follows from.

    Attributes:
        stages: Centroids (V, D) of stages that are done, then of the one that is fitted.
        counts: (V,), float64: frames that each centroid is the mean of.
        recent: (V,), float64: frames since the last reseeding.
        inertia: Mean squared distance of each step, of all stages.
        num_frames: Frames of the first pass.
        stage: Stages that are done.
        num_passes: Passes that are done in the stage.
        num_steps: Steps that are done in the stage.
        position: Utterances of the pass that are done.
    """

    stages: list[Tensor]
    counts: Tensor
    recent: Tensor
    inertia: list[float]
    mean: Tensor | None = None
    scale: Tensor | None = None
    num_frames: int = 0
    stage: int = 0
    num_passes: int = 0
    num_steps: int = 0
    position: int = 0

    NUMBERS: ClassVar = ("num_frames", "stage", "num_passes", "num_steps", "position")

    def save(self, path: Path, key: str) -> None:
        """Write the state of the fit of that key."""
        arrays = {
            "stages": torch.stack(self.stages),
            "counts": self.counts,
            "recent": self.recent,
            "inertia": torch.tensor(self.inertia, dtype=torch.float64),
        }
        for name in ("mean", "scale"):
            if (value := getattr(self, name)) is not None:
                arrays[name] = value
        numbers = {name: getattr(self, name) for name in self.NUMBERS}
        metadata = {STATE_KEY: key, "numbers": json.dumps(numbers)}
        write_whole(path, lambda temporary: write_safetensors(temporary, arrays, metadata))

    @classmethod
    def read(cls, path: Path, key: str) -> FitState:
        """Read a state; raises CheckpointError where it is damaged or that of another fit."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                names = [*file.keys()]
                arrays = {name: file.get_tensor(name).clone() for name in names}
            found = metadata.get(STATE_KEY)
            numbers = json.loads(metadata.get("numbers", "{}"))
            stages, inertia = list(arrays.pop("stages")), arrays.pop("inertia").tolist()
            state = cls(stages=stages, inertia=inertia, **arrays, **numbers)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} is no readable state of a fit ({error}); remove it to begin again"
            ) from error
        if found != key:
            raise CheckpointError(
                f"{path} is the state of a fit of other data, options or weights: repeat those to "
                "go on, choose another file for the units, or remove it to begin again"
            )
        return state


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
