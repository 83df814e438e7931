"""Frames to fit units on, an utterance at a time: of a store, or of audio by an encoder."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auricle.corpus.listing import input_texts, list_utterances
from auricle.corpus.reading import read_utterance
from auricle.errors import AudioError, AuricleError, LayerError
from auricle.geometry import SAMPLE_RATE
from auricle.hub.load import load
from auricle.info import FinalNorm
from auricle.models.base import Encoder
from auricle.store.folder import open_folder
from auricle.store.layout import read_meta
from auricle.store.reader import Store, open_store
from auricle.units.codebook import known_sha256

logger = logging.getLogger(__name__)

CACHE_BYTES = 2**31
"""Frames that are kept in memory for later passes; the rest is read, or encoded, once a pass."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameSource:
    """Frames of utterances, by index.

    Attributes:
        num_utterances: Utterances.
        read: Frames (T, D), float32, on the CPU, of an utterance; None where it cannot be encoded.
        facts: Fields of `Units`: the encoder, its layer, the data.
        digest: Digest of the utterances and the encoder, in hex.
    """

    num_utterances: int
    read: Callable[[int], Tensor | None]
    facts: Mapping[str, Any]
    digest: str

    def cached(self, max_bytes: int = CACHE_BYTES) -> FrameSource:
        """The same frames, of which the first that are read stay in memory."""
        kept: dict[int, Tensor | None] = {}
        num_left = max_bytes

        def read(index: int) -> Tensor | None:
            nonlocal num_left
            if index in kept:
                return kept[index]
            x = self.read(index)
            size = 0 if x is None else x.nbytes
            if size <= num_left:
                kept[index] = x
                num_left -= size
            return x

        return dataclasses.replace(self, read=read)


def frame_source(
    inputs: str | Path | Sequence[str | Path] | Store,
    *,
    model: str | Path | Encoder | None,
    layer: int | str,
    checkpoint: str | None = None,
    final_norm: FinalNorm = "keep",
    device: str = "auto",
) -> FrameSource:
    """Frames of a store, or of inputs of `auricle.extract` by an encoder.

    Raises:
        AudioError: Inputs cannot be read, or hold nothing usable.
        LayerError: The encoder, or the store, has no such layer.
        AuricleError: A store holds no frames of a layer, or those of another model; no model is
            given for audio.
    """
    store = inputs if isinstance(inputs, Store) else _store_at(inputs)
    if store is not None:
        return _stored_frames(store, model, layer, final_norm)
    assert not isinstance(inputs, Store)
    if model is None:
        raise AuricleError("audio is encoded by a model: pass model= (--model)")
    name = None if isinstance(model, Encoder) else str(model)
    if not isinstance(model, Encoder):
        model = load(model, checkpoint=checkpoint, device=device)
    facts = {
        "model": name or model.provenance.name,
        "checkpoint": checkpoint,
        "data": ", ".join(input_texts(inputs)),
    }
    return _encoded_frames(input_texts(inputs), model, layer, final_norm, facts)


def _store_at(inputs: str | Path | Sequence[str | Path]) -> Store | None:
    """The store at a location; None where the inputs are audio."""
    if not isinstance(inputs, str | Path):
        return None
    if not (Path(inputs) / "meta.json").is_file() and "://" not in str(inputs):
        return None
    if str(inputs).startswith("hf-dataset://") or read_meta(open_folder(inputs)) is None:
        return None
    return open_store(inputs)


def _stored_frames(
    store: Store, model: str | Path | Encoder | None, layer: int | str, final_norm: FinalNorm
) -> FrameSource:
    meta, selection = store.meta, store.meta.selection
    if selection.pool is not None or selection.codes or selection.weights is not None:
        raise AuricleError(
            f"{store.location} holds no frames of a layer, but codes, sums or pooled frames; "
            "extract the layer itself"
        )
    name = meta.model if model is None or isinstance(model, Encoder) else str(model)
    family = model.family if isinstance(model, Encoder) else meta.family
    if family != meta.family or name != meta.model:
        raise AuricleError(
            f"{store.location} has frames of {meta.model} ({meta.family}), not of {name}; leave "
            "model= out, or extract again"
        )
    if final_norm not in ("keep", selection.final_norm):
        raise AuricleError(
            f"{store.location} was extracted with final_norm={selection.final_norm!r}, not "
            f"{final_norm!r}; extract again"
        )
    if layer not in store.layers:
        raise LayerError(
            f"{store.location} has no layer {layer!r}: name one of {', '.join(store.layers)}"
        )
    layer = str(layer)
    ids = store.ids
    digest = _digest(
        (meta.model_sha256, layer), ((one, store.num_frames(one, layer=layer)) for one in ids)
    )
    return FrameSource(
        num_utterances=len(ids),
        read=lambda index: store.get(ids[index], layer=layer).float(),
        facts={
            "layer": layer,
            "model": meta.model,
            "family": meta.family,
            "final_norm": selection.final_norm,
            "weights_digest": meta.model_sha256 if meta.encoder_dtype == "float32" else None,
            "checkpoint_digest": meta.checkpoint_sha256,
            "data": store.location,
        },
        digest=digest,
    )


def _encoded_frames(
    texts: Sequence[str],
    encoder: Encoder,
    layer: int | str,
    final_norm: FinalNorm,
    facts: Mapping[str, Any],
) -> FrameSource:
    info = encoder.layer_info(layer)
    encoder.check_final_norm(final_norm)
    listing = list_utterances(texts)
    utterances = listing.utterances
    if not utterances:
        raise AudioError(f"no utterance can be used of {', '.join(texts)}")
    digest = known_sha256(encoder)

    def read(index: int) -> Tensor | None:
        try:
            waveform = read_utterance(utterances[index], sample_rate=SAMPLE_RATE)
            with torch.inference_mode():
                (x,) = encoder([waveform], info.name, final_norm=final_norm)
        except AudioError as error:
            logger.warning("left out: %s", error)
            return None
        return x.cpu()

    return FrameSource(
        num_utterances=len(utterances),
        read=read,
        facts={
            **facts,
            "layer": info.name,
            "family": encoder.family,
            "final_norm": final_norm,
            "weights_digest": digest,
            "checkpoint_digest": encoder.provenance.sha256,
        },
        digest=_digest(
            (digest, info.name, final_norm),
            ((one.id, one.start, one.seconds) for one in utterances),
        ),
    )


def _digest(first: object, rows: Iterable[object]) -> str:
    digest = hashlib.sha256(repr(first).encode())
    for row in rows:
        digest.update(repr(row).encode(errors="surrogateescape"))
    return digest.hexdigest()
