"""Format `huggingface`: a folder with a configuration, a preprocessor's and the weights.

An adapter of peft (LoRA, DoRA, IA3, prompts, ...) changes what the weights compute that it was
trained on. Adapters are found in any place and refused, not applied: `merge_and_unload` of peft
does that, for every kind and option of theirs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from auricle.catalogue.family import FAMILIES
from auricle.checkpoints.keymap import has_part, state_dict, weights_in
from auricle.checkpoints.options import Options
from auricle.checkpoints.pickle.unpickle import read_legacy_checkpoint
from auricle.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

SPEC = "huggingface"
"""Name of the format in the families' data files."""

CONFIG = "huggingface_config"
PREPROCESSOR = "huggingface_preprocessor"
WEIGHTS = "huggingface_weights"
"""Sections of the payload: the parsed JSON files and the weights by name."""

CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""In order of preference; each may be cut into shards that an index lists."""

INDEX_SUFFIX = ".index.json"

OWN_PARTS = (("conv_layers", "0", "conv"), ("feature_projection", "projection"))
"""Parts of keys of models of transformers, by one or the other of which their weights are known."""

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")

TRAINING_FILES = ("training_args", "optimizer", "scheduler", "scaler", "rng_state")
"""Beginnings of names under which transformers' Trainer keeps what are no weights."""

ADAPTER_CONFIG_FILE = "adapter_config.json"
"""File that `PeftModel.save_pretrained` writes beside the adapter's weights."""

_ADAPTER_FILE = re.compile(r"adapter_model\.(?:safetensors|bin)|adapter_model\S*\.index\.json")
_LANGUAGE_ADAPTER_FILE = re.compile(r"adapter\.[\w-]+\.(?:safetensors|bin)")
"""Attention adapters and output layer of one language, as MMS has them."""

_ADAPTER_PART = re.compile(
    r"(?:lora|ia3|hada|lokr|oft|boft|vera|vblora|hra|fourierft|bone|road|randlora|shira|c3a|trainable"
    r"_tokens|prompt)_\w+|base_layer|modules_to_save|original_module"
)
"""Parts of keys that methods of peft add."""

_MAX_CONFIG_BYTES = 1 << 20


def payload(folder: Path, content: object) -> dict[str, Any]:
    """The payload of weights that lie in a model's folder.

    Args:
        folder: Where `config.json` is.
        content: What a file of weights holds.

    Returns:
        The configuration under `CONFIG`, the preprocessor's under `PREPROCESSOR` and the weights
        under `WEIGHTS`.

    Raises:
        CheckpointError: A file is missing or damaged, or the content holds no weights.
    """
    return {
        CONFIG: _read_json(folder / CONFIG_FILE),
        PREPROCESSOR: _read_preprocessor(folder),
        WEIGHTS: state_dict(content, f"the file of weights in {folder}"),
    }


def refuse_adapters(path: Path) -> None:
    """Refuse an adapter of peft, and a model's folder that has one.

    Raises:
        CheckpointError: `path` is an adapter, or lies or is where one belongs to the weights.
    """
    folder = path if path.is_dir() else path.parent
    has_weights = path.is_file() or any(map(_may_hold_weights, folder.iterdir()))
    refuse_adapter_files(path, has_base=is_huggingface_folder(folder) and has_weights)


def has_own_names(content: object) -> bool:
    """Return whether weights have names of a model of transformers that reads waveforms."""
    weights = weights_in(content)
    return any(has_part(weights, *parts) for parts in OWN_PARTS)


def is_huggingface_folder(path: Path) -> bool:
    """Return whether `path` is a folder with a configuration in it."""
    return (path / CONFIG_FILE).is_file()


def matches(content: Mapping[str, Any]) -> bool:
    """Return whether `content` is the payload of such a folder."""
    return CONFIG in content and WEIGHTS in content


def model_types() -> dict[str, str]:
    """Family by the `model_type` of its configuration."""
    specs = {stem: family.formats.get(SPEC) for stem, family in FAMILIES.items()}
    return {str(spec.options["model_type"]): stem for stem, spec in specs.items() if spec}


