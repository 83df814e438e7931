"""Families of encoders: a data file each (`families/<stem>.toml`), read without torch."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from importlib import import_module, resources
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from auricle.catalogue.record import Record
from auricle.errors import AuricleError, PlugInError, UnknownModelError
from auricle.info import Paper
from auricle.optional import FAMILY_GROUP, PlugIn, described, find_plug_in, plug_ins

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from auricle.models.base import Encoder
    from auricle.models.definition import Config


class Size(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published size of a family.

    Attributes:
        parameters: Parameters of the encoder, without heads of pretraining.
        config: Options that differ from the defaults of the family's config.
        nulls: Options that are None (`features.target_level_db`), which TOML cannot write.
    """

    parameters: int
    config: dict[str, Any] = {}
    nulls: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """`config` with the options that are None."""
        options = copy.deepcopy(self.config)
        for null in self.nulls:
            *sections, name = null.split(".")
            section = options
            for each in sections:
                section = section[each]
            section[name] = None
        return options


class Demand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values that an option must have, where it is given, because no other is implemented."""

    values: tuple[Any, ...]
    reason: str


class Field(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Source of one field of a config: an option of the checkpoint, or a value of the family.

    Attributes:
        option: Name of the option, after the sections that lead to it (`paras.num_layers`).
        default: Value where the option is absent; without a default the option is required.
        values: Value of the field for each value of the option (`true` and `false` for a bool);
            empty where they are equal.
        none: Value of the option that stands for None, as does its absence.
        value: Value of the field in every checkpoint, without an option.
    """

    option: str | None = None
    default: Any = msgspec.UNSET
    values: dict[str, Any] = {}
    none: Any = msgspec.UNSET
    value: Any = None


class FamilyFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One format that checkpoints of a family have: recognition, options, names of weights.

    Attributes:
        options: Options, with their values, that set the family apart from others of the format;
            absent flags count as false.
        models: Beginnings of the model's name in a checkpoint of the family.
        parts: Parts of keys that only checkpoints of the family have.
        architecture: Class of the bare encoder in `transformers`.
        fields: Fields of the config (`transformer.num_layers`), in addition to those that the
            format has for every family, and instead of them.
        demands: Options of which only some values are implemented.
        keys: Patterns (original key, name in the encoder), before those that the format has for
            every family; `auricle.checkpoints.keymap` explains patterns.
        unused: Patterns of keys that the encoder does not need, in addition to the format's.
    """

    options: dict[str, Any] = {}
    models: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    architecture: str | None = None
    fields: dict[str, Field] = {}
    demands: dict[str, Demand] = {}
    keys: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()


class Family(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A family: its classes, its paper, the formats it is read from, its sizes and checkpoints.

    Classes are named as `package.module:Class` and imported when they are needed.

    Attributes:
        stem: Its name in code; that of its data file.
        title: Its name in print.
        encoder: The encoder's class; families may share one.
        config: The class of the encoder's config.
        input: Whether the encoder reads the waveform or a spectrogram.
        loss: The pretraining loss, in a phrase.
        objective: The class of the pretraining loss; None for a family without pretraining here.
        repository: The authors' code.
        paper: The publication.
        formats: Formats of its original checkpoints, by name.
        sizes: Published sizes by name.
        records: Published and embedded checkpoints.
        converter: For a plug-in: the module whose `FORMATS` are those of its checkpoints.
        plug_in: The plug-in that adds it, set by `find_family`.
    """

    stem: str
    title: str
    encoder: str
    config: str
    input: Literal["wave", "mel"]
    loss: str
    objective: str | None = None
    repository: str | None = None
    paper: Paper | None = None
    formats: dict[str, FamilyFormat] = {}
    sizes: dict[str, Size] = {}
    records: tuple[Record, ...] = ()
    converter: str | None = None
    plug_in: PlugIn | None = None

    def encoder_type(self) -> type[Encoder]:
        """The encoder's class; imports its module."""
        encoder_type: type[Encoder] = self._class(self.encoder)
        self._check_encoder_type(encoder_type)
        return encoder_type

    def config_type(self) -> type[Config]:
        """The class of the encoder's config; imports its module."""
        config_type: type[Config] = self._class(self.config)
        return config_type

    def presets(self) -> dict[str, Config]:
        """The published sizes by name; imports the config's module."""
        return {name: self.preset(name) for name in self.sizes}

    def preset(self, size: str) -> Config:
        """The config of a published size; imports its module.

        Raises:
            AuricleError: The config has no such option, or not of that value.
        """
        try:
            return msgspec.convert(self.sizes[size].options, self.config_type())
        except (KeyError, msgspec.ValidationError) as error:
            reason = f"its size {size} does not hold: {_in_words(error)}"
            raise self._broken(reason, f"compare it with {self.config}") from error

    def objective_type(self) -> Any:
        """The class of the family's pretraining loss; imports its module.

        Raises:
            LookupError: The family has none.
        """
        if self.objective is None:
            raise LookupError(f"the family {self.stem} has no pretraining objective")
        return self._class(self.objective)

    def converter_module(self) -> Any:
        """The module of a plug-in whose `FORMATS` are those of its checkpoints; None without."""
        return None if self.converter is None else self._module(self.converter)

    def _class(self, path: str) -> Any:
        module_name, _, name = path.partition(":")
        if not module_name or not name:
            raise self._broken(f"{path!r} names no class", CLASS_ADVICE)
        module = self._module(module_name)
        if not hasattr(module, name):
            raise self._broken(f"{module_name} has no {name}", CLASS_ADVICE)
        return getattr(module, name)

    def _module(self, name: str) -> Any:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            # Another module that is missing is a package that is not installed.
            if self.plug_in is None and not f"{name}.".startswith(f"{error.name}."):
                raise
            raise self._broken(f"{name}: {described(error)}", CLASS_ADVICE) from error
        except Exception as error:  # the module of another package may raise anything
            if self.plug_in is None:
                raise
            raise self._broken(f"{name}: {described(error)}", CLASS_ADVICE) from error

    def _check_encoder_type(self, encoder_type: object) -> None:
        from auricle.models.base import Encoder

        if not isinstance(encoder_type, type) or not issubclass(encoder_type, Encoder):
            reason = f"{self.encoder} must be a subclass of auricle.Encoder"
            raise self._broken(reason, CLASS_ADVICE)

    def _broken(self, reason: str, advice: str) -> AuricleError:
        """Build the error for a family whose data file, or plug-in, cannot be used."""
        if self.plug_in is not None:
            return self.plug_in.broken(reason)
        return _file_error(self.stem, f"{reason}; {advice}")


