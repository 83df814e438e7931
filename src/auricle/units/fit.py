"""Fitting of units: mini-batch k-means over more frames than fit in memory, which resumes.

A step is a function of the centroids, their counts and a batch of frames: the library that computes
it (scikit-learn or faiss) is given the centroids as points that weigh as much as all frames that
they were the mean of (Sculley, "Web-scale k-means clustering", 2010, algorithm 1). Batches follow
from the seed, so that a fit that was killed ends with the bytes of one that was not.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auricle.errors import AuricleError
from auricle.info import FinalNorm
from auricle.models.base import Encoder
from auricle.optional import optional
from auricle.store.reader import Store
from auricle.units.centroids import ENGINES, Engine, PackedStage
from auricle.units.codebook import Normalization, Units
from auricle.units.fit_data import (
    BATCH_FRAMES,
    MIN_STEPS,
    FitOptions,
    FitState,
    FrameSource,
    frame_source,
)

OnStep: TypeAlias = Callable[[float, int, float], object]
"""Called with the part of the fit that is done, from 0 to 1 and by estimate, the steps that are
done, and the mean squared distance of the last."""


def _ignore(part: float, num_steps: int, inertia: float) -> None:
    """Report nothing."""


SEEDING_FRAMES = 20
"""Frames per cluster in the sample that k-means++ chooses the first centroids from."""

RESEED_STEPS = 10
"""Steps after which a cluster that has got no frame in them begins again at a frame."""

SAVE_SECONDS = 30.0
"""Time after which the state of a fit is written again."""

MIN_SCALE = 1e-6
"""Smallest scale of a feature, for those that are constant."""


def fit_units(
    inputs: str | Path | Sequence[str | Path] | Store,
    out: str | Path | None = None,
    *,
    model: str | Path | Encoder | None = None,
    layer: int | str,
    num_clusters: int,
    num_stages: int = 1,
    passes: int | None = None,
    batch_frames: int = BATCH_FRAMES,
    sample: float = 1.0,
    seed: int = 0,
    normalization: Normalization = "none",
    final_norm: FinalNorm = "keep",
    engine: Engine = "sklearn",
    checkpoint: str | None = None,
    device: str = "auto",
    on_step: OnStep = _ignore,
) -> Units:
    """Fit units on a layer of an encoder by mini-batch k-means.

    The same data, options and seed give the same units. With `out` the state is kept beside it, and
    a fit that was killed goes on where it was.

    Args:
        inputs: As in `auricle.extract`; or a store of frames, or its path. Frames of audio beyond
            2 GiB are encoded again in each pass: extract them to a store for several.
        out: A `.safetensors` file to write; None to write none.
        model: As `auricle.load` takes it, or an encoder; None for that of a store.
        layer: Index or name of the layer, or a tap such as `"layer_9.pre_residual"`.
        num_clusters: V, units of a stage.
        num_stages: R, stages of a residual stack: each is fitted on what those before leave.
        passes: Passes over the data; None for as many as make 100 steps, and one at least.
        batch_frames: Frames of a step, at least.
        sample: Part of the utterances to fit on, from 0 to 1.
        seed: Seed of first centroids, order and sample.
        normalization: `"none"`, `"l2"` or `"standard"`.
        final_norm: As in a call of the encoder.
        engine: `"sklearn"` or `"faiss"`.
        checkpoint: As `auricle.load` takes it.
        device: As `auricle.load` takes it.
        on_step: Called after each step.

    Raises:
        AudioError: Inputs cannot be read, or hold nothing usable.
        LayerError: There is no such layer.
        AuricleError: Options are wrong, frames are fewer than clusters, or the state beside `out`
            is of another fit.
        MissingExtraError: The library of the engine is not installed.
    """
    options = FitOptions(
        num_clusters=num_clusters,
        num_stages=num_stages,
        passes=passes,
        batch_frames=batch_frames,
        sample=sample,
        seed=seed,
        normalization=normalization,
        engine=engine,
    )
    path = None if out is None else Path(out)
    if path is not None and path.suffix != ".safetensors":
        raise AuricleError(f"units are saved to a name in .safetensors, but out is {path}")
    ENGINES[engine].check()
    source = frame_source(
        inputs,
        model=model,
        layer=layer,
        checkpoint=checkpoint,
        final_norm=final_norm,
        device=device,
    )
    units = fit_frames(source, options, None if path is None else state_path(path), on_step)
    if path is not None:
        units.save(path)
        state_path(path).unlink(missing_ok=True)
    return units


def state_path(out: Path) -> Path:
    """File that the state of a fit is kept in until units are written to `out`."""
    return out.with_name(f"{out.stem}.fit.safetensors")


def fit_frames(
    source: FrameSource,
    options: FitOptions,
    path: Path | None = None,
    on_step: OnStep = _ignore,
) -> Units:
    """Fit units on frames; `path` is that of the state. Errors are those of `fit_units`."""
    fit = _Fit(source.cached(), options, path, on_step)
    while fit.state.stage < options.num_stages:
        fit.run_stage()
    state = fit.state
    return Units(
        **source.facts,
        centroids=torch.stack(state.stages),
        normalization=options.normalization,
        mean=state.mean,
        scale=state.scale,
        seed=options.seed,
        num_frames=state.num_frames,
        inertia=tuple(state.inertia),
        version=import_module("auricle").__version__,
        source=f"fitted by {options.engine}, {fit.num_chosen} utterances",
    )


class _Fit:
    """One fit: batches, steps, and its state on disk."""

    def __init__(
        self, source: FrameSource, options: FitOptions, path: Path | None, on_step: OnStep
    ) -> None:
        self.source, self.options, self.path, self.on_step = source, options, path, on_step
        self.num_chosen = max(1, math.ceil(source.num_utterances * options.sample))
        everything = self._order(source.num_utterances, "sample")
        self.chosen = sorted(everything[: self.num_chosen])
        self.key = hashlib.sha256(f"{source.digest} {options}".encode()).hexdigest()
        self.saved = time.monotonic()
        if path is not None and path.exists():
            self.state = FitState.read(path, self.key)
        else:
            self.state = self._first_state()
            self._save()

    def run_stage(self) -> None:
        """Fit the stage that is next."""
        state, options = self.state, self.options
        while not self._is_stage_done():
            order = self._order(self.num_chosen, "pass", state.stage, state.num_passes)
            for x, position in self._batches(order, state.position):
                if state.stage == state.num_passes == 0:
                    state.num_frames += len(x)
                self._step(self._residual(x))
                state.position = position
                state.num_steps += 1
                self.on_step(self._part_done(), len(state.inertia), state.inertia[-1])
                if time.monotonic() - self.saved >= SAVE_SECONDS:
                    self._save()
            state.position = 0
            state.num_passes += 1
        state.stage += 1
        state.num_passes = state.num_steps = 0
        if state.stage < options.num_stages:
            self._begin_stage(self._residual(self._seeding_frames()))
        self._save()

    def _is_stage_done(self) -> bool:
        state, passes = self.state, self.options.passes
        if passes is not None:
            return state.num_passes >= passes
        return state.num_passes > 0 and state.num_steps >= MIN_STEPS

    def _part_done(self) -> float:
        """Part of the fit that is done, from 0 to 1, if passes go on as they did."""
        state, passes = self.state, self.options.passes
        done = state.num_passes + state.position / self.num_chosen
        if passes is None:
            passes = max(1, math.ceil(MIN_STEPS * done / state.num_steps))
        return (state.stage + min(1.0, done / passes)) / self.options.num_stages

    def _first_state(self) -> FitState:
        x = self._seeding_frames(is_normalized=False)
        state = self.state = FitState(
            stages=[], counts=torch.empty(0), recent=torch.empty(0), inertia=[]
        )
        if self.options.normalization == "standard":
            state.mean = x.double().mean(dim=0).float()
            state.scale = x.double().std(dim=0, correction=0).clamp_min(MIN_SCALE).float()
        self._begin_stage(self._normalized(x))
        return state

    def _begin_stage(self, x: Tensor) -> None:
        """Choose the first centroids of a stage from a sample of frames (N, D), by k-means++."""
        with optional("sklearn", "k-means++"):
            from sklearn.cluster import kmeans_plusplus

        num_clusters = self.options.num_clusters
        if len(x) < num_clusters:
            raise AuricleError(
                f"{num_clusters} clusters need as many frames at least, but the data has {len(x)}; "
                "fit fewer clusters, or on more data"
            )
        seed = self._seed("k-means++", self.state.stage) % 2**32
        centroids: NDArray[np.float32]
        centroids, _ = kmeans_plusplus(x.numpy(), num_clusters, random_state=seed)
        self.state.stages.append(torch.from_numpy(np.array(centroids, np.float32)))
        self.state.counts = torch.zeros(num_clusters, dtype=torch.float64)
        self.state.recent = torch.zeros(num_clusters, dtype=torch.float64)

    def _seeding_frames(self, *, is_normalized: bool = True) -> Tensor:
        """Frames (N, D) of utterances in random order, enough to choose centroids from."""
        wanted = max(self.options.batch_frames, SEEDING_FRAMES * self.options.num_clusters)
        order = self._order(self.num_chosen, "seeding")
        for x, _ in self._batches(order, 0, wanted, is_normalized=is_normalized):
            return x
        raise AuricleError("the data has no frames: each utterance was left out")

    def _batches(
        self,
        order: Sequence[int],
        position: int,
        num_frames: int | None = None,
        *,
        is_normalized: bool = True,
    ) -> Iterator[tuple[Tensor, int]]:
        """Yield frames (N, D) of whole utterances from a position on, and the next position."""
        parts: list[Tensor] = []
        wanted = num_frames or self.options.batch_frames
        for place in range(position, len(order)):
            x = self.source.read(self.chosen[order[place]])
            parts += [] if x is None else [x]
            if sum(map(len, parts)) >= wanted or (place + 1 == len(order) and parts):
                x = torch.cat(parts)
                parts = []
                yield (self._normalized(x) if is_normalized else x), place + 1

    def _normalized(self, x: Tensor) -> Tensor:
        """Frames as the units will see them."""
        probe = Units(
            centroids=torch.zeros(1, 1, x.shape[1]),
            layer="",
            normalization=self.options.normalization,
            mean=self.state.mean,
            scale=self.state.scale,
        )
        return probe.normalized(x)

    def _residual(self, x: Tensor) -> Tensor:
        """The part of frames (N, D) that the stages which are done leave."""
        for centroids in self.state.stages[: self.state.stage]:
            x = x - centroids[PackedStage.of(centroids).nearest(x)]
        return x

    def _step(self, x: Tensor) -> None:
        """Move centroids by a batch (N, D)."""
        state = self.state
        centroids = state.stages[state.stage]
        codes = PackedStage.of(centroids).nearest(x)
        squares = (x.double() - centroids[codes].double()).square().sum(dim=1)
        state.inertia.append(float(squares.mean()))
        found = torch.bincount(codes, minlength=len(centroids)).double()
        points = torch.cat([centroids, x]).numpy()
        weights = torch.cat([state.counts, torch.ones(len(x), dtype=torch.float64)]).float().numpy()
        engine = ENGINES[self.options.engine]
        seed = self._seed("step", state.stage, state.num_passes, state.position) % 2**31
        moved = engine.step(points, weights, centroids.numpy(), seed)
        state.stages[state.stage] = torch.from_numpy(np.array(moved, np.float32))
        state.counts = state.counts + found
        state.recent = state.recent + found
        if (state.num_steps + 1) % RESEED_STEPS == 0:
            self._reseed(x, squares)

    def _reseed(self, x: Tensor, squares: Tensor) -> None:
        """Let clusters that have got no frame of late begin again at frames that are far off."""
        state = self.state
        empty = (state.recent == 0).nonzero()[:, 0]
        state.recent = torch.zeros_like(state.recent)
        far = int((squares > 0).sum())
        empty = empty[: min(far, len(empty))]
        if not len(empty):
            return
        generator = self._generator("reseed", state.stage, state.num_passes, state.position)
        # The smallest of Exp(1) / weight: a draw by weight, without replacement.
        exponential = torch.empty(len(x), dtype=torch.float64).exponential_(generator=generator)
        rows = (exponential / squares).topk(len(empty), largest=False).indices
        state.stages[state.stage][empty] = x[rows]
        state.counts[empty] = 1.0

    def _order(self, length: int, *words: object) -> list[int]:
        order: list[int] = torch.randperm(length, generator=self._generator(*words)).tolist()
        return order

    def _generator(self, *words: object) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed(*words))

    def _seed(self, *words: object) -> int:
        """A seed of 63 bits for one use of randomness."""
        text = repr((self.options.seed, *words)).encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1

    def _save(self) -> None:
        self.saved = time.monotonic()
        if self.path is not None:
            self.state.save(self.path, self.key)
