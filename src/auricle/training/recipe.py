"""A recipe: all that decides a pretraining besides the audio, in one TOML file."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from auricle.catalogue.family import FAMILIES, find_family, is_family
from auricle.errors import RecipeError
from auricle.models.definition import Config
from auricle.objectives.base import ObjectiveConfig
from auricle.optional import optional

UNKNOWN_OPTION = re.compile(
    r"Object contains unknown field `(?P<name>[^`]*)`(?: - at `\$(?P<path>(?:\.\w+)*)`)?"
)
"""Message of msgspec for an option that a section lacks."""

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class RecipeSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the sections of a recipe: frozen, keyword-only, validated on construction."""


class Identity(RecipeSection, frozen=True, kw_only=True):
    """Subject of the training (`[recipe]`).

    Attributes:
        name: Name of the result, and of its file.
        family: Stem of the family, as in `auricle list --family`.
        steps: Number of updates.
        seed: Seed of initial weights, order of the data, crops, masks, negatives and dropout.
        training_data: Description of the training data, for the metadata of the result.
        licence: Licence of the result, for its metadata.
        save_as: Dtype of the exported weights; training itself uses float32.
    """

    name: str
    family: str
    steps: int
    seed: int = 0
    training_data: str | None = None
    licence: str | None = None
    save_as: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        if not NAME_PATTERN.fullmatch(self.name):
            raise ValueError(
                f"name must be letters, digits, '_', '-' and '.', but is {self.name!r}"
            )
        if self.steps < 1 or self.seed < 0:
            raise ValueError(
                "steps must be at least 1 and seed at least 0, but they are "
                f"{self.steps} and {self.seed}"
            )


class DataOptions(RecipeSection, frozen=True, kw_only=True):
    """Batching of the audio (`[data]`).

    Attributes:
        batch_seconds: Audio in a batch of one process, padding included.
        crop_seconds: Length of the crops of longer utterances, at offsets that change from epoch to
            epoch; None for no cropping.
        min_seconds: Shorter utterances are skipped.
        max_seconds: Longer utterances are skipped; None for no limit.
        num_buckets: Number of length buckets: more buckets reduce padding, fewer mix lengths more
            freely.
        batches_per_step: Gradient accumulation: batches per update, in each process.
    """

    batch_seconds: float
    crop_seconds: float | None = None
    min_seconds: float = 0.0
    max_seconds: float | None = None
    num_buckets: int = 8
    batches_per_step: int = 1

    def __post_init__(self) -> None:
        lengths = (self.batch_seconds, self.crop_seconds, self.max_seconds)
        if any(length is not None and not length > 0 for length in lengths):
            raise ValueError("batch_seconds, crop_seconds and max_seconds must be above 0")
        if self.min_seconds < 0 or self.num_buckets < 1 or self.batches_per_step < 1:
            raise ValueError(
                "min_seconds must be at least 0, num_buckets and batches_per_step at least 1"
            )
        if self.crop_seconds is not None and self.crop_seconds > self.batch_seconds:
            raise ValueError(
                f"crop_seconds must be at most batch_seconds ({self.batch_seconds:g}), but is "
                f"{self.crop_seconds:g}"
            )


