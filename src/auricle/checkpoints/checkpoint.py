"""A checkpoint, read and checked, and the encoder that it makes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from auricle.catalogue.family import Family, find_family
from auricle.catalogue.search import record_named
from auricle.checkpoints.keymap import OPTIONAL_SUFFIX
from auricle.errors import AuricleError, CheckpointError
from auricle.files.safetensors import ALIGNMENT_BYTES
from auricle.info import Provenance
from auricle.models.base import Encoder
from auricle.models.definition import Config

MAX_SIZE = 2**20
"""Far above any width, kernel or count of an encoder; the product of three still fits 64 bits."""

UNKNOWN = Provenance()
"""Nothing is known of the weights."""

_DRAWS = frozenset({Tensor.normal_, Tensor.uniform_})
"""Methods that draw random weights, in addition to `torch.nn.init`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All that a checkpoint says of an encoder.

    Attributes:
        family: Stem of the family.
        config: The family's configuration.
        weights: Name in the encoder -> weight.
        unused_keys: Keys of the file that the encoder does not need.
        provenance: Origin of the weights.
        source: The file, for messages.
    """

    family: str
    config: Config
    weights: Mapping[str, Tensor]
    unused_keys: tuple[str, ...] = ()
    provenance: Provenance = UNKNOWN
    source: str = "the checkpoint"

    def named(self, name: str | None) -> Checkpoint:
        """The checkpoint with a name of the encoder, unless it has its own."""
        if self.provenance.name is not None:
            return self
        provenance = dataclasses.replace(self.provenance, name=name)
        return dataclasses.replace(self, provenance=provenance)

    def changed(self, options: Mapping[str, Any]) -> Checkpoint:
        """The checkpoint with other values of some fields of its configuration.

        Args:
            options: Values by field, those of a part of the configuration in a mapping of its own:
                `{"normalize": False, "transformer": {"layer_drop": 0.0}}`.

        Raises:
            AuricleError: The configuration has no such field, or not of that value.
        """
        what = f"config for {self.provenance.name or self.source}"
        try:
            config = msgspec.convert(
                _merged(msgspec.to_builtins(self.config), options, what), type(self.config)
            )
        except msgspec.ValidationError as error:
            raise AuricleError(f"{what}: {error}") from error
        if config == self.config:
            return self
        changes = _merged(self.provenance.changes or {}, options, None)
        text = msgspec.json.encode(changes, order="sorted").decode()
        provenance = dataclasses.replace(self.provenance, changed_config=text)
        return dataclasses.replace(self, config=config, provenance=provenance)

    def build(self) -> Encoder:
        """Build the encoder with exactly these weights, in eval mode, on the CPU.

        Raises:
            CheckpointError: The config does not hold; weights are missing, unexpected,
                mis-shaped or not floating point.
        """
        check_config(self.config, self.family, self.source)
        # Not in a `try`: the checkpoint is not at fault for failures from here on.
        encoder = blank_encoder(
            find_family(self.family), self.config, self.provenance, self.unused_keys
        )
        expected = encoder.state_dict(keep_vars=True)  # only shapes count
        weights = complete_weights(self.weights, expected)
        check_weights(weights, expected, self.family, self.source)
        encoder.load_state_dict(weights, assign=True)
        for parameter in encoder.parameters():
            parameter.requires_grad_(True)
        return encoder.eval()


def _merged(
    fields: Mapping[str, Any], options: Mapping[str, Any], what: str | None, path: str = ""
) -> dict[str, Any]:
    """Fields with other values of some; None as `what` allows any, else it begins the message."""
    merged = dict(fields)
    for name, value in options.items():
        if what is not None and name not in fields:
            raise AuricleError(
                f"{what}: there is no field {path}{name}; expected one of "
                f"{', '.join(path + field for field in fields)}"
            )
        old = fields.get(name)
        merged[name] = value
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(old, value, what, f"{path}{name}.")
    return merged


def build_encoder(
    family: Family,
    config: Config,
    provenance: Provenance = UNKNOWN,
    unused_keys: tuple[str, ...] = (),
    *,
    name: str | None = None,
) -> Encoder:
    """Build an encoder with the weights that its class begins with.

    Args:
        family: The family.
        config: Its configuration.
        provenance: Origin of the weights that the encoder will have.
        unused_keys: Keys of their checkpoint that the encoder does not need.
        name: The model of the catalogue whose title and paper hold, if it is of that family;
            None for the one that `provenance` names. The family's hold where there is none.
    """
    encoder = family.encoder_type()(config)
    record = record_named(name or provenance.name, family.stem)
    encoder.family = family.stem  # families may share a class
    encoder.title, encoder.paper = (record or family).title, (record or family).paper
    encoder.provenance, encoder.unused_keys = provenance, unused_keys
    return encoder


class _WithoutDraws(TorchFunctionMode):
    """Leaves tensors unchanged instead of filling them with random numbers.

    On the meta device there is nothing to fill, but PyTorch imports its compiler for `normal_`
    there, which takes seconds.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS or getattr(func, "__module__", None) == torch.nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def blank_encoder(
    family: Family,
    config: Config,
    provenance: Provenance = UNKNOWN,
    unused_keys: tuple[str, ...] = (),
    *,
    name: str | None = None,
) -> Encoder:
    """Build an encoder on the meta device: its layers and shapes, without memory or randomness.

    Raises:
        RuntimeError, ValueError, OverflowError: The configuration does not make one.
    """
    with torch.device("meta"), _WithoutDraws():
        return build_encoder(family, config, provenance, unused_keys, name=name)


