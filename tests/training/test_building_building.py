from __future__ import annotations

import sys
from collections.abc import Callable

import msgspec
import pytest
import torch

from auricle.errors import AudioError, AuricleError, MissingExtraError, RecipeError
from auricle.training.building import (
    Corpus,
    build_accelerator,
    build_objective,
    build_optimizer,
    fitting_corpus,
    learning_rate,
)
from auricle.training.recipe import Recipe, ScheduleOptions


def test_the_objective_is_of_the_recipe(recipe: Recipe) -> None:
    objective = build_objective(recipe)
    assert objective.encoder.config == recipe.encoder
    assert objective.config == recipe.objective


def test_vectors_do_not_decay(recipe: Recipe) -> None:
    objective = build_objective(recipe)
    optimizer = build_optimizer(objective, recipe.optimizer)
    matrices, vectors = optimizer.param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.01, 0.0)
    assert {p.dim() for p in matrices["params"]} == {2}
    assert {p.dim() for p in vectors["params"]} == {1}
    num_parameters = len(list(objective.parameters()))
    assert len(matrices["params"]) + len(vectors["params"]) == num_parameters


def test_crops_too_short_for_the_loss_are_refused(
    corpus: Corpus, edited: Callable[..., Recipe]
) -> None:
    recipe = edited(("crop_seconds = 0.5", "crop_seconds = 0.02"))
    with pytest.raises(RecipeError, match=r"crop_seconds is 0\.02.*apc needs at least"):
        fitting_corpus(corpus, recipe, build_objective(recipe))


def test_utterances_out_of_the_limits_are_left_out(
    corpus: Corpus, edited: Callable[..., Recipe]
) -> None:
    limits = "min_seconds = 0.7\nmax_seconds = 1.3\ncrop_seconds = 0.5"
    recipe = edited(("crop_seconds = 0.5", limits))
    fitting = fitting_corpus(corpus, recipe, build_objective(recipe))
    assert {u.num_samples for u in fitting.utterances} == {14_400, 19_200}
    recipe = edited(("crop_seconds = 0.5", "min_seconds = 9.0"))
    with pytest.raises(AudioError, match="none of the 7 utterances"):
        fitting_corpus(corpus, recipe, build_objective(recipe))


def test_a_gpu_that_is_not_there_is_refused(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AuricleError, match="no CUDA device"):
        build_accelerator(recipe, "cuda")


def test_without_accelerate_the_extra_is_named(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingExtraError, match="run pip install accelerate"):
        build_accelerator(recipe, "cpu")


def test_one_process_trains_in_one_precision(recipe: Recipe) -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        build_accelerator(recipe, "cpu")
        run = msgspec.structs.replace(recipe.run, precision="bf16")
        with pytest.raises(AuricleError, match="another precision than bf16.*start a new process"):
            build_accelerator(msgspec.structs.replace(recipe, run=run), "cpu")
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def rates(options: ScheduleOptions, num_steps: int = 11) -> list[float]:
    return [learning_rate(step, num_steps, 2.0, options) for step in range(num_steps)]


def test_along_a_line() -> None:
    options = ScheduleOptions(kind="linear", warmup_steps=2)
    expected = [2 / 3, 4 / 3, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25, 0.0]
    assert rates(options) == pytest.approx(expected)


def test_along_half_a_cosine_to_a_fraction() -> None:
    values = rates(ScheduleOptions(kind="cosine", final_fraction=0.1))
    assert values[0] == 2.0
    assert values[5] == pytest.approx(2 * 0.55)
    assert values[10] == pytest.approx(0.2)
    assert values == sorted(values, reverse=True)


def test_level() -> None:
    assert rates(ScheduleOptions(kind="constant", warmup_steps=1)) == [1.0, *[2.0] * 10]


def test_past_the_last_step_it_stays() -> None:
    assert learning_rate(50, 11, 2.0, ScheduleOptions(final_fraction=0.5)) == 1.0


def test_a_warmup_that_never_ends() -> None:
    assert rates(ScheduleOptions(warmup_steps=11)) == sorted(
        rates(ScheduleOptions(warmup_steps=11))
    )
