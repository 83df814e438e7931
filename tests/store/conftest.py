"""Stores to write in tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from auricle.corpus.utterance import Utterance
from auricle.store.layout import LayerMeta, SelectionMeta, StoreMeta

HOSTILE_IDS = (
    "plain",
    "speaker/chapter/utterance",
    "plain/below",  # an id that is the folder of another
    "../../escape",
    "/absolute",
    "dots.in.a.name.npy",
    "dots.in.a.name.npy/below",
    ".hidden",
    "a//b",
    "ends/",
    "100%",
    "100%25",
    "наука/日本語/é",
    'c:\\back*slash?"<>|',
    "long" * 200,
)


@pytest.fixture
def make_meta() -> Callable[..., StoreMeta]:
    """Makes what a store of layers (name -> dim) holds; further fields by name."""

    def make(
        dims: Mapping[str, int] | None = None, *, pool: str | None = None, **fields: Any
    ) -> StoreMeta:
        dims = dims or {"hidden_12": 6}
        given = {
            "format": "store",
            "model": "apc_mini",
            "family": "apc",
            "layers": tuple(
                LayerMeta(name=name, dim=dim, hop_samples=160) for name, dim in dims.items()
            ),
            "sample_rate": 16000,
            "dtype": "int32" if fields.get("format") == "text" else "float32",
            "selection": SelectionMeta(layers=tuple(dims), pool=pool),
            "encoder_dtype": "float32",
            "model_sha256": "ab" * 32,
            "library_version": "0.1.0",
        }
        return StoreMeta(**{**given, **fields})

    return make


@pytest.fixture
def make_items() -> Callable[..., list[tuple[Utterance, dict[str, Tensor]]]]:
    """Makes utterances with random arrays of 3, 4, ... frames, or of one where they are pooled."""

    def make(
        meta: StoreMeta, ids: Sequence[str], *, seed: int = 0
    ) -> list[tuple[Utterance, dict[str, Tensor]]]:
        generator = torch.Generator().manual_seed(seed)
        dtype = getattr(torch, meta.dtype)
        items = []
        for index, name in enumerate(ids):
            utterance = Utterance(id=name, source=f"corpus/{index}.flac", start=0.5, seconds=1.25)
            frames = 1 if meta.selection.pool else index + 3
            arrays = {
                layer.name: (torch.randn(frames, layer.dim, generator=generator) * 100).to(dtype)
                for layer in meta.layers
            }
            items.append((utterance, arrays))
        return items

    return make


@pytest.fixture
def hostile_ids() -> tuple[str, ...]:
    """Ids that a file system, an archive or a manifest may stumble over."""
    return HOSTILE_IDS
