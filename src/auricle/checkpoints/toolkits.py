"""Formats of the toolkits: `.nemo` archives of NVIDIA NeMo, and folders of SpeechBrain.

A `.nemo` file is a tar archive. Nothing of it is unpacked: the configuration is read as text and
the weights where they lie, so that no name in it can lead anywhere.
"""

from __future__ import annotations

import math
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from auricle.catalogue.family import Family
from auricle.checkpoints.keymap import Converted, KeyMap, has_part
from auricle.checkpoints.options import (
    TAG,
    Options,
    build_config,
    check_demands,
    parse_yaml,
    read_config,
)
from auricle.checkpoints.pickle.unpickle import read_legacy_checkpoint
from auricle.checkpoints.state_dicts import in_float32, state_dict, weights_in
from auricle.errors import CheckpointError
from auricle.frontends import NemoMelConfig, SpeechBrainMelConfig
from auricle.info import SAMPLE_RATE

NEMO = "nemo"
NEMO_CONFIG, NEMO_WEIGHTS = "model_config.yaml", "model_weights.ckpt"
"""The two members of an archive that are read; their names are the keys of the payload too."""

MAX_CONFIG_BYTES = 16 << 20
"""Far above any published configuration, vocabularies of tokens included."""

MAX_MEMBERS = 10_000
TAR_MAGIC = slice(257, 262)
"""Place of `ustar` in a tar header (POSIX.1-1988)."""

GZIP_MAGIC = b"\x1f\x8b"

NEMO_NORMALIZATIONS = {"per_feature": "band", "all_features": "all"}

SPEECHBRAIN = "speechbrain"
HYPERPARAMETERS, SPEECHBRAIN_WEIGHTS = "hyperparams.yaml", "model.ckpt"
"""Files of a folder of SpeechBrain."""

SPEECHBRAIN_PART = ("mha_layer", "in_proj_weight")
"""Parts of a key that only a Conformer of SpeechBrain has."""

SPEECHBRAIN_ACTIVATIONS = {"GELU": "gelu", "Swish": "swish", "SiLU": "swish", "ReLU": "relu"}
"""Class -> our name."""


