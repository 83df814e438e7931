"""Optional packages: imports with errors that say how to install what is missing, and plug-ins.

Plug-ins are entry points of other installed packages and are loaded on first use.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any, TypeVar

from auricle.errors import AuricleError, MissingExtraError, PlugInError

INSTALL_NAMES = {
    "PIL": "pillow",
    "dateutil": "python-dateutil",
    "espnet2": "espnet",
    "faiss": "faiss-cpu",
    "google": "protobuf",
    "pkg_resources": "'setuptools<81'",
    "ray": "'ray[data]'",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Module name -> name of the distribution that pip installs, where they differ."""

EXTRAS = {
    "accelerate": "train",
    "gradio": "explore",
    "matplotlib": "plot",
    "praatio": "plot",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "shtab": "completion",
    "sklearn": "probe",
    "starlette": "explore",
    "tensorboard": "train",
}
"""Module name -> the extra of auricle that installs all packages of the feature."""


@contextmanager
def optional(package: str, purpose: str) -> Iterator[None]:
    """Guard import statements of an optional package.

    Args:
        package: The top-level module that is imported.
        purpose: The feature that needs the package, as subject of the message: "drawing".

    Raises:
        MissingExtraError: The package, or a module that it imports, is not installed; or it is
            installed and its import fails.
    """
    try:
        yield
    except AuricleError:
        raise
    except Exception as error:  # a broken or outdated package may raise anything
        raise missing_extra(package, purpose, error) from error
    if _is_bare_folder(package):
        raise MissingExtraError(
            f"{purpose} needs {package}, which is not installed, and a folder of that name is "
            f"imported in its place; {_advice(package)}",
            name=package,
        )


def missing_extra(package: str, purpose: str, error: Exception) -> MissingExtraError:
    """Build the error for an optional package that cannot be imported, or lacks a dependency.

    Args:
        package: The top-level module of the optional package.
        purpose: The feature that needs the package, as subject of the message.
        error: The exception raised on import or on use of the package.
    """
    missing = missing_module(error)
    if missing == package:
        message = f"{purpose} needs {package}, which is not installed; {_advice(package)}"
    elif missing is not None:
        message = (
            f"{purpose} needs {package}, which is installed but does not work without {missing}, "
            f"which is missing; {_advice(missing)}"
        )
    else:
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(" :")
        message = (
            f"{purpose} needs {package}, which is installed but fails ({reason}); install what it "
            f"asks for, or another release: pip install --upgrade {_install_name(package)}"
        )
    return MissingExtraError(message, name=missing or package)


def missing_module(error: BaseException | None) -> str | None:
    """Find the module whose absence caused an error; None if no import failed for that reason.

    Follows causes, and from an import error without a name (`raise ImportError("install x")`) the
    error that was being handled.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ModuleNotFoundError) and error.name:
            top = error.name.partition(".")[0]
            return error.name if find_spec(top) else top
        cause = error.__cause__
        if cause is None and isinstance(error, ImportError) and error.name is None:
            cause = error.__context__
        error = cause
    return None


def _advice(module: str) -> str:
    advice = f"run pip install {_install_name(module)}"
    extra = EXTRAS.get(module.partition(".")[0])
    return advice if extra is None else f"{advice}, or pip install '.[{extra}]' in auricle's clone"


def _install_name(module: str) -> str:
    top = module.partition(".")[0]
    return INSTALL_NAMES.get(top, top)


def _is_bare_folder(package: str) -> bool:
    """Detect a namespace package: a folder on the path that shadows the missing package."""
    module = sys.modules.get(package)
    return module is not None and getattr(module, "__file__", "") is None


FAMILY_GROUP = "auricle.families"
RECORD_GROUP = "auricle.records"

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PlugIn:
    """One entry point of another package, named after the family or record that it adds."""

    entry_point: Any  # an importlib.metadata.EntryPoint, whose module takes long to import

    @property
    def name(self) -> str:
        """The stem of the family, or the name of the record, that it adds."""
        return str(self.entry_point.name)

    @property
    def distribution(self) -> str:
        """Name of the distribution that provides the entry point."""
        # Not every metadata finder provides the distribution of an entry point.
        return str(self.entry_point.dist.name) if self.entry_point.dist else "an unnamed package"

    def __str__(self) -> str:
        version = f" {self.entry_point.dist.version}" if self.entry_point.dist else ""
        group, value = self.entry_point.group, self.entry_point.value
        return f"{self.distribution}{version}, entry point {self.name} = {value} of {group}"

    def broken(self, reason: object) -> PlugInError:
        """Build the error for a plug-in that cannot be used."""
        return PlugInError(
            f"the plug-in {self.name} ({self}) is broken: {reason}; fix or uninstall "
            f"{self.distribution}"
        )

    def load(self, kind: type[T]) -> T:
        """Import the object that the entry point names.

        Raises:
            PlugInError: The module cannot be imported, or the object is not a `kind`.
        """
        try:
            loaded = self.entry_point.load()
        except Exception as error:  # third-party code may raise anything
            raise self.broken(described(error)) from error
        if not isinstance(loaded, kind):
            raise self.broken(
                f"it is a {type(loaded).__name__}, expected {kind.__module__}.{kind.__name__}"
            )
        return loaded


def described(error: Exception) -> str:
    """Format an exception of third-party code as type and message."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@cache
def plug_ins(group: str) -> dict[str, tuple[PlugIn, ...]]:
    """Find the plug-ins of a group by name, sorted; several per name where names clash.

    The metadata of installed packages is read once per process; no plug-in is imported.
    """
    from importlib.metadata import entry_points

    try:
        found = [PlugIn(entry_point) for entry_point in entry_points(group=group)]
        found.sort(key=lambda plug_in: (plug_in.name, str(plug_in)))
    except Exception as error:  # damaged metadata may raise anything
        logger.warning(
            "the entry points of installed packages cannot be read, so there are no plug-ins: %s",
            described(error),
        )
        return {}
    by_name: dict[str, tuple[PlugIn, ...]] = {}
    for plug_in in found:
        by_name[plug_in.name] = (*by_name.get(plug_in.name, ()), plug_in)
    return by_name


def find_plug_in(group: str, name: str) -> PlugIn | None:
    """Find the plug-in of a group by name; None if there is none.

    Raises:
        PlugInError: Several packages claim the name.
    """
    claims = plug_ins(group).get(name, ())
    if len(claims) > 1:
        raise PlugInError(
            f"several plug-ins are called {name}: {'; '.join(map(str, claims))}; uninstall all but "
            "one of them"
        )
    return claims[0] if claims else None
