"""Arguments of `extract`: what each must be, and which contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeAlias, get_args

from auricle.errors import AuricleError
from auricle.extraction.selection import Pool
from auricle.models.base import Encoder

_Rule: TypeAlias = tuple[str, Callable[[Any], bool]]


def _one_of(*choices: str | bool | None) -> _Rule:
    *names, last = map(repr, choices)
    return (
        f"{', '.join(names)} or {last}",
        lambda x: isinstance(x, str | bool | None) and x in choices,
    )


def _number(kind: type, text: str, is_right: Callable[[Any], bool]) -> _Rule:
    return text, lambda x: isinstance(x, kind) and not isinstance(x, bool) and is_right(x)


def _or_none(rule: _Rule) -> _Rule:
    return f"None or {rule[0]}", lambda x: x is None or rule[1](x)


_FLAG = _one_of(False, True)
_SECONDS = _number(Real, "a positive number of seconds", lambda x: x > 0)
_NOT_NEGATIVE = _number(Real, "a number of seconds that is not negative", lambda x: x >= 0)
_COUNT = _or_none(_number(Integral, "a whole number from 0", lambda x: x >= 0))

_RULES: Mapping[str, _Rule] = {
    "pool": _one_of(None, *get_args(Pool)),
    "ids": _one_of("relative", "path"),
    "on_error": _one_of("report", "stop"),
    "engine": _one_of("local", "ray"),
    **dict.fromkeys(("refresh", "codes", "streaming", "dry_run"), _FLAG),
    "batch_seconds": _SECONDS,
    "window_seconds": _or_none(_SECONDS),
    "overlap_seconds": _NOT_NEGATIVE,
    "flush_seconds": _NOT_NEGATIVE,
    "shard_bytes": _number(Real, "a positive number of bytes", lambda x: x > 0),
    "channel": _COUNT,
    "num_workers": _COUNT,
    "num_actors": _or_none(_number(Integral, "a whole number from 1", lambda x: x >= 1)),
}
"""Argument of `extract` -> what it must be, in words and as a test."""


def check_arguments(model: str | Path | Encoder, **arguments: Any) -> None:
    """Raise AuricleError where an argument is wrong, or would be ignored beside another one."""
    for name, (expected, is_right) in _RULES.items():
        if not is_right(arguments[name]):
            raise AuricleError(f"{name} must be {expected}, but is {arguments[name]!r}")
    if arguments["engine"] == "local":
        for name in ("address", "num_actors"):
            if arguments[name] is not None:
                raise AuricleError(
                    f"got {name}={arguments[name]!r}, which is for a Ray cluster, with "
                    f'engine="local"; pass engine="ray", or leave {name} out'
                )
    if isinstance(model, Encoder):
        for name, default in (("checkpoint", None), ("config", None), ("precision", "float32")):
            if arguments[name] != default:
                raise AuricleError(
                    f"got {name}={arguments[name]!r} and an encoder that is loaded; pass {name} to "
                    "auricle.load, or the name of the model here"
                )


def check_streaming(
    input_format: str | None, root: str | Path | None, engine: str, dry_run: bool
) -> None:
    """Raise AuricleError where options do not go with streams."""
    if input_format not in (None, "dataset") or root is not None:
        raise AuricleError(
            "streams are data sets whose rows hold their audio: leave input_format= "
            "(--input-format) and root= (--root) out"
        )
    if dry_run:
        raise AuricleError(
            "how much a stream holds is not known before it is read: leave dry_run=True "
            "(--dry-run) out, or streaming=True (--streaming)"
        )
    if engine == "ray":
        raise AuricleError(
            "rows of a stream lie on this machine until they are encoded, where a cluster does not "
            'see them: pass engine="local" (--engine local), or leave streaming=True (--streaming) '
            "out"
        )
