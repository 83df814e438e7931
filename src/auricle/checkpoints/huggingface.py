"""Format `huggingface`: a folder with a configuration, a preprocessor's and the weights.

An adapter of peft (LoRA, DoRA, IA3, prompts, ...) changes what the weights compute that it was
trained on. Adapters are found in any place and refused, not applied: `merge_and_unload` of peft
does that, for every kind and option of theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from auricle.catalogue.family import FAMILIES, Family
from auricle.checkpoints import toolkits
from auricle.checkpoints.keymap import Converted, KeyMap, has_part
from auricle.checkpoints.options import (
    Configuration,
    Options,
    check_demands,
    read_config,
    read_configuration,
)
from auricle.checkpoints.pickle.unpickle import read_legacy_checkpoint
from auricle.checkpoints.state_dicts import (
    in_float32,
    is_adapter_file,
    refuse_adapter_files,
    state_dict,
    weights_in,
)
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
ENCODER_SECTIONS = ("audio_config", "encoder_config")
"""Options of the encoder among those of a model for recognition (`omniasr`, `parakeet_ctc`)."""

POSITIONS_OPTION, NO_POSITIONS = "position_embeddings_type", "null"
"""Option of Conformers whose null means something, and the name of null in data files."""

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
    config = _read_json(folder / CONFIG_FILE)
    preprocessor = _read_preprocessor(folder)
    if preprocessor is None and reads_waveforms(config):
        reason = "as a Wav2Vec2FeatureExtractor does unless its file says otherwise"
        name = PREPROCESSOR_FILE
        logger.warning("%s has no %s: waveforms will be normalised, %s", folder, name, reason)
    return {
        CONFIG: config,
        PREPROCESSOR: preprocessor or {},
        WEIGHTS: state_dict(content, f"the file of weights in {folder}"),
    }


def refuse_adapters(path: Path, *, without_adapters: bool = False) -> None:
    """Refuse an adapter of peft, and a model's folder that has one.

    Args:
        path: The checkpoint.
        without_adapters: Whether the model is wanted without the adapter in its folder.

    Raises:
        CheckpointError: `path` is an adapter, or lies or is where one belongs to the weights.
    """
    folder = path if path.is_dir() else path.parent
    has_weights = path.is_file() or any(map(_may_hold_weights, folder.iterdir()))
    has_base = is_huggingface_folder(folder) and has_weights
    refuse_adapter_files(path, has_base=has_base, without_adapters=without_adapters)


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
    return (known[encoder_options(payload).choice("model_type", tuple(known), None)],)


def encoder_options(payload: Mapping[str, Any]) -> Options:
    """The options of the encoder: a section of those of a model that has it as a part.

    No positions (null) differ there from an absent option.
    """
    config = payload[CONFIG]
    if config.get(POSITIONS_OPTION, NO_POSITIONS) is None:
        config = {**config, POSITIONS_OPTION: NO_POSITIONS}
    options = Options(config, CONFIG_FILE)
    for name in ENCODER_SECTIONS:
        part = options.section(name) if name in options else options
        if part.get("model_type", str, "") in model_types():
            return part
    return options


def convert(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a model whose data file has all fields and keys.

    Options of the preprocessor are there under `preprocessor`. Published weights of 16 bits are
    computed in 32, as those of the authors are.

    Raises:
        CheckpointError: An option is not known or asks for what is not implemented.
    """
    spec = family.formats[SPEC]
    preprocessor = payload[PREPROCESSOR]
    if preprocessor.get("preemphasis", 0.0) is None:  # which differs from an absent option
        preprocessor = {**preprocessor, "preemphasis": 0.0}
    options = encoder_options(payload).with_section("preprocessor", preprocessor)
    check_demands(spec.demands, options)
    config = read_config(family.config_type(), spec.fields, options)
    weights = in_float32(state_dict(payload[WEIGHTS], "the file of weights"))
    return Converted(config, weights, KeyMap(spec.keys, spec.unused))


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


def _read_preprocessor(folder: Path) -> dict[str, Any] | None:
    if (folder / PREPROCESSOR_FILE).is_file():
        return _read_json(folder / PREPROCESSOR_FILE)
    if (folder / PROCESSOR_FILE).is_file():
        # Newer versions write the preprocessor's options into the processor's file.
        options = _read_json(folder / PROCESSOR_FILE).get("feature_extractor")
        return options if isinstance(options, dict) else None
    return None


def reads_waveforms(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration is of a model whose preprocessor may normalise waveforms."""
    stem = model_types().get(encoder_options({CONFIG: config}).get("model_type", str, ""))
    return stem is None or FAMILIES[stem].input == "wave"


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
        if toolkits.is_nemo_archive(path):
            return toolkits.read_nemo_archive(path)
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


def preprocessor_options(options: Mapping[str, Any], config: Configuration) -> dict[str, Any]:
    """The options of the preprocessor: beside the configuration's file, or among its options."""
    if isinstance(config, str | Path):
        file = Path(config).with_name(PREPROCESSOR_FILE)
        if file.is_file():
            return dict(read_configuration(file))
    if not reads_waveforms(options):
        return {}
    if "do_normalize" not in options:
        logger.warning(
            "the configuration does not say do_normalize, as %s does: waveforms will be normalised",
            PREPROCESSOR_FILE,
        )
        return {}
    return {"do_normalize": options["do_normalize"]}
