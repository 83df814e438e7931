"""State dicts in checkpoints, whatever trainers wrap around them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from auricle.checkpoints.pickle.values import InertRecord
from auricle.errors import CheckpointError

MAX_SECTION_DEPTH = 2
"""Mappings around a state dict: `{"state": {"model": {}}}`. An optimiser's moments lie deeper."""


EXTRA_STATE = "_extra_state"
"""Key that `Module.get_extra_state` adds to a state dict, with any value at all."""


def weights_in(content: object) -> dict[str, Tensor]:
    """The weights in a checkpoint or a section of one, by name, whatever trainers wrap around them.

    A state dict may be the section itself or stand in it up to two mappings deep (`state_dict`,
    `model`, `module`, ...), beside training state, which is left out. Names are those in the state
    dict; where there are several, each has the path of its own before it. Empty where there is no
    state dict.
    """
    found = _state_dicts(content, "", MAX_SECTION_DEPTH)
    if len(found) == 1:
        return next(iter(found.values()))
    return {path + key: weight for path, part in found.items() for key, weight in part.items()}


def state_dict(content: object, where: str) -> dict[str, Tensor]:
    """`weights_in(content)`, where there must be some unless the section is empty.

    Raises:
        CheckpointError: It holds something else.
    """
    weights = weights_in(content)
    if weights:
        return weights
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{where} must be a mapping of weights, but is {kind_of(content)}")
    for key, weight in content.items():
        if not isinstance(key, str) or not isinstance(weight, Tensor):
            raise CheckpointError(
                f"{where} must hold tensors by name, but {key!r} is {kind_of(weight)}; save a "
                "state dict of tensors alone"
            )
    return {}


def in_float32(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose floating-point numbers of 16 bits are widened to 32."""
    return {
        key: weight.float() if weight.is_floating_point() and weight.itemsize < 4 else weight
        for key, weight in weights.items()
    }


def kind_of(value: object) -> str:
    """The type that a value of a checkpoint had before it was read, for messages."""
    if isinstance(value, InertRecord):
        return value.type_name
    return "Tensor" if isinstance(value, Tensor) else type(value).__name__


def _state_dicts(content: object, path: str, depth: int) -> dict[str, dict[str, Tensor]]:
    """State dicts in nested mappings, by the dotted path that leads to each."""
    if not isinstance(content, Mapping):
        return {}
    own: dict[str, Tensor] = {}
    nested: dict[str, dict[str, Tensor]] = {}
    has_others = False
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Tensor):
            own[key] = value
        elif not isinstance(key, str) or key.rpartition(".")[2] != EXTRA_STATE:
            has_others = True
            if depth:
                nested |= _state_dicts(value, f"{path}{key}.", depth - 1)
    if nested:  # counters and random states beside sections of weights are training state
        own = {key: weight for key, weight in own.items() if _is_weight(key, weight)}
    elif has_others:
        return {}
    return {path: own, **nested} if own else nested


def _is_weight(key: str, value: Tensor) -> bool:
    return "." in key or (value.is_floating_point() and value.ndim > 0)
