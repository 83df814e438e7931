"""Options of original configurations: read by name, checked, never guessed; configs of them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec
import torch
from torch import Tensor

from auricle.catalogue.family import Demand, Field
from auricle.errors import CheckpointError
from auricle.nn.relative_positions import Rounding, rotary_frequencies

T = TypeVar("T")
C = TypeVar("C", bound=msgspec.Struct)
Choice = TypeVar("Choice", bound=str)


FBANK_FIELDS: dict[str, tuple[str, type]] = {
    "num_mel_bins": ("num_mels", int),
    "frame_length": ("frame_length_ms", float),
    "frame_shift": ("frame_shift_ms", float),
    "window_type": ("window", str),
    "blackman_coeff": ("blackman_coeff", float),
    "preemphasis_coefficient": ("preemphasis", float),
    "remove_dc_offset": ("remove_dc_offset", bool),
    "round_to_power_of_two": ("round_to_power_of_two", bool),
    "use_power": ("use_power", bool),
    "low_freq": ("low_hz", float),
    "high_freq": ("high_hz", float),
    "use_log_fbank": ("use_log", bool),
    "subtract_mean": ("subtract_mean", bool),
    "sample_frequency": ("sample_rate", int),
}
"""torchaudio's name -> our field and its type."""

FBANK_DEMANDS: dict[str, tuple[object, str]] = {
    "dither": (0.0, "noise makes a representation random"),
    "snip_edges": (True, "frames over the edges are not implemented"),
    "use_energy": (False, "an energy column is not implemented"),
    "vtln_warp": (1.0, "vocal tract length normalisation is not implemented"),
    "min_duration": (0.0, "utterances are never dropped"),
    "sample_frequency": (16_000, "the encoders of these families read 16 kHz"),
}
"""Options that have one supported value, and why."""

FBANK_WITHOUT_EFFECT = (
    "channel",  # waveforms are mono
    "energy_floor",  # the three below act on the energy column alone
    "raw_energy",
    "htk_compat",
    "vtln_low",  # without warping these two bound nothing
    "vtln_high",
)

TAG = "!"
"""Key under which a mapping of YAML keeps its tag, such as `!new:torch.nn.Linear`."""

YAML_SUFFIXES = (".yaml", ".yml")
MAX_REFERENCES = 100
"""Length of a chain of references; a longer one is a circle."""

_REFERENCE = re.compile(r"!ref <(\w+)>")
_TUPLE = re.compile(r"\([\w\s.,+-]*\)")

Configuration = str | Path | Mapping[str, Any] | argparse.Namespace
"""A configuration: the path of a JSON file, or of YAML, or the content of one."""


def options_to_change(config: Configuration | None, what: str | Path) -> Mapping[str, Any]:
    """Fields to change in the configuration that a checkpoint holds itself.

    Raises:
        CheckpointError: `config` is a file, which would take the place of that configuration.
    """
    if isinstance(config, str | Path):
        raise CheckpointError(
            f"{what} brings its own configuration; leave config= out, or pass the fields to change "
            'as a mapping, such as {"normalize": False} (on the command line normalize=false)'
        )
    return vars(config) if isinstance(config, argparse.Namespace) else config or {}


