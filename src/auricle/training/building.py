"""Objective, optimiser, learning rate schedule and accelerator of a recipe."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from auricle.catalogue.family import find_family
from auricle.checkpoints.checkpoint import build_encoder
from auricle.errors import AuricleError, RecipeError
from auricle.geometry import SAMPLE_RATE
from auricle.objectives.base import Objective
from auricle.optional import optional
from auricle.training.corpus import Corpus
from auricle.training.recipe import OptimizerOptions, Recipe, ScheduleOptions

if TYPE_CHECKING:
    from accelerate import Accelerator


Device = Literal["auto", "cpu", "cuda"]


def build_objective(recipe: Recipe) -> Objective:
    """Build the encoder of a recipe with the heads and the loss of its family.

    Weights are drawn from torch's global generator.

    Raises:
        RecipeError: The options contradict each other.
    """
    family = find_family(recipe.identity.family)
    try:
        encoder = build_encoder(family, recipe.encoder)
        objective: Objective = family.objective_type()(encoder, recipe.objective)
    except (RuntimeError, ValueError) as error:
        raise RecipeError(
            f"the recipe {recipe.identity.name} does not make a {family.stem} to train: {error}"
        ) from error
    return objective


def fitting_corpus(corpus: Corpus, recipe: Recipe, objective: Objective) -> Corpus:
    """Utterances within the length limits of the recipe and of the loss.

    Raises:
        RecipeError: Crops of the recipe are too short for the loss.
        AudioError: No utterance is left.
    """
    options = recipe.data
    min_samples, crop_seconds = objective.min_samples, options.crop_seconds
    if crop_seconds is not None and round(crop_seconds * SAMPLE_RATE) < min_samples:
        raise RecipeError(
            f"crop_seconds is {crop_seconds:g}, but the loss of {recipe.identity.family} needs at "
            f"least {min_samples / SAMPLE_RATE:g} s"
        )
    max_seconds = options.max_seconds
    return corpus.within(
        max(min_samples, round(options.min_seconds * SAMPLE_RATE)),
        None if max_seconds is None else round(max_seconds * SAMPLE_RATE),
    )


def build_optimizer(objective: nn.Module, options: OptimizerOptions) -> torch.optim.Optimizer:
    """AdamW over all trainable parameters; vectors (biases, norms) have no weight decay."""
    parameters = [p for p in objective.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=options.betas, eps=options.eps)


def build_accelerator(recipe: Recipe, device: Device) -> Accelerator:
    """Accelerator that runs training on devices, processes and machines; `auto` uses GPUs if any.

    Raises:
        MissingExtraError: Accelerate is not installed.
        AuricleError: There is no such device, or this process has trained in another precision.
    """
    with optional("accelerate", "training"):
        from accelerate import Accelerator, DistributedDataParallelKwargs
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise AuricleError("there is no CUDA device here; pass --device cpu, or auto")
    # Parameters may be unused in a step (layer drop, a quantiser whose output is not used).
    distributed = DistributedDataParallelKwargs(find_unused_parameters=True)
    try:
        return Accelerator(
            cpu=device == "cpu" or not has_gpu,
            mixed_precision="bf16" if recipe.run.precision == "bf16" else "no",
            kwargs_handlers=[distributed],
        )
    except ValueError as error:  # accelerate keeps one state per process
        raise AuricleError(
            f"this process has trained on another device or in another precision than "
            f"{recipe.run.precision}, and accelerate keeps to the first one: start a new process "
            f"({error})"
        ) from error


def learning_rate(step: int, num_steps: int, highest: float, options: ScheduleOptions) -> float:
    """Learning rate of the update after `step` updates, out of `num_steps`.

    It increases linearly to `highest`, reached by the first update after the warm-up, and decays to
    `final_fraction` of it, reached by the last update, unless the schedule is constant.
    """
    if step < options.warmup_steps:
        return highest * (step + 1) / (options.warmup_steps + 1)
    if options.kind == "constant":
        return highest
    span = max(num_steps - 1 - options.warmup_steps, 1)
    progress = min((step - options.warmup_steps) / span, 1.0)
    if options.kind == "linear":
        remaining = 1.0 - progress
    else:
        remaining = (1.0 + math.cos(math.pi * progress)) / 2
    return highest * (options.final_fraction + (1.0 - options.final_fraction) * remaining)
