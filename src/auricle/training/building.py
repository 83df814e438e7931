"""Parts of a training that its recipe names: its corpus with lengths, objective and optimiser.

Also the schedule of the learning rate, and the accelerator.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from auricle.catalogue.family import find_family
from auricle.checkpoints.checkpoint import build_encoder
from auricle.corpus.listing import list_utterances, refuse_problems
from auricle.corpus.reading import count_samples, decode_utterance
from auricle.corpus.utterance import NO_LABELS, Utterance
from auricle.errors import AudioError, AuricleError, RecipeError
from auricle.info import SAMPLE_RATE
from auricle.objectives.base import Objective
from auricle.optional import optional
from auricle.training.recipe import OptimizerOptions, Recipe, ScheduleOptions

if TYPE_CHECKING:
    from accelerate import Accelerator


logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredUtterance:
    """An utterance with its length.

    Attributes:
        utterance: Where its audio lies.
        key: Its path below the folder or manifest that lists it, with suffix: the same wherever
            that lies. The order of batches and the offsets of crops are drawn by it.
        num_samples: Length at 16 kHz.
    """

    utterance: Utterance
    key: str
    num_samples: int

    def read(self, start: int = 0, num_samples: int | None = None) -> Tensor:
        """Decode samples `start` to `start + num_samples` at 16 kHz, or all.

        Raises:
            AudioError: The audio cannot be decoded.
        """
        if start == 0 and num_samples in (None, self.num_samples):
            return decode_utterance(self.utterance, sample_rate=SAMPLE_RATE)[: self.num_samples]
        count = self.num_samples - start if num_samples is None else num_samples
        return decode_utterance(
            self.utterance,
            sample_rate=SAMPLE_RATE,
            start=start / SAMPLE_RATE,
            seconds=count / SAMPLE_RATE,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """The utterances of a training, in the order they are counted in."""

    utterances: tuple[MeasuredUtterance, ...]

    @property
    def hours(self) -> float:
        """Length of all utterances together."""
        return sum(u.num_samples for u in self.utterances) / SAMPLE_RATE / 3600

    @property
    def digest(self) -> str:
        """SHA-256 of the keys and lengths, which identifies a corpus."""
        lines = (f"{u.key}\t{u.num_samples}\n" for u in self.utterances)
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()

    def within(self, min_samples: int, max_samples: int | None) -> Corpus:
        """The utterances of such lengths; says in the log how many are left out.

        Raises:
            AudioError: None are left.
        """
        kept = tuple(
            u
            for u in self.utterances
            if u.num_samples >= min_samples
            and (max_samples is None or u.num_samples <= max_samples)
        )
        if not kept:
            raise AudioError(
                f"none of the {len(self.utterances)} utterances is long enough to train on and "
                f"within the recipe's limits: expected at least {min_samples} samples"
                + ("" if max_samples is None else f" and at most {max_samples}")
            )
        if num_left_out := len(self.utterances) - len(kept):
            logger.info("%d utterances are left out for their length", num_left_out)
        return Corpus(utterances=kept)


def read_corpus(sources: Sequence[str | Path], *, split: str | None = None) -> Corpus:
    """List the utterances of inputs, and measure them; nothing is decoded.

    Inputs are those of `auricle.extract`: folders, files, patterns, manifests, archives and data
    sets. Where a list has a column `samples`, lengths at 16 kHz, no file of it is opened; else the
    headers are read.

    Args:
        sources: Inputs. Utterances of each are sorted by their keys.
        split: The rows of the lists to take, by their column `split`; needed where a list has
            several splits. Folders and files of audio are taken whole.

    Raises:
        AudioError: An input is missing or holds no audio, a list names files that are not there or
            lacks the split, or a file's header cannot be read.
        MissingExtraError: An input needs a package that is not installed.
    """
    utterances: list[MeasuredUtterance] = []
    for source in sources:
        listing = list_utterances([os.fspath(source)], with_labels=True, is_strict=False)
        refuse_problems(listing)
        found = _of_split(listing.utterances, source, split)
        utterances += sorted(_measured(found, source), key=lambda utterance: utterance.key)
    return Corpus(utterances=tuple(utterances))


def _measured(utterances: Sequence[Utterance], source: str | Path) -> Iterator[MeasuredUtterance]:
    folder = os.path.abspath(source if Path(source).is_dir() else Path(source).parent)  # noqa: PTH100 - keeps links
    for utterance in utterances:
        samples = utterance.labels.get("samples")
        if not _is_whole(utterance) or not samples:
            num_samples = count_samples(utterance, sample_rate=SAMPLE_RATE)
        elif samples.isdecimal():
            num_samples = int(samples)
        else:
            raise AudioError(
                f"{source}: the samples of {utterance.id} must be a count, but are {samples!r}"
            )
        yield MeasuredUtterance(
            # Labels of millions of utterances would go to every worker.
            utterance=dataclasses.replace(utterance, labels=NO_LABELS),
            key=_key(utterance, folder),
            num_samples=num_samples,
        )


def _key(utterance: Utterance, folder: str) -> str:
    """The path of a file from a folder on; of anything else, such as a part of a file, the id."""
    if utterance.container != "file" or utterance.channel is not None or not _is_whole(utterance):
        return utterance.id
    return os.path.relpath(utterance.source, folder).replace(os.sep, "/")


def _is_whole(utterance: Utterance) -> bool:
    return utterance.start == 0 and utterance.seconds is None


def _of_split(
    utterances: Sequence[Utterance], source: str | Path, split: str | None
) -> list[Utterance]:
    """The utterances of a split; all of them where none is asked for, or lists have no columns."""
    if not any(utterance.labels for utterance in utterances):
        return list(utterances)
    labels = (utterance.labels for utterance in utterances)
    splits = sorted({one["split"] for one in labels if "split" in one})
    if split is None and len(splits) > 1:
        raise AudioError(
            f"{source} has the splits {', '.join(splits)}: say by --split (in Python split=) "
            "which to train on, so that none is trained on by mistake"
        )
    if split is not None and split not in splits:
        raise AudioError(
            f"{source} has no split {split!r}, expected one of: {', '.join(splits) or 'none'}"
        )
    return [one for one in utterances if split is None or one.labels.get("split") == split]


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
