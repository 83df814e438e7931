"""Reduced-precision inference (fp16, bf16, int8): faster, and no longer the authors' numbers.

And the digest that says if two encoders compute the same.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal, cast, get_args

import msgspec
import torch
from torch import nn

from auricle.errors import AuricleError
from auricle.models.base import Encoder
from auricle.nn.cpu import prepack
from auricle.nn.linear import Linear

Precision = Literal["float32", "fp16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

TYPES = {"float32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Type of the weights of those that are types."""


def set_precision(encoder: Encoder, precision: Precision) -> None:
    """Let an encoder compute with so many bits.

    Args:
        encoder: Where its weights are; "int8" is for the CPU.
        precision: `"float32"`; `"fp16"` or `"bf16"` for weights and products in that type; or
            `"int8"` for products of the Transformer's linear layers in 8 bits, with a scale for
            each output of a layer and one for its whole input, the rest in float32.

    Raises:
        AuricleError: There is no such precision, or the encoder cannot have it.
    """
    if precision not in PRECISIONS:
        raise AuricleError(
            f"precision must be one of {', '.join(PRECISIONS)}, but is {precision!r}"
        )
    layers: list[Linear] = []
    if precision == "int8":
        if encoder.device.type != "cpu":
            raise AuricleError(f"int8 is for the CPU; take bf16 on {encoder.device}")
        layers = _int8_linears(encoder)
        if not layers:
            raise AuricleError(
                f"int8 is for the linear layers of Transformers, and {encoder.family} has none; "
                "take bf16"
            )
        if not prepack.int8_is_right():
            raise AuricleError(
                "this processor, or this torch, has no products of 8 bits that add up without "
                "overflow; take bf16"
            )
    encoder.to(TYPES.get(precision, torch.float32))
    for part in encoder.modules():
        if isinstance(part, Linear):
            part.is_int8 = False
    for linear in layers:
        linear.is_int8 = True


def precision_of(encoder: Encoder) -> str:
    """The precision that `set_precision` has set, or the name of the weights' type."""
    if any(isinstance(part, Linear) and part.is_int8 for part in encoder.modules()):
        return "int8"
    return str(encoder.dtype).removeprefix("torch.")


def _int8_linears(encoder: Encoder) -> list[Linear]:
    """The layers that int8 serves: those that blocks name by a method `linears()`.

    Raises:
        AuricleError: A block of a stack of Transformer layers names none.
    """
    named: list[nn.Module] = []
    for stack in encoder.modules():
        if not isinstance(stack, nn.ModuleList):
            continue
        is_asked = [callable(getattr(block, "linears", None)) for block in stack]
        if not any(is_asked):
            continue
        if not all(is_asked):
            block = type(stack[is_asked.index(False)]).__name__
            raise AuricleError(
                f"int8 asks each block for its linear layers, but {block} has no method linears(); "
                "take bf16"
            )
        named += [linear for block in stack for linear in cast("Any", block).linears()]
    if not named and encoder.looks_ahead:
        raise AuricleError(
            f"int8 asks each block for its linear layers, but no block of {encoder.family} has a "
            "method linears(); take bf16"
        )
    return [linear for linear in named if isinstance(linear, Linear)]


def encoder_sha256(encoder: Encoder) -> str:
    """Digest, in hex, of all that decides what an encoder gives: family, configuration, weights.

    Unlike the digest of a checkpoint's file it is there for every encoder, and is the same
    whatever format the weights came in.
    """
    digest = hashlib.sha256(encoder.family.encode())
    digest.update(msgspec.json.encode(encoder.config))
    if precision_of(encoder) == "int8":
        digest.update(b"int8")  # other types are those of the weights
    for name, weight in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(memoryview(weight.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()
