"""Format `huggingface`: a folder with a configuration, a preprocessor's and the weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from auricle.convert.converted import state_dict
from auricle.convert.options import Options
from auricle.convert.unpickle import read_legacy_checkpoint
from auricle.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

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

FAMILIES = {
    "wav2vec2": "wav2vec2",
    "hubert": "hubert",
    "wavlm": "wavlm",
    "data2vec-audio": "data2vec",
}
"""`model_type` of the configuration -> family."""


def read_huggingface(path: Path) -> dict[str, Any]:
    """The payload of a folder, or of a file of weights that has `config.json` beside it.

    Returns:
        The configuration under `CONFIG`, the preprocessor's under `PREPROCESSOR` and the weights
        under `WEIGHTS`.

    Raises:
        CheckpointError: A file is missing, damaged or unsafe.
    """
    folder = path if path.is_dir() else path.parent
    payload: dict[str, Any] = {
        CONFIG: _read_json(folder / CONFIG_FILE),
        PREPROCESSOR: _read_preprocessor(folder),
    }
    is_weights = path.is_file() and path.suffix != ".json"
    payload[WEIGHTS] = _read_weights(path) if is_weights else _read_folder_weights(folder)
    return payload


def is_huggingface_folder(path: Path) -> bool:
    """Whether `path` is a folder with a configuration in it."""
    return (path / CONFIG_FILE).is_file()


def matches(content: Mapping[str, Any]) -> bool:
    """Whether `content` is the payload of such a folder."""
    return CONFIG in content and WEIGHTS in content


def families(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The family that the configuration's `model_type` names.

    Raises:
        CheckpointError: It names none that the library knows.
    """
    config = Options(payload[CONFIG], CONFIG_FILE)
    return (FAMILIES[config.choice("model_type", tuple(FAMILIES), None)],)


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
        "%s has no %s: waveforms will be normalised, as a Wav2Vec2FeatureExtractor does unless "
        "its file says otherwise",
        folder,
        PREPROCESSOR_FILE,
    )
    return {}


def _read_folder_weights(folder: Path) -> dict[str, Tensor]:
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return _read_weights(folder / name)
        index = folder / f"{name}{INDEX_SUFFIX}"
        if index.is_file():
            return _read_shards(index)
    raise CheckpointError(
        f"{folder} has no weights: expected {' or '.join(WEIGHT_FILES)}, or an index of shards"
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
        for key, weight in _read_weights(index.parent / name).items():
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
    """Whether `name` is a plain file name with this suffix, which cannot lead out of a folder."""
    return isinstance(name, str) and not set(name) & set("/\\\0") and Path(name).suffix == suffix


def _read_weights(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        return state_dict(read_legacy_checkpoint(path), str(path))
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
