"""Arguments of `extract`: what each must be, and which contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch

from auricle.catalogue.record import DEFAULT_MODEL
from auricle.errors import AuricleError
from auricle.info import FinalNorm
from auricle.models.base import Encoder
from auricle.models.outputs import Pool
from auricle.store.shards import KALDI_METHODS
from auricle.units.codebook import Units

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
    "compress": _one_of(None, *KALDI_METHODS),
    "on_error": _one_of("report", "stop"),
    "engine": _one_of("local", "ray"),
    **dict.fromkeys(
        ("refresh", "codes", "deduplicate", "check_weights", "streaming", "dry_run"), _FLAG
    ),
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


def check_arguments(model: str | Path | Encoder | None, **arguments: Any) -> None:
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
    _check_options_of_units(arguments)
    if isinstance(model, Encoder):
        for name, default in (("checkpoint", None), ("config", None), ("precision", "float32")):
            if arguments[name] != default:
                raise AuricleError(
                    f"got {name}={arguments[name]!r} and an encoder that is loaded; pass {name} to "
                    "auricle.load, or the name of the model here"
                )


def _check_options_of_units(arguments: Mapping[str, Any]) -> None:
    """Raise AuricleError where units are kept and options are for layers, or the other way."""
    if arguments["units"] is None:
        if arguments["deduplicate"] or not arguments["check_weights"]:
            raise AuricleError(
                "deduplicate=True (--deduplicate) and check_weights=False (--other-weights) are "
                "for units: pass units= (--units) too, or leave them out"
            )
        return
    if arguments["weights"] is not None or arguments["pool"] is not None or arguments["codes"]:
        raise AuricleError(
            "units are of one layer, frame by frame: leave weights= (--weights), pool= (--pool) "
            "and codes= (--codes) out, or units= (--units)"
        )
    if arguments["dtype"] not in ("float32", torch.float32):
        raise AuricleError(
            f"units are integers, but dtype= (--dtype) is {arguments['dtype']}; leave it out"
        )


def model_of(units: Units | None, checkpoint: Any) -> tuple[str, Any]:
    """The model and the checkpoint to load where no model is named.

    Raises:
        AuricleError: The units name none.
    """
    if units is None:
        return DEFAULT_MODEL, checkpoint
    if units.model is None:
        raise AuricleError(
            f"these units of {units.layer} name no model that could be loaded; pass model= "
            "(--model), the encoder that they are of"
        )
    return units.model, units.checkpoint if checkpoint is None else checkpoint


def check_units(
    encoder: Encoder,
    units: Units,
    layers: Sequence[int | str] | Literal["all"] | None,
    final_norm: FinalNorm | None,
) -> None:
    """Raise AuricleError where another layer is asked for than that of the units."""
    if layers is not None:
        names = encoder.layer_names(layers)
        if names != [units.layer]:
            raise AuricleError(
                f"these units are of {units.layer}, but layers= (--layer) names "
                f"{', '.join(names)}; leave it out"
            )
    if final_norm not in (None, units.final_norm):
        raise AuricleError(
            f"these units are of {units.layer} with final_norm={units.final_norm!r}, but "
            f"final_norm= (--final-norm) is {final_norm!r}; leave it out"
        )


def check_program_inputs(
    input_format: str | None, root: str | Path | None, engine: str, streaming: bool
) -> None:
    """Raise AuricleError where options do not go with waveforms and tables of the program."""
    for name, value in (("input_format", input_format), ("root", root)):
        if value is not None:
            raise AuricleError(
                f"got {name}={value!r}, which is for names of files, with audio of the program; "
                "leave it out"
            )
    if streaming or engine == "ray":
        raise AuricleError(
            "audio of the program lies on this machine until it is encoded: leave streaming= and "
            "engine= out, or pass names of files or data sets"
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