class OptimizerOptions(RecipeSection, frozen=True, kw_only=True):
    """Optimiser (`[optimizer]`).

    Attributes:
        name: AdamW (arXiv:1711.05101); Adam if there is no weight decay.
        learning_rate: Peak learning rate of the schedule.
        betas: Decay rates of the running means of the gradient and of its square.
        eps: Added to the square root of the latter.
        weight_decay: Weight decay; biases, norms and other vectors are exempt.
        max_gradient_norm: Norm to which longer gradients are clipped; None for no clipping.
    """

    learning_rate: float
    name: Literal["adamw"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_gradient_norm: float | None = None

    def __post_init__(self) -> None:
        if not self.learning_rate > 0 or self.weight_decay < 0 or not self.eps > 0:
            raise ValueError("learning_rate and eps must be above 0, weight_decay at least 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be from 0 to below 1, but are {self.betas}")
        if self.max_gradient_norm is not None and not self.max_gradient_norm > 0:
            raise ValueError(f"max_gradient_norm must be above 0, but is {self.max_gradient_norm}")


class ScheduleOptions(RecipeSection, frozen=True, kw_only=True):
    """Learning rate schedule (`[schedule]`).

    Attributes:
        kind: Decay after the warm-up: linear or half a cosine to `final_fraction`, or constant.
        warmup_steps: Updates of linear warm-up from 0.
        final_fraction: Learning rate of the last update as a fraction of the peak.
    """

    kind: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: int = 0
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        if self.warmup_steps < 0 or not 0 <= self.final_fraction <= 1:
            raise ValueError("warmup_steps must be at least 0, final_fraction from 0 to 1")


class RunOptions(RecipeSection, frozen=True, kw_only=True):
    """Precision, checkpoints and logging (`[run]`).

    Attributes:
        precision: Precision of the arithmetic; weights and losses are float32 in either case.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between lines of metrics, each a mean over them.
    """

    precision: Literal["float32", "bf16"] = "float32"
    checkpoint_every: int = 1000
    log_every: int = 20

    def __post_init__(self) -> None:
        if self.checkpoint_every < 1 or self.log_every < 1:
            raise ValueError("checkpoint_every and log_every must be at least 1")


class RecipeFile(RecipeSection, frozen=True, kw_only=True):
    """Contents of a recipe file; the family determines the options of `encoder` and `objective`."""

    recipe: Identity
    data: DataOptions
    optimizer: OptimizerOptions
    encoder: dict[str, Any] = {}
    objective: dict[str, Any] = {}
    schedule: ScheduleOptions = ScheduleOptions()
    run: RunOptions = RunOptions()


class Recipe(RecipeSection, frozen=True, kw_only=True):
    """Parsed recipe: typed sections, and the text that they were read from."""

    identity: Identity
    encoder: Config
    objective: ObjectiveConfig
    data: DataOptions
    optimizer: OptimizerOptions
    schedule: ScheduleOptions
    run: RunOptions
    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of the options that determine the course of training.

        Comments, names, explicit defaults, intervals of saving and logging, and the number of steps
        do not enter.
        """
        parts = {
            "family": self.identity.family,
            "seed": self.identity.seed,
            "encoder": self.encoder,
            "objective": self.objective,
            "data": self.data,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "precision": self.run.precision,
        }
        return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()

    def with_steps(self, steps: int) -> Recipe:
        """Recipe with another number of updates, and its schedule accordingly."""
        identity = msgspec.structs.replace(self.identity, steps=steps)
        return msgspec.structs.replace(self, identity=identity)


def read_recipe(path: Path) -> Recipe:
    """Read and validate a recipe.

    Raises:
        RecipeError: The file is missing or not TOML, or an option is unknown, missing, of the wrong
            type or out of range; the message names the option.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        beside = ", ".join(sorted(file.name for file in path.parent.glob("*.toml")))
        advice = f"{path.parent} has {beside}" if beside else "pass a TOML file"
        raise RecipeError(f"cannot read the recipe {path}: {reason}; {advice}") from error
    try:
        return parse_recipe(text)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error


def parse_recipe(text: str) -> Recipe:
    """Parse a recipe from TOML text; raises RecipeError as `read_recipe` does."""
    try:
        file = msgspec.convert(_parse_toml(text), RecipeFile)
    except msgspec.ValidationError as error:
        raise RecipeError(_described(error, RecipeFile)) from error
    return Recipe(
        identity=file.recipe,
        encoder=_section("encoder", file.encoder, _family_types(file.recipe.family)[0]),
        objective=_section("objective", file.objective, _family_types(file.recipe.family)[1]),
        data=file.data,
        optimizer=file.optimizer,
        schedule=file.schedule,
        run=file.run,
        text=text,
    )


def _parse_toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        with optional("tomli", "reading a recipe on Python 3.10"):
            import tomli as tomllib
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"not TOML: {error}") from error


def _family_types(family: str) -> tuple[type[Config], type[ObjectiveConfig]]:
    if not is_family(family):
        raise RecipeError(
            f"family must be one of {', '.join(FAMILIES)}, or one that a plug-in adds, but is "
            f"{family!r}"
        )
    try:
        objective_type = find_family(family).objective_type()
    except LookupError as error:
        having = ", ".join(stem for stem, one in FAMILIES.items() if one.objective)
        raise RecipeError(
            f"the family {family} has no pretraining objective here; those that have one are "
            f"{having}"
        ) from error
    return find_family(family).config_type(), objective_type.config_type


def _section(name: str, options: dict[str, Any], kind: Any) -> Any:
    try:
        return msgspec.convert(options, kind)
    except msgspec.ValidationError as error:
        raise RecipeError(_described(error, kind, name)) from error


def _described(error: msgspec.ValidationError, kind: Any, section: str = "") -> str:
    """Text of an error in a section of type `kind`; lists the options if one is unknown."""
    found = UNKNOWN_OPTION.fullmatch(str(error))
    inner = [name for name in (found["path"] or "").split(".") if name] if found else []
    options = _options(kind)
    for name in inner:
        options = _options(options.get(name))
    if found is None:
        return f"[{section}]: {error}" if section else str(error)
    table = ".".join([section, *inner] if section else inner)
    expected = f"expected one of {', '.join(options)}" if options else "expected none"
    if not table:
        return f"a recipe has no section [{found['name']}]; {expected}"
    return f"[{table}] has no option {found['name']}; {expected}"


def _options(kind: Any) -> dict[str, Any]:
    """Options of a section, or of one that may be None, by name, with their types."""
    for one in (kind, *get_args(kind)):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            return {field.encode_name: field.type for field in msgspec.structs.fields(one)}
    return {}
