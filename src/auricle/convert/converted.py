"""What every converter gives: a family's config and the weights under our names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import Tensor

from auricle.convert.keymap import KeyMap
from auricle.errors import CheckpointError
from auricle.models.base import Config

C = TypeVar("C", bound=Config)


@dataclasses.dataclass(frozen=True)
class Converted:
    """An original checkpoint, read.

    Attributes:
        config: The family's configuration.
        weights: The original keys and weights.
        keymap: How the keys lead to our names.
    """

    config: Config
    weights: Mapping[str, Tensor]
    keymap: KeyMap


def build_config(make: Callable[[], C]) -> C:
    """`make()`; what the config finds wrong becomes a CheckpointError."""
    try:
        return make()
    except ValueError as error:
        raise CheckpointError(f"the checkpoint's configuration does not hold: {error}") from error


def state_dict(section: object, where: str) -> dict[str, Tensor]:
    """The weights of a checkpoint's section, checked to be tensors by name.

    Raises:
        CheckpointError: It is something else.
    """
    if not isinstance(section, Mapping):
        raise CheckpointError(
            f"{where} must be a mapping of weights, but is {type(section).__name__}"
        )
    for key, weight in section.items():
        if not isinstance(key, str) or not isinstance(weight, Tensor):
            raise CheckpointError(
                f"{where} must hold tensors by name, but {key!r} is {type(weight).__name__}"
            )
    return dict(section)
