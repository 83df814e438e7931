"""From the command line's words to an encoder and one of its layers."""

from __future__ import annotations

import argparse
import sys

from auricle.catalogue.record import DEFAULT_MODEL
from auricle.errors import AuricleError
from auricle.hub.loading import load
from auricle.models.base import Encoder


def choose_model(arguments: argparse.Namespace) -> None:
    """Set the embedded default as the model where none is named, and say so.

    Raises:
        AuricleError: A checkpoint is given without a name that says what it is.
    """
    if arguments.model is not None:
        return
    if arguments.checkpoint is not None or arguments.config is not None:
        raise AuricleError(
            "--checkpoint and --config go with --model NAME, the model that they are of; a "
            "checkpoint whose format tells that itself can be passed as --model PATH"
        )
    arguments.model = DEFAULT_MODEL
    print(f"auricle: {default_notice()}", file=sys.stderr)


def default_notice() -> str:
    """What a user should know who has not chosen a model."""
    return (
        f"no --model is named, so this is {DEFAULT_MODEL}: small, trained on two hours of speech, "
        "in the package; published models are better: `auricle list` shows them, and --model tera "
        "downloads one"
    )


def load_encoder(arguments: argparse.Namespace) -> Encoder:
    """The encoder that the options of the model, its weights and the device describe.

    Raises:
        AuricleError: It cannot be loaded, or this machine has no such device.
    """
    return load(
        arguments.model,
        checkpoint=arguments.checkpoint,
        config=arguments.config,
        device=arguments.device,
        precision=arguments.precision,
        refresh=arguments.refresh,
    )


def layer_argument(text: str | None) -> int | str | None:
    """A layer as `--layer` gives it, as an encoder takes it: an index, a name or None."""
    if text is not None and text.removeprefix("-").isdecimal():
        return int(text)
    return text