class Options:
    """A section of an original configuration.

    Values are converted as YAML's loose types ask for (`"1e-12"` is a number); a value of None
    counts as absent.
    """

    def __init__(self, section: object, where: str) -> None:
        """Wrap `section`, which error messages call `where`."""
        if not isinstance(section, Mapping):
            raise CheckpointError(
                f"{where} must be a mapping of options, but is {type(section).__name__}"
            )
        self._nulls = {str(key) for key, value in section.items() if value is None}
        self._values: dict[str, Any] = {
            str(key): value for key, value in section.items() if value is not None
        }
        self._where = where

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def is_null(self, name: str) -> bool:
        """Return whether the option is there as None."""
        return name in self._nulls

    def get(self, name: str, kind: type[T], default: T) -> T:
        """The option as a `kind`, or `default` where it is absent."""
        return self.require(name, kind) if name in self._values else default

    def require(self, name: str, kind: type[T]) -> T:
        """The option as a `kind`.

        Raises:
            CheckpointError: It is absent or cannot be read as a `kind`.
        """
        if name not in self._values:
            raise CheckpointError(
                f"{self._where} lacks {name}; it has {', '.join(self._values) or 'nothing'}"
            )
        try:
            return msgspec.convert(self._values[name], kind, strict=False)
        except msgspec.ValidationError as error:
            raise CheckpointError(f"{self._where}.{name}: {error}") from error

    def choice(self, name: str, choices: Sequence[Choice], default: Choice | None) -> Choice:
        """The option, which must be one of `choices`; a `default` of None makes it required."""
        value = self.require(name, str) if default is None else self.get(name, str, default)
        for choice in choices:
            if choice == value:
                return choice
        raise CheckpointError(
            f"{self._where}.{name} must be one of {', '.join(choices)}, but is {value!r}"
        )

    def section(self, name: str) -> Options:
        """The section under `name`; an empty one where it is absent."""
        return Options(self._values.get(name, {}), f"{self._where}.{name}")

    def without(self, names: Collection[str]) -> Options:
        """This section less the options `names`."""
        rest = {name: value for name, value in self._values.items() if name not in names}
        return Options(rest, self._where)

    def with_section(self, name: str, section: Mapping[str, Any]) -> Options:
        """This section with one more in it."""
        return Options({**self._values, name: section}, self._where)

    def error(self, problem: str) -> CheckpointError:
        """An error about this section as a whole."""
        return CheckpointError(f"{self._where} {problem}")

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Raise CheckpointError where an option is not among `known`."""
        unknown = [name for name in self._values if name not in known]
        if unknown:
            raise CheckpointError(
                f"{self._where} has options whose effect is not known: {', '.join(unknown)}; "
                f"expected only {', '.join(known)}"
            )

    def demand(self, name: str, expected: object, reason: str) -> None:
        """Raise CheckpointError where the option is there and is not `expected`."""
        value = self._values.get(name, expected)
        if (value == expected) is not True:  # comparing tensors gives tensors
            raise CheckpointError(
                f"{self._where}.{name} must be {expected!r}, but is {value!r}: {reason}"
            )


def build_config(make: Callable[[], T]) -> T:
    """`make()`, whose ValueError becomes a CheckpointError."""
    try:
        return make()
    except ValueError as error:
        raise CheckpointError(f"the checkpoint's configuration does not hold: {error}") from error


def read_configuration(config: Configuration) -> Mapping[str, Any]:
    """The content of a configuration.

    Raises:
        CheckpointError: Its file is no JSON object, or YAML by its name, that can be read.
    """
    if isinstance(config, Mapping):
        return config
    if isinstance(config, argparse.Namespace):
        return vars(config)
    file = Path(config)
    if file.suffix in YAML_SUFFIXES:
        try:
            return parse_yaml(file.read_bytes(), str(file))
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read: {error}") from error
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise CheckpointError(f"{file} is not a readable JSON configuration: {error}") from error


def parse_yaml(text: bytes, where: str) -> dict[str, Any]:
    """The mapping of a YAML text; nothing that it names is built or run.

    Of the tags of HyperPyYAML, a mapping keeps its own under `TAG`, a `!ref <name>` alone becomes
    what stands at the root under that name, and other tags become text. `(a, b)` is a list.

    Raises:
        CheckpointError: It is no YAML, or no mapping, or repeats parts by aliases.
    """
    import yaml

    try:
        root = _plain(yaml.compose(text, Loader=yaml.SafeLoader), yaml, set())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} is not readable YAML: {error}") from error
    if not isinstance(root, dict):
        raise CheckpointError(f"{where} must be a mapping of options, but is {root!r:.80}")
    _resolve(root, root)
    return root


def _plain(node: Any, yaml: Any, seen: set[int]) -> Any:
    """The values of a node of YAML, scalars with tags of their own as text."""
    if id(node) in seen:
        raise ValueError("it repeats parts by aliases (*name); write them out")
    seen.add(id(node))
    own_tag = node.tag if node is not None and node.tag.startswith("!") else None
    if isinstance(node, yaml.MappingNode):
        pairs = [(_plain(key, yaml, seen), _plain(value, yaml, seen)) for key, value in node.value]
        values = {str(key): value for key, value in pairs}
        return {**values, TAG: own_tag} if own_tag else values
    if isinstance(node, yaml.SequenceNode):
        return [_plain(value, yaml, seen) for value in node.value]
    if node is None or own_tag:
        return None if node is None else f"{own_tag} {node.value}".rstrip()
    if _TUPLE.fullmatch(node.value) and node.style is None:
        return yaml.safe_load(f"[{node.value[1:-1]}]")
    return yaml.SafeLoader("").construct_object(node)


def _resolve(values: dict[str, Any] | list[Any], root: Mapping[str, Any]) -> None:
    """Put what references at the root name into their places, once for each container."""
    places = list(values.items()) if isinstance(values, dict) else list(enumerate(values))
    for place, value in places:
        if isinstance(value, dict | list):
            _resolve(value, root)
        for _ in range(MAX_REFERENCES):
            found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
            if found is None or found[1] not in root:
                break
            value = root[found[1]]
        values[place] = value  # type: ignore[index]


def read_config(
    config_type: type[C],
    fields: Mapping[str, Field],
    options: Options,
    given: Mapping[str, Any] | None = None,
) -> C:
    """Read a family's config from a checkpoint's options.

    Args:
        config_type: The class of the config.
        fields: Where fields come from, by name; `a.b` is field b of the config in field a.
        options: The options of the checkpoint.
        given: Values of further fields, by name.

    Raises:
        CheckpointError: An option is absent, of a wrong type or has a value that is not
            implemented; or the config does not hold.
    """
    values = dict(given or {})
    for name, field in fields.items():
        values[name] = _field_value(field, field_type(config_type, name), options)
    return build_config(lambda: _built(config_type, values))


def check_demands(demands: Mapping[str, Demand], options: Options) -> None:
    """Raise CheckpointError where an option has a value that is not implemented."""
    for path, demand in demands.items():
        section, name = _placed(path, options)
        first, *others = demand.values
        if not any(section.get(name, object, first) == value for value in others):
            section.demand(name, first, demand.reason)


def merged_fields(fields: Mapping[str, Field], own: Mapping[str, Field]) -> dict[str, Field]:
    """A format's fields with a family's own in their place; `a.b` takes the place of `a` too."""
    parents = {name[: match.start()] for name in own for match in re.finditer(r"\.", name)}
    return {**{name: one for name, one in fields.items() if name not in parents}, **own}


def field_type(config_type: type[msgspec.Struct], name: str) -> Any:
    """The type of a field of a config; `a.b` is field b of the config in field a."""
    first, _, rest = name.partition(".")
    kind = _field_types(config_type)[first]
    return field_type(_struct_type(kind), rest) if rest else kind


def _field_value(field: Field, kind: Any, options: Options) -> Any:
    if field.option is None:
        return field.value
    options, name = _placed(field.option, options)
    default = field.none if field.default is msgspec.UNSET else field.default
    is_required = default is msgspec.UNSET
    if set(field.values) == {"true", "false"}:
        flag = options.require(name, bool) if is_required else options.get(name, bool, default)
        return field.values[str(flag).lower()]
    literals = get_args(kind) if get_origin(kind) is Literal else ()
    choices = tuple(field.values) or literals
    if choices:
        choice = options.choice(name, choices, None if is_required else default)
        return field.values.get(choice, choice)
    value = options.require(name, kind) if is_required else options.get(name, kind, default)
    return None if value == field.none else value


def _placed(path: str, options: Options) -> tuple[Options, str]:
    """The section of an option and its name, for a path such as `modalities.audio.type`."""
    *sections, name = path.split(".")
    for section in sections:
        options = options.section(section)
    return options, name


def _built(config_type: type[C], values: Mapping[str, Any]) -> C:
    """The config of values by dotted name."""
    own: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        first, _, rest = name.partition(".")
        if rest:
            nested.setdefault(first, {})[rest] = value
        else:
            own[first] = value
    types = _field_types(config_type)
    for name, inner in nested.items():
        own[name] = _built(_struct_type(types[name]), inner)
    return config_type(**own)


@lru_cache
def _field_types(config_type: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(config_type)}


def _struct_type(kind: Any) -> Any:
    """The config's class in a type such as `TransformerConfig | None`."""
    return next((part for part in get_args(kind) if hasattr(part, "__struct_fields__")), kind)


