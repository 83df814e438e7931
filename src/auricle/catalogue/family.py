"""Families of encoders: a data file each (`families/<stem>.toml`), read without torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module, resources
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from auricle.catalogue.record import Record
from auricle.errors import PlugInError, UnknownModelError
from auricle.info import Paper
from auricle.plug_ins import FAMILY_GROUP, PlugIn, described, find_plug_in, plug_ins

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
    """

    parameters: int
    config: dict[str, Any] = {}


class Family(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A family: its stem, its class, what its paper says, its published sizes and checkpoints.

    Attributes:
        stem: Its name in code; that of its data file.
        title: What its authors call it.
        class_name: Its encoder's class.
        input: Whether the encoder reads the waveform or a spectrogram.
        loss: The pretraining loss, in a phrase.
        repository: The authors' code.
        paper: The publication.
        sizes: Published sizes by name.
        records: Published and embedded checkpoints.
        encoder_module_name: Where `class_name` is; `auricle.models.<stem>` if None. Required of
            a plug-in.
        objective_module_name: Where `<class_name>Objective` is; `auricle.objectives.<stem>` if
            None. A family without pretraining here has none.
        converter_module_name: Where `convert(payload)` is; `auricle.convert.<stem>` if None.
        plug_in: The plug-in that it is from, set by `find_family`.
    """

    stem: str
    title: str
    class_name: str
    input: Literal["wave", "mel"]
    loss: str
    repository: str | None = None
    paper: Paper | None = None
    sizes: dict[str, Size] = {}
    records: tuple[Record, ...] = ()
    encoder_module_name: str | None = None
    objective_module_name: str | None = None
    converter_module_name: str | None = None
    plug_in: PlugIn | None = None

    def encoder_module(self) -> Any:
        """The module with the family's encoder, config and published sizes; imports it."""
        return self._module("models", self.encoder_module_name)

    def encoder_type(self) -> type[Encoder]:
        """The encoder's class; imports its module."""
        encoder_type: type[Encoder] = self._attribute(self.encoder_module(), self.class_name)
        if self.plug_in is not None:
            self._check_encoder_type(self.plug_in, encoder_type)
        return encoder_type

    def build(self, config: Config) -> Encoder:
        """An encoder of the family, with the weights that its class begins with."""
        encoder = self.encoder_type()(config)
        encoder.family = self.stem  # families may share a class
        encoder.title, encoder.paper = self.title, self.paper
        return encoder

    def size_names(self) -> tuple[str, ...]:
        """Names of the published sizes; of a plug-in's family its encoder's module is imported."""
        return tuple(self.presets() if self.plug_in is not None else self.sizes)

    def presets(self) -> Mapping[str, Config]:
        """The published sizes by name; imports the encoder's module."""
        if self.plug_in is None:
            return {name: self.preset(name) for name in self.sizes}
        presets: Mapping[str, Config] = self._attribute(self.encoder_module(), "PRESETS")
        return presets

    def preset(self, size: str) -> Config:
        """The config of a published size; imports the encoder's module."""
        if self.plug_in is None:
            return msgspec.convert(self.sizes[size].config, self.encoder_type().config_type)
        presets = self.presets()
        if size not in presets:
            raise self.plug_in.broken(f"it has no size {size}, only {', '.join(presets)}")
        return presets[size]

    def objective_type(self) -> Any:
        """The class of the family's pretraining loss; imports its module.

        Raises:
            LookupError: There is none.
        """
        module = self._module("objectives", self.objective_module_name)
        return self._attribute(module, f"{self.class_name}Objective")

    def converter(self) -> Any:
        """The module that reads the family's original checkpoints; imports it."""
        return self._module("convert", self.converter_module_name)

    def _module(self, layer: str, own_name: str | None) -> Any:
        if self.plug_in is None:
            name = own_name or f"auricle.{layer}.{self.stem}"
            # Asked before, so that a module that lacks something else is not taken for absent.
            if find_spec(name) is None:
                raise LookupError(f"the family {self.stem} brings nothing for {layer}")
            return import_module(name)
        if own_name is None:
            raise LookupError(f"the plug-in {self.plug_in} brings nothing for {layer}")
        try:
            return import_module(own_name)
        except Exception as error:  # somebody else's module may raise anything
            raise self.plug_in.broken(f"{own_name}: {described(error)}") from error

    def _attribute(self, module: Any, name: str) -> Any:
        if self.plug_in is not None and not hasattr(module, name):
            raise self.plug_in.broken(f"{module.__name__} has no {name}")
        return getattr(module, name)

    def _check_encoder_type(self, plug_in: PlugIn, encoder_type: object) -> None:
        from auricle.models.base import Encoder

        if not isinstance(encoder_type, type) or not issubclass(encoder_type, Encoder):
            raise plug_in.broken(f"{self.class_name} must be a subclass of auricle.Encoder")
        if getattr(encoder_type, "family", None) != self.stem:
            raise plug_in.broken(f"{self.class_name}.family must be {self.stem!r}")


def _read_families() -> Iterator[Family]:
    for path in resources.files(__package__).joinpath("families").iterdir():
        stem, _, suffix = path.name.rpartition(".")
        if suffix == "toml":
            yield _parsed(stem, tomllib.loads(path.read_text(encoding="utf-8")))


def _parsed(stem: str, content: dict[str, Any]) -> Family:
    """The family of a data file, whose title and paper its records have where they name none."""
    common = {key: content[key] for key in ("title", "paper") if key in content}
    records = [{**common, **entry, "family": stem} for entry in content.get("records", ())]
    return msgspec.convert({**content, "stem": stem, "records": records}, Family)


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
    if family.encoder_module_name is None:
        raise plug_in.broken("its family names no encoder_module_name")
    return msgspec.structs.replace(family, plug_in=plug_in)


def is_family(stem: str) -> bool:
    """Whether the library or a plug-in, perhaps a broken one, has a family of that stem."""
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