def is_nemo_archive(path: Path) -> bool:
    """Return whether a file is a tar archive with a model of NeMo in it.

    Raises:
        CheckpointError: It is one of theirs, and compressed.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(TAR_MAGIC.stop)
    if head.startswith(GZIP_MAGIC) and path.suffix == ".nemo":
        raise CheckpointError(
            f"{path} is compressed, as NeMo wrote before 2022; decompress it: "
            "gunzip -c model.nemo > plain.nemo"
        )
    return head[TAR_MAGIC] == b"ustar" and NEMO_CONFIG in _members(path)


def read_nemo_archive(path: Path) -> dict[str, Any]:
    """Configuration and weights of a `.nemo` archive, by the names of its members.

    Raises:
        CheckpointError: A member is absent, a link, twice there, too large or damaged.
    """
    members = _members(path)
    for name in (NEMO_CONFIG, NEMO_WEIGHTS):
        if name not in members:
            raise CheckpointError(
                f"{path} has no {name}, only {', '.join(list(members)[:8])}; expected an archive "
                "that save_to of NeMo wrote, with weights in one file"
            )
    start, num_bytes = members[NEMO_CONFIG]
    if num_bytes > MAX_CONFIG_BYTES:
        raise CheckpointError(
            f"{NEMO_CONFIG} in {path} has {num_bytes} bytes; expected at most {MAX_CONFIG_BYTES}"
        )
    with path.open("rb") as file:
        file.seek(start)
        config = parse_yaml(file.read(num_bytes), f"{NEMO_CONFIG} in {path}")
    return {NEMO_CONFIG: config, NEMO_WEIGHTS: read_legacy_checkpoint(path, members[NEMO_WEIGHTS])}


def _members(path: Path) -> dict[str, tuple[int, int]]:
    """Start and size of the regular members at the root of a tar archive, by name."""
    found: dict[str, tuple[int, int]] = {}
    file_bytes = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            for index, member in enumerate(archive):
                if index >= MAX_MEMBERS:
                    raise CheckpointError(f"{path} has more than {MAX_MEMBERS} members")
                name = str(PurePosixPath(member.name))
                if name not in (NEMO_CONFIG, NEMO_WEIGHTS):
                    continue
                if not member.isreg() or member.issparse() or name in found:
                    raise CheckpointError(
                        f"{name} in {path} must be one whole file, but is a link, sparse or "
                        "there twice"
                    )
                if member.offset_data + member.size > file_bytes:
                    raise CheckpointError(
                        f"{path} is cut short within {name}; copy or fetch it again"
                    )
                found[name] = member.offset_data, member.size
    except (tarfile.TarError, EOFError, OSError, ValueError, UnicodeError) as error:
        raise CheckpointError(f"{path} is not a readable tar archive: {error}") from error
    return found


def matches_nemo(content: Mapping[str, Any]) -> bool:
    return NEMO_CONFIG in content and NEMO_WEIGHTS in content


def convert_nemo(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of the FastConformer encoder in an archive, whatever model it is part of.

    Raises:
        CheckpointError: Its encoder is another, or has options that are not implemented.
    """
    spec = family.formats[NEMO]
    options = Options(payload[NEMO_CONFIG], NEMO_CONFIG)
    check_demands(spec.demands, options)
    encoder = options.section("encoder")
    features = _nemo_features(options.section("preprocessor"))
    encoder.demand("feat_in", features.num_mels, "the preprocessor makes so many bands")
    width = encoder.require("d_model", int)
    half = encoder.get("conv_kernel_size", int, 31) // 2
    encoder.demand("conv_context_size", [half, half], "convolutions see both sides alike")
    if encoder.get("feat_out", int, -1) not in (-1, width):
        raise encoder.error("has a feat_out that is not d_model: projections are not implemented")
    channels = encoder.get("subsampling_conv_channels", int, -1)
    given = {
        "features": features,
        "subsampling.channels": width if channels == -1 else channels,
        "conformer.ffn_size": width * encoder.get("ff_expansion_factor", int, 4),
    }
    config = read_config(family.config_type(), spec.fields, options, given)
    weights = in_float32(state_dict(payload[NEMO_WEIGHTS], NEMO_WEIGHTS))
    return Converted(config, weights, KeyMap(spec.keys, spec.unused))


def _nemo_features(options: Options) -> NemoMelConfig:
    window = int(options.get("window_size", float, 0.02) * SAMPLE_RATE)
    fft_samples = 2 ** math.ceil(math.log2(max(window, 1)))
    normalize = options.get("normalize", object, None)
    if isinstance(normalize, Mapping):
        raise options.error("normalises by fixed means and deviations, which is not implemented")
    return build_config(
        lambda: NemoMelConfig(
            num_mels=options.get("features", int, 64),
            fft_samples=options.get("n_fft", int, fft_samples),
            window_samples=window,
            hop_samples=int(options.get("window_stride", float, 0.01) * SAMPLE_RATE),
            window=options.choice("window", ("hann", "hamming"), "hann"),
            preemphasis=0.0 if options.is_null("preemph") else options.get("preemph", float, 0.97),
            normalize=NEMO_NORMALIZATIONS.get(str(normalize), "none"),  # type: ignore[arg-type]
            low_hz=options.get("lowfreq", float, 0.0),
            high_hz=options.get("highfreq", float, SAMPLE_RATE / 2),
        )
    )


def hyperparameters(folder: Path) -> Path | None:
    """The configuration of SpeechBrain that belongs to weights in a folder, if there is one.

    In a folder that a training wrote (`save/CKPT+...`) it lies two folders above.
    """
    places = [folder, folder.parent.parent] if folder.name.startswith("CKPT+") else [folder]
    files = [place / HYPERPARAMETERS for place in places]
    return next((file for file in files if file.is_file()), None)


def is_speechbrain_folder(path: Path) -> bool:
    """Return whether `path` is a folder with weights and a configuration of SpeechBrain."""
    return (path / SPEECHBRAIN_WEIGHTS).is_file() and hyperparameters(path) is not None


