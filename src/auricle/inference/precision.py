"""Fewer bits where they are asked for: faster, and no longer the authors' numbers."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn

from auricle.errors import AuricleError
from auricle.models.base import Encoder
from auricle.nn import packed
from auricle.nn.bert import BertLayer
from auricle.nn.linear import Linear
from auricle.nn.waveform_transformer import TransformerLayer

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
    layers = _transformer_linears(encoder)
    if precision == "int8":
        if encoder.device.type != "cpu":
            raise AuricleError(f"int8 is for the CPU; take bf16 on {encoder.device}")
        if not layers:
            raise AuricleError(
                f"int8 is for the linear layers of Transformers, and {encoder.family} has none; "
                "take bf16"
            )
        if not packed.int8_is_right():
            raise AuricleError(
                "this processor, or this torch, has no products of 8 bits that add up without "
                "overflow; take bf16"
            )
    encoder.to(TYPES.get(precision, torch.float32))
    for linear in layers:
        linear.is_int8 = precision == "int8"


def precision_of(encoder: Encoder) -> str:
    """What `set_precision` was told, or the name of the weights' type."""
    if any(linear.is_int8 for linear in _transformer_linears(encoder)):
        return "int8"
    return str(encoder.dtype).removeprefix("torch.")


def _transformer_linears(encoder: nn.Module) -> list[Linear]:
    linears = []
    for layer in encoder.modules():
        if isinstance(layer, BertLayer | TransformerLayer):
            attention = layer.attention
            parts = (attention.query, attention.key, attention.value, attention.out)
            linears += [*parts, layer.ffn_in, layer.ffn_out]
    return [linear for linear in linears if isinstance(linear, Linear)]
