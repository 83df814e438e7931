"""State dicts in checkpoints, whatever trainers wrap around them, and adapters among their weights.

Adapters of peft and of MMS are refused; their files and keys identify them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
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


ADAPTER_CONFIG_FILE = "adapter_config.json"
"""File that `PeftModel.save_pretrained` writes beside the adapter's weights."""

ADAPTER_REASON = (
    "adapters after or inside the encoder change its numbers and are not implemented; pass "
    "without_adapters=True (auricle convert --without-adapters) to have the encoder without them"
)
INSIDE_LAYERS = "adapter_layer"
"""Part of the keys of adapters inside the layers (MMS)."""

ADAPTER_KEYS = (f"encoder.layers.{{i}}.{INSIDE_LAYERS}.{{rest}}", "adapter.{rest}")
"""Patterns of the weights of adapters: inside the layers (MMS), after the last one."""

FAIRSEQ_ADAPTERS = "trf_adp"
"""Type of fairseq's layers with adapters."""

WITHOUT_ADAPTERS = "without_adapters"
"""Key of a payload to be read without its adapters."""


_ADAPTER_FILE = re.compile(r"adapter_model\.(?:safetensors|bin)|adapter_model\S*\.index\.json")


_LANGUAGE_ADAPTER_FILE = re.compile(r"adapter\.[\w-]+\.(?:safetensors|bin)")
"""Attention adapters and output layer of one language, as MMS has them."""


_ADAPTER_PART = re.compile(
    r"(?:lora|ia3|hada|lokr|oft|boft|vera|vblora|hra|fourierft|bone|road|randlora|shira|c3a|trainable"
    r"_tokens|prompt)_\w+|base_layer|modules_to_save|original_module"
)
"""Parts of keys that methods of peft add."""


_MAX_CONFIG_BYTES = 1 << 20


def is_adapter_file(path: Path) -> bool:
    """Return whether a file has the name of an adapter's weights."""
    return bool(_ADAPTER_FILE.fullmatch(path.name) or _LANGUAGE_ADAPTER_FILE.fullmatch(path.name))


def is_adapter_key(key: str) -> bool:
    """Return whether a method of peft added a weight, or moved it."""
    return any(_ADAPTER_PART.fullmatch(part) for part in key.split("."))


def refuse_adapter_files(path: Path, *, has_base: bool, without_adapters: bool = False) -> None:
    """Refuse an adapter, and the folder of a model that has one.

    Args:
        path: What is to be loaded, a file or a folder.
        has_base: Whether it is, or holds, the weights of a model of transformers, to which an
            adapter in the folder would be applied.
        without_adapters: Whether the model is wanted without it.

    Raises:
        CheckpointError: It is an adapter, or has one; the message says how to merge it.
    """
    if path.is_file() and _LANGUAGE_ADAPTER_FILE.fullmatch(path.name):
        raise CheckpointError(
            f"{path} is the adapter of one language, as MMS has them, and holds no encoder. "
            "Adapters inside the layers are not implemented: load the model, or the folder that "
            "the adapter is in, and pass without_adapters=True to have the encoder without them"
        )
    if path.is_file() and (path.name == ADAPTER_CONFIG_FILE or is_adapter_file(path)):
        raise _adapter_alone(path)
    folder = path if path.is_dir() else path.parent
    names = _adapter_names(folder) if path.is_dir() or has_base else []
    if names and not has_base:
        raise _adapter_alone(path)
    if names and not without_adapters:
        kind = _kind(_adapter_config(folder))
        raise CheckpointError(
            f"{folder} has an adapter ({kind}: {', '.join(names)}) beside the weights, which "
            "transformers applies to them; without it the numbers would be those of another model. "
            f"{_advice(str(folder), str(folder))}; or pass without_adapters=True to have the model "
            "without it"
        )


def refuse_adapter_keys(path: Path, keys: Iterable[str]) -> None:
    """Raise CheckpointError where some of the keys that change an encoder are an adapter's."""
    keys = list(keys)
    inside = [key for key in keys if INSIDE_LAYERS in key.split(".")]
    if inside:
        raise CheckpointError(
            f"{path} has adapters inside the layers ({inside[0]} and {len(inside) - 1} more keys): "
            f"{ADAPTER_REASON}"
        )
    found = [key for key in keys if is_adapter_key(key)]
    if found:
        raise CheckpointError(
            f"{path} holds an adapter of peft that is not merged ({found[0]} and {len(found) - 1} "
            "more keys); merge it before saving, model = model.merge_and_unload(), or after, where "
            f"it was saved by itself. {_advice('BASE', 'ADAPTER')}"
        )


def refuse_adapter_alone(path: Path, keys: Collection[str]) -> None:
    """Raise CheckpointError where the weights of a file are an adapter's, whatever it is called."""
    # Beside its own weights an adapter may keep biases and heads that were trained with it.
    if keys and 2 * sum(map(is_adapter_key, keys)) >= len(keys):
        raise _adapter_alone(path)


def _adapter_alone(path: Path) -> CheckpointError:
    folder = path if path.is_dir() else path.parent
    config = _adapter_config(folder)
    base = config.get("base_model_name_or_path")
    said = (
        f"its base model is {base}, says {ADAPTER_CONFIG_FILE}"
        if base
        else "nothing says which its base model is"
    )
    return CheckpointError(
        f"{path} is an adapter ({_kind(config)}) and holds no encoder; {said}. "
        f"{_advice(str(base) if base else 'BASE', str(folder))}"
    )


def _kind(config: dict[str, Any]) -> str:
    return str(config.get("peft_type") or "of peft")


def _advice(base: str, adapter: str) -> str:
    return (
        "Merge it first, with the class of transformers that it was trained with (AutoModel, "
        "AutoModelForCTC, ...): "
        f'model = PeftModel.from_pretrained(AutoModel.from_pretrained("{base}"), "{adapter}"); '
        'model.merge_and_unload().save_pretrained("merged"). Then load merged, with '
        "preprocessor_config.json of the base model copied into it"
    )


def _adapter_names(folder: Path) -> list[str]:
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return []
    return [
        path.name
        for path in paths
        if path.name == ADAPTER_CONFIG_FILE or _ADAPTER_FILE.fullmatch(path.name)
    ]


def _adapter_config(folder: Path) -> dict[str, Any]:
    """The configuration of an adapter; empty where it cannot be read."""
    try:
        with (folder / ADAPTER_CONFIG_FILE).open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_CONFIG_BYTES), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, RecursionError):
        return {}