def fbank_fields(options: Options) -> dict[str, Any]:
    """Fields of `FbankConfig` from options under torchaudio's names.

    Raises:
        CheckpointError: An option is not known, or asks for what is not implemented.
    """
    options.refuse_unknown((*FBANK_FIELDS, *FBANK_DEMANDS, *FBANK_WITHOUT_EFFECT))
    for name, (expected, reason) in FBANK_DEMANDS.items():
        options.demand(name, expected, reason)
    return {
        field: options.require(name, kind)
        for name, (field, kind) in FBANK_FIELDS.items()
        if name in options
    }


def rotary_rounding(weights: Mapping[str, Tensor], head_size: int, base: int) -> Rounding:
    """The type that frequencies of rotations among the weights (`inv_freq`) are rounded to.

    Raises:
        CheckpointError: They are not those of this base.
    """
    for key, weight in weights.items():
        if key.rpartition(".")[2] == "inv_freq":
            rounding: Rounding
            for rounding in get_args(Rounding):
                frequencies = rotary_frequencies(head_size, base, rounding)
                if weight.shape == frequencies.shape and torch.allclose(
                    weight.float(), frequencies, rtol=1e-6, atol=0
                ):
                    return rounding
            raise CheckpointError(
                f"{key} must be the rotary frequencies of {head_size} columns and base {base}, "
                "but is others, which are not implemented"
            )
    return "float32"
