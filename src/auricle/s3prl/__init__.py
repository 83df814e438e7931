"""Drop-in for s3prl: `import auricle.s3prl as s3prl`, or `install()` for programs of others.

It has what programs import of s3prl to get representations: `s3prl.nn.S3PRLUpstream` and
`Featurizer`, the entry points of `s3prl.hub`, and `s3prl.util.download.set_dir`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from auricle.errors import AuricleError
from auricle.hub.cache import CACHE_VARIABLE

if TYPE_CHECKING:
    from auricle.s3prl import hub as hub
    from auricle.s3prl import nn as nn

NAME = "s3prl"


def set_dir(folder: str | os.PathLike[str]) -> None:
    """Keep downloads of this process in a folder, unless AURICLE_CACHE names one already."""
    os.environ.setdefault(CACHE_VARIABLE, os.fspath(folder))


util = SimpleNamespace(download=SimpleNamespace(set_dir=set_dir))


def __getattr__(name: str) -> Any:
    if name in ("hub", "nn"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def install() -> None:
    """Let `import s3prl`, anywhere in this process, find this package.

    Call it before the program that imports s3prl. Calling it again does nothing.

    Raises:
        AuricleError: Another s3prl has been imported already.
    """
    found = sys.modules.get(NAME)
    if found is not None and not isinstance(getattr(found, "__loader__", None), _Loader):
        raise AuricleError(
            f"s3prl has been imported already, from {getattr(found, '__file__', None)}; call "
            "auricle.s3prl.install() before anything imports it"
        )
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


_CONTENTS: Mapping[str, Callable[[], Any]] = {
    NAME: lambda: sys.modules[__name__],
    f"{NAME}.hub": lambda: import_module(f"{__name__}.hub"),
    f"{NAME}.nn": lambda: import_module(f"{__name__}.nn"),
    f"{NAME}.nn.upstream": lambda: import_module(f"{__name__}.nn"),
    f"{NAME}.util": lambda: util,
    f"{NAME}.util.download": lambda: util.download,
}
"""Module of s3prl -> what has its contents."""

_IDENTITY = ("__name__", "__spec__", "__loader__", "__package__", "__path__", "__cached__")
"""Attributes of a module that are its own."""


class _Loader(Loader):
    """Fills a module of s3prl with the contents of its counterpart."""

    def exec_module(self, module: ModuleType) -> None:
        contents = vars(_CONTENTS[module.__name__]())
        vars(module).update({k: x for k, x in contents.items() if k not in _IDENTITY})


class _Finder(MetaPathFinder):
    """Finds the modules of s3prl that have counterparts."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname not in _CONTENTS:
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in _CONTENTS)
        return ModuleSpec(fullname, _Loader(), is_package=is_package)