def families(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The family that the configuration's `model_type` names.

    Raises:
        CheckpointError: It names none that the library knows.
    """
    known = model_types()
    config = Options(payload[CONFIG], CONFIG_FILE)
    return (known[config.choice("model_type", tuple(known), None)],)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(
            f"{path.parent} has no {path.name}; expected the folder of a Hugging Face model, with "
            f"{CONFIG_FILE}, {PREPROCESSOR_FILE} and {' or '.join(WEIGHT_FILES)}; a checkpoint of "
            "another kind is passed as the file itself"
        )
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable JSON object: {error}") from error


def _read_preprocessor(folder: Path) -> dict[str, Any]:
    if (folder / PREPROCESSOR_FILE).is_file():
        return _read_json(folder / PREPROCESSOR_FILE)
    if (folder / PROCESSOR_FILE).is_file():
        # Newer versions write the preprocessor's options into the processor's file.
        options = _read_json(folder / PROCESSOR_FILE).get("feature_extractor")
        if isinstance(options, dict):
            return options
    logger.warning(
        "%s has no %s: waveforms, or spectra, will be normalised, as feature extractors of "
        "transformers do unless their file says otherwise",
        folder,
        PREPROCESSOR_FILE,
    )
    return {}


def read_folder_weights(folder: Path) -> object:
    """Read the weights of a model's folder.

    The names that transformers writes come first, in its order; else there must be one file that
    can be meant.

    Raises:
        CheckpointError: There is no configuration, or none or several files may be meant; a file
            is damaged or unsafe.
    """
    _read_json(folder / CONFIG_FILE)  # first: weights take longer
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return read_weights(folder / name)
        index = folder / f"{name}{INDEX_SUFFIX}"
        if index.is_file():
            return _read_shards(index)
    others = sorted(path for path in folder.iterdir() if _may_hold_weights(path))
    if len(others) == 1:
        return read_weights(others[0])
    if others:
        names = ", ".join(path.name for path in others)
        raise CheckpointError(
            f"{folder} has several files of weights: {names}; pass the path of the one you want"
        )
    raise CheckpointError(
        f"{folder} has no weights: expected {' or '.join(WEIGHT_FILES)}, an index of shards, or "
        f"one file that ends in {', '.join(WEIGHT_SUFFIXES)}"
    )


def _may_hold_weights(path: Path) -> bool:
    name = path.name
    return (
        path.is_file()
        and path.suffix in WEIGHT_SUFFIXES
        and not name.startswith((".", *TRAINING_FILES))
        and not is_adapter_file(path)
    )


def _read_shards(index: Path) -> dict[str, Tensor]:
    """The weights of all shards that `index` lists."""
    listing = _read_json(index).get("weight_map")
    if not isinstance(listing, dict) or not listing:
        raise CheckpointError(f"{index} lacks weight_map, which says where each weight is")
    suffix = Path(index.name.removesuffix(INDEX_SUFFIX)).suffix
    for name in listing.values():
        if not _is_name_beside(name, suffix):
            raise CheckpointError(
                f"{index} places a weight in {name!r}; expected the name of a file beside it that "
                f"ends in {suffix}"
            )
    weights: dict[str, Tensor] = {}
    for name in dict.fromkeys(listing.values()):
        shard = index.parent / name
        for key, weight in state_dict(read_weights(shard), str(shard)).items():
            if listing.get(key) != name:
                raise CheckpointError(
                    f"{index.parent / name} holds {key}, which {index.name} places in "
                    f"{listing.get(key, 'no file')}"
                )
            weights[key] = weight
    missing = [key for key in listing if key not in weights]
    if missing:
        raise CheckpointError(f"the shards that {index} lists lack {', '.join(missing)}")
    return weights


def _is_name_beside(name: object, suffix: str) -> bool:
    """Return whether `name` is a file name with this suffix, which cannot lead out of a folder."""
    return isinstance(name, str) and not set(name) & set("/\\\0") and Path(name).suffix == suffix


def read_weights(path: Path) -> object:
    """Read a file of weights, a safetensors file or one of torch by its content.

    Raises:
        CheckpointError: It is missing, damaged or unsafe.
    """
    if path.suffix != ".safetensors" and not _is_safetensors(path):
        return read_legacy_checkpoint(path)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file: {error}; copy or fetch it again"
        ) from error


def _is_safetensors(path: Path) -> bool:
    """Return whether a file begins like safetensors: 8 bytes of the header's length, then JSON."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError:
        return False
    return len(head) == 9 and head[6:] == b"\0\0{"


def is_adapter_file(path: Path) -> bool:
    """Return whether a file has the name of an adapter's weights."""
    return bool(_ADAPTER_FILE.fullmatch(path.name) or _LANGUAGE_ADAPTER_FILE.fullmatch(path.name))


def is_adapter_key(key: str) -> bool:
    """Return whether a method of peft added a weight, or moved it."""
    return any(_ADAPTER_PART.fullmatch(part) for part in key.split("."))


def refuse_adapter_files(path: Path, *, has_base: bool) -> None:
    """Refuse an adapter, and the folder of a model that has one.

    Args:
        path: What is to be loaded, a file or a folder.
        has_base: Whether it is, or holds, the weights of a model of transformers, to which an
            adapter in the folder would be applied.

    Raises:
        CheckpointError: It is an adapter, or has one; the message says how to merge it.
    """
    if path.is_file() and _LANGUAGE_ADAPTER_FILE.fullmatch(path.name):
        raise CheckpointError(
            f"{path} is the adapter of one language, as MMS has them, and holds no encoder; "
            "adapters inside the layers are not implemented"
        )
    if path.is_file() and (path.name == ADAPTER_CONFIG_FILE or is_adapter_file(path)):
        raise _adapter_alone(path)
    folder = path if path.is_dir() else path.parent
    names = _adapter_names(folder) if path.is_dir() or has_base else []
    if names and not has_base:
        raise _adapter_alone(path)
    if names:
        kind = _kind(_adapter_config(folder))
        raise CheckpointError(
            f"{folder} has an adapter ({kind}: {', '.join(names)}) beside the weights, which "
            "transformers applies to them; without it the numbers would be those of another model. "
            f"{_advice(str(folder), str(folder))}; or move the adapter elsewhere to have the model "
            "without it"
        )


def refuse_adapter_keys(path: Path, keys: Iterable[str]) -> None:
    """Raise CheckpointError where some of the keys that change an encoder are an adapter's."""
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
