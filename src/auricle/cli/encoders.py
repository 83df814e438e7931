"""From the command line's words to an encoder and one of its layers."""

from __future__ import annotations

import argparse

import torch

from auricle.hub.loading import load
from auricle.models.base import Encoder
from auricle.outputs import LayerInfo


def load_encoder(arguments: argparse.Namespace) -> Encoder:
    """The encoder that `--model`, `--checkpoint`, `--config`, `--device` and `--dtype` describe.

    Raises:
        AuricleError: It cannot be loaded, or this machine has no such device.
    """
    dtype: torch.dtype = getattr(torch, arguments.dtype)
    return load(
        arguments.model,
        checkpoint=arguments.checkpoint,
        config=arguments.config,
        device=arguments.device,
        dtype=dtype,
    )


def layer_argument(text: str | None) -> int | str | None:
    """A layer as `--layer` gives it, as an encoder takes it: an index, a name or None."""
    if text is not None and text.removeprefix("-").isdecimal():
        return int(text)
    return text


def find_layer(encoder: Encoder, layer: int | str | None) -> LayerInfo:
    """The layer that an index, a name or None (the default one) stands for.

    Raises:
        LayerError: The encoder has no such layer; the message lists those it has.
    """
    encoder.num_frames(0, layer)
    if isinstance(layer, int):
        return encoder.layer_infos[layer]
    name = encoder.default_layer if layer is None else layer
    return next(info for info in encoder.layer_infos if info.name == name)