CLASS_ADVICE = "name a class as package.module:Class"
KEY_ADVICE = "the keys are the attributes of Family, Size, FamilyFormat, Field and Record"


def _file_error(stem: str, reason: str) -> AuricleError:
    return AuricleError(f"catalogue/families/{stem}.toml: {reason}")


def _in_words(error: Exception) -> str:
    """Format an error of msgspec with the words of TOML."""
    text = str(error).replace("Object contains unknown field", "unknown key")
    text = text.replace("Object missing required field", "missing key")
    return text.replace(" - at `$.", " at `")


def _read_families() -> Iterator[Family]:
    for path in resources.files(__package__).joinpath("families").iterdir():
        stem, _, suffix = path.name.rpartition(".")
        if suffix == "toml":
            yield _parsed(stem, _read_toml(stem, path.read_bytes()))


def _read_toml(stem: str, toml: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(toml.decode())
    except ValueError as error:  # of the syntax, or of the encoding
        raise _file_error(stem, f"it is not TOML in UTF-8: {error}; correct that line") from error


def _parsed(stem: str, content: dict[str, Any]) -> Family:
    """The family of a data file, whose title and paper its records have where they name none.

    Raises:
        AuricleError: The file has other keys or values than a family.
    """
    common = {key: content[key] for key in ("title", "paper") if key in content}
    try:
        records = [{**common, **entry, "family": stem} for entry in content.get("records", ())]
    except TypeError as error:
        raise _file_error(stem, "records must be tables; write [[records]]") from error
    try:
        family = msgspec.convert({**content, "stem": stem, "records": records}, Family)
    except msgspec.ValidationError as error:
        raise _file_error(stem, f"{_in_words(error)}; {KEY_ADVICE}") from error
    for record in family.records:
        if record.size is not None and record.size not in family.sizes:
            raise _file_error(
                stem,
                f"the size {record.size} of the record {record.name} has no table; add "
                f"[sizes.{record.size}], or name one of {', '.join(family.sizes) or 'none'}",
            )
    return family


def _by_date(family: Family) -> tuple[bool, str, str]:
    return (family.paper is None, family.paper.date if family.paper else "", family.stem)


FAMILIES: dict[str, Family] = {
    family.stem: family for family in sorted(_read_families(), key=_by_date)
}
"""The library's own families by stem, in the order of their papers, baselines last; `find_family`
knows those of plug-ins too."""

RECORDS: tuple[Record, ...] = tuple(
    record for family in FAMILIES.values() for record in family.records
)
"""Every record of the library, a family's together; `list_models` sorts them by date."""


def find_family(stem: str) -> Family:
    """A family of the library or of a plug-in, by its stem.

    A plug-in is imported only where its own family is asked for.

    Raises:
        UnknownModelError: There is no such family; the message lists those there are.
        PlugInError: The plug-in that adds it is broken.
    """
    if stem in FAMILIES:
        return FAMILIES[stem]
    plug_in = find_plug_in(FAMILY_GROUP, stem)
    if plug_in is None:
        known = ", ".join((*FAMILIES, *plug_ins(FAMILY_GROUP)))
        raise UnknownModelError(f"no family is called {stem!r}; expected one of {known}")
    family = plug_in.load(Family)
    if family.stem != plug_in.name or not family.stem.isidentifier():
        raise plug_in.broken(
            f"its family's stem is {family.stem!r}, expected {plug_in.name!r}, the name of the "
            "entry point, which must be a Python identifier"
        )
    return msgspec.structs.replace(family, plug_in=plug_in)


def is_family(stem: str) -> bool:
    """Return whether the library or a plug-in, perhaps a broken one, has a family of that stem."""
    return stem in FAMILIES or stem in plug_ins(FAMILY_GROUP)


def plug_in_families() -> tuple[list[Family], list[PlugInError]]:
    """The families of plug-ins, all of which are imported, and what is wrong with the others."""
    families, problems = [], []
    for stem, claims in plug_ins(FAMILY_GROUP).items():
        try:
            if stem in FAMILIES:
                raise claims[0].broken(f"the library has a family {stem} of its own")
            families.append(find_family(stem))
        except PlugInError as problem:
            problems.append(problem)
    return families, problems
