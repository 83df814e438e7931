"""Frames that units are fitted on, of a store or of audio, and options and state of the fit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from auricle.corpus.listing import input_texts, list_utterances
from auricle.corpus.reading import read_utterance
from auricle.errors import AudioError, AuricleError, CheckpointError, LayerError
from auricle.files.atomic import write_whole
from auricle.files.safetensors import write_safetensors
from auricle.hub.load import load
from auricle.info import SAMPLE_RATE, FinalNorm
from auricle.models.base import Encoder
from auricle.store.folder import open_folder
from auricle.store.layout import read_meta
from auricle.store.reader import Store, open_store
from auricle.units.centroids import Engine
from auricle.units.codebook import Normalization, known_sha256

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


BATCH_FRAMES = 10_000
"""Frames of a step at least: 200 s of speech at 50 frames a second, of some 15 utterances."""

MIN_STEPS = 100
"""Steps that a stage takes at least, in whole passes, unless passes are given."""

STATE_KEY = "auricle_units_fit"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Options of a fit, all of which decide its result.

    Attributes:
        num_clusters: V.
        num_stages: R, of a residual stack; 1 for plain units.
        passes: Passes over the data in each stage; None for as many as make `MIN_STEPS` steps.
        batch_frames: Frames of a step, at least: batches are of whole utterances.
        sample: Part of the utterances that are used, chosen at random.
        seed: Seed of everything random.
        normalization: Of frames; the statistics of `"standard"` are those of the seeding sample.
        engine: Library that computes the steps.
    """

    num_clusters: int
    num_stages: int = 1
    passes: int | None = None
    batch_frames: int = BATCH_FRAMES
    sample: float = 1.0
    seed: int = 0
    normalization: Normalization = "none"
    engine: Engine = "sklearn"

    def __post_init__(self) -> None:
        counts = ("num_clusters", "num_stages", "batch_frames", "passes")
        for name in counts:
            value = getattr(self, name)
            if not (name == "passes" and value is None) and (type(value) is not int or value < 1):
                raise AuricleError(f"{name} must be a whole number from 1, but is {value!r}")
        if not 0 < self.sample <= 1:
            raise AuricleError(f"sample must be more than 0 and at most 1, but is {self.sample!r}")
        for name, kind in (("normalization", Normalization), ("engine", Engine)):
            if getattr(self, name) not in get_args(kind):
                raise AuricleError(
                    f"{name} must be one of {', '.join(get_args(kind))}, but is "
                    f"{getattr(self, name)!r}"
                )


@dataclasses.dataclass(kw_only=True)
class FitState:
    """All that the rest of a fit follows from.

    Attributes:
        stages: Centroids (V, D) of stages that are done, then of the one that is fitted.
        counts: (V,), float64: frames that each centroid is the mean of.
        recent: (V,), float64: frames since the last reseeding.
        inertia: Mean squared distance of each step, of all stages.
        num_frames: Frames of the first pass.
        stage: Stages that are done.
        num_passes: Passes that are done in the stage.
        num_steps: Steps that are done in the stage.
        position: Utterances of the pass that are done.
    """

    stages: list[Tensor]
    counts: Tensor
    recent: Tensor
    inertia: list[float]
    mean: Tensor | None = None
    scale: Tensor | None = None
    num_frames: int = 0
    stage: int = 0
    num_passes: int = 0
    num_steps: int = 0
    position: int = 0

    NUMBERS: ClassVar = ("num_frames", "stage", "num_passes", "num_steps", "position")

    def save(self, path: Path, key: str) -> None:
        """Write the state of the fit of that key."""
        arrays = {
            "stages": torch.stack(self.stages),
            "counts": self.counts,
            "recent": self.recent,
            "inertia": torch.tensor(self.inertia, dtype=torch.float64),
        }
        for name in ("mean", "scale"):
            if (value := getattr(self, name)) is not None:
                arrays[name] = value
        numbers = {name: getattr(self, name) for name in self.NUMBERS}
        metadata = {STATE_KEY: key, "numbers": json.dumps(numbers)}
        write_whole(path, lambda temporary: write_safetensors(temporary, arrays, metadata))

    @classmethod
    def read(cls, path: Path, key: str) -> FitState:
        """Read a state; raises CheckpointError where it is damaged or that of another fit."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                names = [*file.keys()]
                arrays = {name: file.get_tensor(name).clone() for name in names}
            found = metadata.get(STATE_KEY)
            numbers = json.loads(metadata.get("numbers", "{}"))
            stages, inertia = list(arrays.pop("stages")), arrays.pop("inertia").tolist()
            state = cls(stages=stages, inertia=inertia, **arrays, **numbers)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} is no readable state of a fit ({error}); remove it to begin again"
            ) from error
        if found != key:
            raise CheckpointError(
                f"{path} is the state of a fit of other data, options or weights: repeat those to "
                "go on, choose another file for the units, or remove it to begin again"
            )
        return state
