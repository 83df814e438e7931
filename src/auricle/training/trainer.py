"""Trainer of all families: from a recipe and a corpus to a checkpoint in the native format."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from auricle.errors import RecipeError, TrainingError
from auricle.files.atomic import write_whole
from auricle.info import SAMPLE_RATE
from auricle.objectives.base import Loss, Objective
from auricle.training import checkpoints
from auricle.training.batches import (
    BatchStream,
    DataPosition,
    TrainingBatch,
    draw,
    load_batches,
)
from auricle.training.building import (
    Corpus,
    Device,
    build_accelerator,
    build_objective,
    build_optimizer,
    fitting_corpus,
    learning_rate,
)
from auricle.training.checkpoints import CheckpointFolder, TrainingState, write_result
from auricle.training.monitoring import (
    Monitor,
    StepMeans,
    StopRequests,
    check_curves,
    check_monitoring,
    read_metrics,
    save_curves,
)
from auricle.training.recipe import Recipe
from auricle.training.targets import prepare_units

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

RECIPE_COPY = "recipe.toml"
CURVES_FILE = "curves.png"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings that may differ between the runs of one training.

    Attributes:
        device: `auto` uses a GPU if there is one.
        num_workers: Worker processes that load batches; 0 loads between the steps.
        caches_audio: Whether to decode all audio once and keep it in memory (230 MB per hour).
    """

    device: Device = "auto"
    num_workers: int = 0
    caches_audio: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Result of a run.

    Attributes:
        step: Number of updates done over all runs.
        stopped_by: Number of the signal that ended the run early, 0 for none.
        result: The exported file, None if the training is not complete.
        is_main: Whether this process is the one that reports.
    """

    step: int
    stopped_by: int
    result: Path | None
    is_main: bool


def train(recipe: Recipe, corpus: Corpus, out: Path, settings: RunSettings) -> TrainingResult:
    """Train by a recipe, resuming from the last checkpoint in `out` if there is one.

    Under `torchrun` every process calls it. On the CPU, with equal numbers of threads and
    processes, a training that was killed and resumed gives the same weights, bit for bit, as an
    uninterrupted one. SIGINT and SIGTERM stop it after the current step and a checkpoint.

    Raises:
        MissingExtraError: Accelerate, TensorBoard or matplotlib is not installed.
        RecipeError: `out` holds a training by another recipe or on other audio, or the recipe
            does not fit its encoder.
        TrainingError: The loss or the gradient is not finite, or the checkpoint is damaged.
        AudioError: Audio cannot be decoded, or none is of a length that the recipe accepts.
        OutputError: A file cannot be written.
    """
    check_monitoring()
    check_curves()
    accelerator = build_accelerator(recipe, settings.device)
    torch.manual_seed(recipe.identity.seed)
    objective = build_objective(recipe)
    corpus = fitting_corpus(corpus, recipe, objective)
    trainer = Trainer(recipe, corpus, out, accelerator, objective)
    trainer.resume()
    if accelerator.is_main_process:
        write_whole(out / RECIPE_COPY, lambda path: _write_text(path, recipe.text))
    try:
        with StopRequests() as stop:
            trainer.run(settings, stop)
        result = trainer.finish()
    finally:
        accelerator.end_training()
    return TrainingResult(
        step=trainer.step,
        stopped_by=stop.number,
        result=result,
        is_main=accelerator.is_main_process,
    )


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


class Trainer:
    """State of a training, and its loop."""

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        out: Path,
        accelerator: Accelerator,
        objective: Objective,
    ) -> None:
        self.recipe = recipe
        self.corpus = corpus
        self.out = out
        self.accelerator = accelerator
        self.objective = objective.train()
        optimizer = build_optimizer(objective, recipe.optimizer)
        self.model, self.optimizer = accelerator.prepare(objective, optimizer)
        self.parameters = [p for p in objective.parameters() if p.requires_grad]
        self.checkpoints = CheckpointFolder(out)
        self.step = 0
        self.position = DataPosition()
        self.seconds = 0.0
        self.audio_seconds = 0.0
        # Each process has its own masks and dropout.
        seed = draw(recipe.identity.seed, 0, "process", accelerator.process_index)
        self.generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)

    def resume(self) -> None:
        """Resume from the last checkpoint, if there is one.

        Raises:
            RecipeError: It is of another recipe, other audio or another number of processes.
            TrainingError: It is damaged.
        """
        folder = self.checkpoints.latest()
        if folder is None:
            return
        self._check_same(checkpoints.read_state(folder), folder)
        state = checkpoints.read_training(folder, self.objective, self.optimizer)
        checkpoints.read_random(
            folder / checkpoints.random_file(self.accelerator.process_index),
            self.generator,
            self.accelerator.device,
        )
        self.step = state.step
        self.position = DataPosition(state.epoch, state.batch)
        self.seconds = state.seconds
        self.audio_seconds = state.audio_seconds
        logger.info("going on from %s", folder)

    def _check_same(self, state: TrainingState, folder: Path) -> None:
        num_processes = self.accelerator.num_processes
        differing = []
        if state.recipe != self.recipe.digest:
            differing.append("by another recipe")
        if state.data != self.corpus.digest:
            differing.append("on other audio")
        if state.num_processes != num_processes:
            differing.append(f"in {state.num_processes} process(es), not {num_processes}")
        if differing:
            raise RecipeError(
                f"{folder} is of a training {' and '.join(differing)}; choose another --out, or go "
                "on with what it was begun with"
            )

    def _save(self) -> None:
        """Write a checkpoint: random states by every process, the rest by the main process."""
        accelerator = self.accelerator
        folder = self.checkpoints.temporary(self.step)
        if accelerator.is_main_process:
            self.checkpoints.begin(self.step)
        accelerator.wait_for_everyone()
        checkpoints.write_random(
            folder / checkpoints.random_file(accelerator.process_index),
            self.generator,
            accelerator.device,
        )
        if accelerator.is_main_process:
            state = TrainingState(
                step=self.step,
                epoch=self.position.epoch,
                batch=self.position.batch,
                seconds=self.seconds,
                audio_seconds=self.audio_seconds,
                num_processes=accelerator.num_processes,
                recipe=self.recipe.digest,
                data=self.corpus.digest,
            )
            checkpoints.write_training(folder, self.objective, self.optimizer, state)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            self.checkpoints.commit(self.step)

    def finish(self) -> Path | None:
        """Draw the curves; export the encoder and return its path if all steps are done."""
        identity = self.recipe.identity
        path = self.out / f"{identity.name}.safetensors"
        is_complete = self.step >= identity.steps
        if self.accelerator.is_main_process:
            if lines := read_metrics(self.out):
                save_curves(identity.name, lines, self.out / CURVES_FILE)
            if is_complete:
                write_result(path, self.objective.encoder, self.recipe, self.corpus, self.step)
        self.accelerator.wait_for_everyone()
        return path if is_complete else None

    def run(self, settings: RunSettings, stop: StopRequests) -> None:
        """Train to the last step of the recipe, or to the end of the step in which a signal comes.

        Raises:
            TrainingError: The loss or the gradient is not finite.
        """
        num_steps, options = self.recipe.identity.steps, self.recipe.run
        if self.step >= num_steps:
            return
        batches = self._open_data(settings)
        means = StepMeans()
        with contextlib.ExitStack() as stack:
            monitor = None
            if self.accelerator.is_main_process:
                monitor = Monitor(self.out, first_step=self.step, num_steps=num_steps)
                stack.enter_context(monitor)
            is_last = False
            while not is_last:
                begun = time.monotonic()
                self._update(batches, means, stop)
                self.seconds += time.monotonic() - begun
                is_last = stop.number > 0 or self.step == num_steps
                if monitor is not None:
                    monitor.stepped()
                if is_last or self.step % options.log_every == 0:
                    self._record(monitor, means)
                if is_last or self.step % options.checkpoint_every == 0:
                    self._save()

    def _open_data(self, settings: RunSettings) -> Iterator[TrainingBatch]:
        """Batches from the current position in the data."""
        decoded = None
        if settings.caches_audio:
            decoded = [utterance.read() for utterance in self.corpus.utterances]
        units = None
        if targets := self.recipe.objective.unit_targets:
            frames = self.objective.encoder.layer_infos[-1].geometry
            units = prepare_units(targets, self.corpus, self.out, frames, self.accelerator)
        stream = BatchStream(
            corpus=self.corpus,
            options=self.recipe.data,
            seed=self.recipe.identity.seed,
            start=self.position,
            rank=self.accelerator.process_index,
            num_processes=self.accelerator.num_processes,
        )
        return load_batches(
            stream,
            num_workers=settings.num_workers,
            decoded=decoded,
            pin_memory=self.accelerator.device.type == "cuda",
            units=units,
        )

    def _record(self, monitor: Monitor | None, means: StepMeans) -> None:
        metrics = means.take()
        if monitor is not None:
            totals = {
                "epoch": float(self.position.epoch),
                "seconds": round(self.seconds, 1),
                "audio_hours": self.audio_seconds / 3600,
            }
            monitor.record(self.step, metrics | totals)

    def _update(
        self, batches: Iterator[TrainingBatch], means: StepMeans, stop: StopRequests
    ) -> None:
        """Take one optimiser step; afterwards all processes agree on requests to stop."""
        rate = learning_rate(
            self.step,
            self.recipe.identity.steps,
            self.recipe.optimizer.learning_rate,
            self.recipe.schedule,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        value, num_samples = self._accumulate(batches, means)
        longest = self.recipe.optimizer.max_gradient_norm
        norm = self.accelerator.clip_grad_norm_(
            self.parameters, math.inf if longest is None else longest
        )
        own = [float(value), float(norm), float(stop.number), float(num_samples)]
        facts = torch.tensor([own], dtype=torch.float64, device=self.accelerator.device)
        values, norms, stops, counts = self.accelerator.gather(facts).unbind(1)
        loss, gradient_norm = float(values.mean()), float(norms.max())
        self._check_finite(loss, gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        stop.number = int(stops.max())
        audio_seconds = float(counts.sum()) / SAMPLE_RATE
        self.audio_seconds += audio_seconds
        step = {"loss": loss, "gradient_norm": gradient_norm, "learning_rate": rate}
        means.add_step(step, audio_seconds)

    def _accumulate(
        self, batches: Iterator[TrainingBatch], means: StepMeans
    ) -> tuple[torch.Tensor, int]:
        """Accumulate the gradients of a step; return its mean loss and its number of samples."""
        device = self.accelerator.device
        num_batches = self.recipe.data.batches_per_step
        value = torch.zeros((), device=device)
        num_samples = 0
        for index in range(num_batches):
            batch = next(batches)
            # Gradients are all-reduced once per step.
            is_last = index + 1 == num_batches
            quiet = contextlib.nullcontext() if is_last else self.accelerator.no_sync(self.model)
            predicted = {}
            if batch.targets is not None:
                predicted["targets"] = batch.targets.to(device, non_blocking=True)
            with quiet:
                loss: Loss = self.model(
                    batch.waveforms.to(device, non_blocking=True),
                    batch.num_samples,
                    step=self.step,
                    generator=self.generator,
                    **predicted,
                )
                self.accelerator.backward(loss.value / num_batches)
            value += loss.value.detach() / num_batches
            num_samples += sum(batch.num_samples)
            means.add_parts(loss.metrics)
            self.position = batch.following
        return value, num_samples

    def _check_finite(self, loss: float, gradient_norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(gradient_norm):
            return
        last = self.checkpoints.latest()
        raise TrainingError(
            f"step {self.step + 1} of {self.recipe.identity.name} has the loss {loss} and the "
            f"gradient norm {gradient_norm}, which training cannot go on with; the last good "
            f"checkpoint is {last or 'none'}: lower learning_rate or max_gradient_norm, or set "
            'precision = "float32"'
        )