def matches_speechbrain(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint holds the weights of a Conformer of SpeechBrain."""
    return has_part(weights_in(content), *SPEECHBRAIN_PART)


def convert_speechbrain(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a BEST-RQ: `config` from `hyperparams.yaml` beside it, and `weights`.

    Raises:
        CheckpointError: It is of a variant that is not implemented.
    """
    spec = family.formats[SPEECHBRAIN]
    classes = dict(_classes(payload["config"]))
    options = Options(classes, HYPERPARAMETERS)
    for name in ("ConvolutionFrontEnd", "TransformerASR", "Fbank"):
        if name not in classes:
            raise options.error(f"builds no {name}; expected the file of a recipe for BEST-RQ")
    check_demands(spec.demands, options)
    transformer = options.section("TransformerASR")
    given = {
        "features": _speechbrain_features(options),
        "conformer.activation": _activation(transformer),
    }
    front = options.section("ConvolutionFrontEnd")
    num_blocks = front.get("num_blocks", int, 3)
    for field, option, default in (
        ("channels", "out_channels", (128, 256, 512)),
        ("kernel_sizes", "kernel_sizes", (3, 3, 3)),
        ("strides", "strides", (1, 2, 2)),
    ):
        given[f"front.{field}"] = front.get(option, tuple[int, ...], default)[:num_blocks]
    if any(front.get("residuals", list[bool], [True] * num_blocks)[:num_blocks]):
        raise front.error("has residuals, which are not implemented")
    config = read_config(family.config_type(), spec.fields, options, given)
    weights = state_dict(payload["weights"], "the weights")
    ordered = in_our_layout(weights, transformer.get("nhead", int, 8))
    return Converted(config, ordered, KeyMap(spec.keys, spec.unused))


def _classes(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Names of classes that a file of HyperPyYAML builds at its root, and their arguments."""
    for value in config.values():
        if isinstance(value, Mapping) and TAG in value:
            yield str(value[TAG]).rpartition(".")[2], value


def _speechbrain_features(options: Options) -> SpeechBrainMelConfig:
    fbank, per_ms = options.section("Fbank"), SAMPLE_RATE / 1000
    norm = options.section("InputNormalization")
    if "InputNormalization" in options and norm.get("norm_type", str, "global") != "sentence":
        raise norm.error("must have the norm_type sentence: others need statistics of the training")
    return build_config(
        lambda: SpeechBrainMelConfig(
            num_mels=fbank.get("n_mels", int, 40),
            fft_samples=fbank.get("n_fft", int, 400),
            window_samples=round(fbank.get("win_length", float, 25.0) * per_ms),
            hop_samples=round(fbank.get("hop_length", float, 10.0) * per_ms),
            low_hz=fbank.get("f_min", float, 0.0),
            high_hz=fbank.get("f_max", float, SAMPLE_RATE / 2),
            cmvn="InputNormalization" in options,
        )
    )


def _activation(transformer: Options) -> str:
    """Our name of the activation of the blocks, a class that the file names."""
    name = transformer.get("conformer_activation", str, "Swish").rpartition(".")[2]
    if name not in SPEECHBRAIN_ACTIVATIONS:
        raise transformer.error(
            f"has the conformer_activation {name}; expected one of "
            f"{', '.join(SPEECHBRAIN_ACTIVATIONS)}"
        )
    return SPEECHBRAIN_ACTIVATIONS[name]


def in_our_layout(weights: Mapping[str, Tensor], num_heads: int) -> dict[str, Tensor]:
    """Weights of SpeechBrain in the layout of ours; those of other names stay as they are.

    Rows of queries, of keys and of values of all heads, where each head has its three. Biases of
    positions are read as (heads, width of a head), whatever shape they are stored in. The last
    linear layer after a convolution is a pointwise convolution.
    """
    ordered = dict(weights)
    for key, x in weights.items():
        name = key.rpartition(".")[2]
        if name in ("pos_bias_u", "pos_bias_v") and x.numel() % num_heads == 0:
            ordered[key] = x.reshape(num_heads, -1)
        elif key.endswith("after_conv.2.weight") and x.dim() == 2:
            ordered[key] = x.unsqueeze(2)
        elif name == "in_proj_weight" and x.dim() == 2 and len(x) % (3 * num_heads) == 0:
            ordered[key] = x.view(num_heads, 3, -1, x.shape[1]).transpose(0, 1).reshape(x.shape)
    return ordered
