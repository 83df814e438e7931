"""Encoders without memory for their weights: their layers and shapes, at no cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from auricle.models.base import Encoder
from auricle.models.definition import Config

_DRAWS = frozenset({Tensor.normal_, Tensor.uniform_})
"""What random weights are drawn with, other than by `torch.nn.init`."""


class _WithoutDraws(TorchFunctionMode):
    """Leaves tensors as they are instead of filling them with random numbers.

    On the meta device there is nothing to fill, but PyTorch imports its compiler for `normal_`
    there, which takes seconds.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS or getattr(func, "__module__", None) == torch.nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def skeleton(encoder_type: Callable[[Any], Encoder], config: Config) -> Encoder:
    """An encoder on the meta device: no memory is taken and no random numbers are drawn.

    Raises:
        RuntimeError, ValueError, OverflowError: The configuration does not make one.
    """
    with torch.device("meta"), _WithoutDraws():
        return encoder_type(config)
