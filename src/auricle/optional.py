"""Imports of optional packages: errors that name the missing package and how to install it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from auricle.errors import AuricleError, MissingExtraError

INSTALL_NAMES = {
    "PIL": "pillow",
    "dateutil": "python-dateutil",
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