def complete_weights(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights as an encoder takes them, with the counters that old files lack."""
    settled = {name: _settled(weight) for name, weight in weights.items()}
    for name in expected:
        if name.endswith(OPTIONAL_SUFFIX):
            settled.setdefault(name, torch.zeros((), dtype=torch.int64))
    return settled


def check_weights(
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    family: str,
    source: str,
    *,
    unknown: Sequence[str] = (),
    original: Callable[[str], str] = str,
) -> None:
    """Check that weights are exactly those that an encoder expects.

    Args:
        weights: Name in the encoder -> weight.
        expected: Name in the encoder -> a tensor of the shape and type that it needs.
        family: The family, for messages.
        source: The file, for messages.
        unknown: Keys of the file that stand for no weight.
        original: The key in the file that stands for a name.

    Raises:
        CheckpointError: Weights are missing, unexpected, mis-shaped or not floating point; the
            message lists their keys.
    """
    missing = [original(name) for name in expected if name not in weights]
    unexpected = [*unknown, *(original(name) for name in weights if name not in expected)]
    misshaped = [
        f"{original(name)} is {_shape(weights[name])}, expected {_shape(expected[name])}"
        for name in expected
        if name in weights and weights[name].shape != expected[name].shape
    ]
    mistyped = [
        f"{original(name)} is {str(weights[name].dtype).removeprefix('torch.')}"
        for name in expected
        if name in weights
        and expected[name].is_floating_point()
        and not weights[name].is_floating_point()
    ]
    problems = (
        ("missing", missing),
        ("unexpected", unexpected),
        ("mis-shaped", misshaped),
        ("not floating point, as quantised weights are", mistyped),
    )
    # Weights that are rows of one original have one key.
    listed = [(kind, ", ".join(dict.fromkeys(keys))) for kind, keys in problems if keys]
    found = "; ".join(f"{kind}: {keys}" for kind, keys in listed)
    if found:
        raise CheckpointError(f"the weights in {source} do not fit the {family} encoder. {found}")


def check_config(config: Config, family: str, source: str) -> None:
    """Raise CheckpointError for a config of wrong types, or of sizes that no encoder has."""
    problem = f"the configuration in {source} does not make a {family} encoder"
    try:
        msgspec.json.decode(msgspec.json.encode(config), type=type(config))
    except msgspec.DecodeError as error:
        raise CheckpointError(f"{problem}: {error}") from error
    for name, size in _sizes(msgspec.to_builtins(config), ""):
        if abs(size) > MAX_SIZE:
            raise CheckpointError(f"{problem}: {name} is {size}, expected at most {MAX_SIZE}")


def _sizes(value: object, name: str) -> Iterator[tuple[str, int]]:
    """Every whole number in a config, with its dotted name."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _sizes(item, f"{name}.{key}".lstrip("."))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _sizes(item, f"{name}[{index}]")
    elif isinstance(value, int):
        yield name, value


def _settled(weight: Tensor) -> Tensor:
    """The weight as every other way to load it would place it in memory.

    Some matrix products round differently where memory begins or strides elsewhere, and a
    conversion must give the same bits as the original.
    """
    weight = weight.contiguous()
    return weight.clone() if weight.data_ptr() % ALIGNMENT_BYTES else weight


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
