"""What the tests of streams share: a waveform cut into pushes, and what comes out of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from auricle.models.base import Encoder

CUT_LIMIT = 1e-5
"""Largest deviation that cutting samples otherwise may make, in standard deviations."""

cut_lengths = st.lists(st.sampled_from([0, 1, 37, 159, 160, 161, 400, 1600, 4000]), min_size=1)
"""Lengths of pushes, to be gone through again and again."""


def streamed(encoder: Encoder, wav: Tensor, cuts: Iterable[int] = (), **options: Any) -> Tensor:
    """All that a stream gives of `wav`, pushed in pieces as long as `cuts`, over and over."""
    session = encoder.stream(**options)
    lengths = list(cuts)
    lengths = lengths if any(lengths) else [*lengths, len(wav)]
    outputs, start, index = [], 0, 0
    while start < len(wav):
        length = lengths[index % len(lengths)]
        outputs.append(session.push(wav[start : start + length]))
        start, index = start + length, index + 1
    outputs.append(session.finish())
    assert session.num_frames == sum(map(len, outputs))
    assert session.num_samples == len(wav)
    return torch.cat(outputs)


def kept_bytes(thing: object, seen: set[int] | None = None) -> int:
    """Bytes of all tensors that an object holds, modules apart, each with all of its storage."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, nn.Module):
        return 0
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        storage = thing.untyped_storage()
        is_known = storage.data_ptr() in seen
        seen.add(storage.data_ptr())
        return 0 if is_known or thing.requires_grad else storage.nbytes()
    if isinstance(thing, dict):
        return sum(kept_bytes(value, seen) for value in thing.values())
    if isinstance(thing, list | tuple):
        return sum(kept_bytes(value, seen) for value in thing)
    if callable(thing) and hasattr(thing, "__closure__"):
        cells = thing.__closure__ or ()
        return sum(kept_bytes(cell.cell_contents, seen) for cell in cells)
    return kept_bytes(vars(thing), seen) if hasattr(thing, "__dict__") else 0
