from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from auricle.__main__ import main
from auricle.audio.inputs import sample_paths
from auricle.errors import AuricleError, CheckpointError
from auricle.units import fit as module
from auricle.units.codebook import Units
from auricle.units.fit import fit_frames, state_path
from auricle.units.fit_data import FitOptions, FrameSource
from forks import Forked, run

NUM_MEANS = 8


def blobs() -> list[Tensor]:
    """Frames around eight distant means, in 30 utterances."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(NUM_MEANS, 5, generator=generator) * 20
    choices = torch.randint(NUM_MEANS, (30, 40), generator=generator)
    return list(means[choices] + torch.randn(30, 40, 5, generator=generator))


UTTERANCES = blobs()
FRAMES = torch.cat(UTTERANCES)


def source(utterances: list[Tensor] = UTTERANCES, digest: str = "d") -> FrameSource:
    return FrameSource(
        num_utterances=len(utterances),
        read=lambda index: utterances[index],
        facts={"layer": "a", "data": "blobs"},
        digest=digest,
    )


def options(**changes: Any) -> FitOptions:
    return FitOptions(**{"num_clusters": NUM_MEANS, "batch_frames": 200, "passes": 4, **changes})


def distance(units: Units, x: Tensor = FRAMES) -> float:
    """Mean squared distance of frames to what their units stand for."""
    x = units.normalized(x)
    codes = units.assign(x if units.normalization == "none" else FRAMES).reshape(len(x), -1)
    for stage in range(units.num_stages):
        x = x - units.centroids[stage][codes[:, stage]]
    return x.square().sum(dim=1).mean().item()


def same(one: Units, other: Units) -> bool:
    return one.centroids.equal(other.centroids) and one.facts() == other.facts()


def test_a_fit_finds_the_means() -> None:
    units = fit_frames(source(), options())
    assert distance(units) < 5.5  # five features of variance 1
    assert len(units.inertia) == 4 * 6
    assert units.inertia[-1] < units.inertia[0]
    assert units.inertia[-1] == pytest.approx(distance(units), rel=0.2)
    assert units.num_frames == len(FRAMES)
    assert (units.layer, units.seed, units.data) == ("a", 0, "blobs")


def test_a_step_weighs_centroids_by_their_frames() -> None:
    """With everything in one batch, a centroid is the mean of all frames that ever came to it."""
    one = fit_frames(source(), options(batch_frames=10_000, passes=1))
    codes = one.assign(FRAMES)
    means = torch.stack([FRAMES[codes == unit].mean(dim=0) for unit in range(NUM_MEANS)])
    assert torch.allclose(one.centroids[0], means, atol=1e-3)
    steps = fit_frames(source(), options(passes=1))
    assert torch.allclose(steps.centroids[0], means[steps.assign(means).argsort()], atol=0.5)


def test_the_seed_decides() -> None:
    first, again = (fit_frames(source(), options()) for _ in range(2))
    assert same(first, again)
    assert not first.centroids.equal(fit_frames(source(), options(seed=1)).centroids)
    global_state = torch.random.get_rng_state()
    fit_frames(source(), options())
    assert torch.random.get_rng_state().equal(global_state)


def test_passes_make_enough_steps() -> None:
    assert len(fit_frames(source(), options(passes=None)).inertia) == 102  # six of each pass
    assert len(fit_frames(source(), options(passes=None, batch_frames=1)).inertia) == 120


def test_a_sample_of_utterances_is_used() -> None:
    units = fit_frames(source(), options(sample=0.5))
    assert units.num_frames == len(FRAMES) // 2
    assert units.source == "fitted by sklearn, 15 utterances"


def test_stages_leave_less_and_less() -> None:
    plain, stack = (fit_frames(source(), options(num_stages=n)) for n in (1, 3))
    assert stack.centroids.shape == (3, NUM_MEANS, 5)
    assert stack.centroids[:1].equal(plain.centroids)
    assert distance(stack) < 0.7 * distance(plain)
    parts = [dataclasses.replace(stack, centroids=stack.centroids[:n]) for n in (1, 2, 3)]
    distances = [distance(part) for part in parts]
    assert distances == sorted(distances, reverse=True)


@pytest.mark.parametrize("normalization", ["l2", "standard"])
def test_normalisation_is_kept(normalization: Any) -> None:
    units = fit_frames(source(), options(normalization=normalization))
    assert units.normalization == normalization
    x = units.normalized(FRAMES)
    if normalization == "standard":
        assert torch.allclose(x.std(dim=0), torch.ones(5), atol=0.3)
    else:
        assert torch.allclose(x.norm(dim=1), torch.ones(len(x)))
    nearest = (x[:, None] - units.centroids[0]).norm(dim=2).argmin(dim=1)
    assert (units.assign(FRAMES) == nearest).float().mean() > 0.99
    assert len(nearest.unique()) == NUM_MEANS


def test_empty_clusters_begin_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """First centroids that are all in one place leave most of them without frames."""
    import sklearn.cluster

    def far(x: Any, n: int, random_state: int) -> tuple[Any, None]:
        return x[:1] + 1000.0 * torch.arange(n).numpy()[:, None].astype("float32"), None

    monkeypatch.setattr(sklearn.cluster, "kmeans_plusplus", far)
    units = fit_frames(source(), options(passes=20))
    assert len(units.assign(FRAMES).unique()) == NUM_MEANS
    monkeypatch.setattr(module, "RESEED_STEPS", 10_000)
    without = fit_frames(source(), options(passes=20))
    assert len(without.assign(FRAMES).unique()) < NUM_MEANS
    assert distance(units) < 0.5 * distance(without)


class StopError(Exception):
    pass


@pytest.mark.parametrize("last", [1, 7, 12, 23, 24, 30, 47])
def test_a_stopped_fit_goes_on(last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    chosen = options(num_stages=2, normalization="standard")
    expected = fit_frames(source(), chosen)
    path = tmp_path / "x.fit.safetensors"

    def stop(part: float, num_steps: int, inertia: float) -> None:
        if num_steps == last:
            raise StopError

    with pytest.raises(StopError):
        fit_frames(source(), chosen, path, stop)
    steps: list[int] = []
    units = fit_frames(source(), chosen, path, lambda part, step, inertia: steps.append(step))
    assert same(units, expected)
    assert steps == list(range(last, 49))  # one step is done again: it stopped before the state
    for other in (source(digest="e"), source()):
        changed = chosen if other.digest == "e" else dataclasses.replace(chosen, seed=1)
        with pytest.raises(CheckpointError, match="of other data, options or weights"):
            fit_frames(other, changed, path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match="no readable state"):
        fit_frames(source(), chosen, path)


def test_parts_that_are_done_grow_to_one() -> None:
    for passes in (3, None):
        reports: list[tuple[float, int, float]] = []
        chosen = options(num_stages=2, passes=passes, batch_frames=400)
        fit_frames(source(), chosen, on_step=lambda *report, to=reports: to.append(report))
        parts = [part for part, _, _ in reports]
        assert parts == sorted(parts)
        assert parts[-1] == 1.0
        assert 0 < parts[0] < 0.2


KILLED = """
import sys
from auricle.__main__ import main
from auricle.units import fit
fit.SAVE_SECONDS = 0.0
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_killed_command_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    wavs = [str(path) for path in sample_paths()]
    arguments = ["units", "fit", *wavs, "--model", "tera_mini", "--layer", "2", "--clusters", "9"]
    arguments += ["--residual", "2", "--passes", "3", "--batch-frames", "100", "--device", "cpu"]
    whole, out = tmp_path / "whole.safetensors", tmp_path / "out.safetensors"
    command = ["-c", KILLED, *arguments, "--out", str(out)]
    killed = Forked(command)
    try:
        assert main([*arguments, "--out", str(whole)]) == 0
        end = time.monotonic() + 240
        while not state_path(out).exists() and killed.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        os.killpg(killed.pid, signal.SIGKILL)
        assert killed.wait(60) == -signal.SIGKILL
    finally:
        killed.close()
    assert state_path(out).exists()
    result = run(command)
    assert result.returncode == 0, result.stderr
    assert "squared distance" in result.stdout
    assert out.read_bytes() == whole.read_bytes()
    assert not state_path(out).exists()


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(AuricleError, match="5000 clusters need .* has 1200"):
        fit_frames(source(), options(num_clusters=5000))
    with pytest.raises(AuricleError, match="no frames"):
        fit_frames(dataclasses.replace(source(), read=lambda index: None), options())
