"""ABX of the layers of a frozen encoder on the items of a corpus."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auricle.corpus.reading import seconds_by_header
from auricle.errors import AuricleError
from auricle.info import LayerInfo
from auricle.models.base import Encoder
from auricle.probing.abx import AbxItems, abx_scores
from auricle.probing.abx_report import AbxLayer, AbxResult, AbxSettings
from auricle.probing.features import encoded
from auricle.probing.items import ItemTask, PhoneItem, check_items
from auricle.probing.probe import choose_layers

CENTRE_DECIMALS = 9
"""Decimals of the centre of a frame in seconds, by which 0.0125 is no less than 0.0125."""


def measure_abx(
    encoder: Encoder,
    task: ItemTask,
    settings: AbxSettings,
    *,
    layers: Sequence[str] | None = None,
    model: str | None = None,
    on_seconds: Callable[[float], object] = lambda seconds: None,
    on_share: Callable[[float], object] = lambda share: None,
) -> AbxResult:
    """Measure the ABX of layers of a frozen encoder.

    An item has the frames whose centre, the middle of `encoder.frame_times`, lies in
    [onset, offset). The frames of all chosen layers are in memory together.

    Args:
        encoder: In eval mode, as `auricle.load` returns it.
        task: From `read_item_task`.
        settings: From `abx_settings`.
        layers: Names of the layers; None for those that `probe` chooses.
        model: Name of the encoder in the result; None for its own name.
        on_seconds: Called with the seconds of audio encoded since its last call.
        on_share: Called with the share of the scores made since its last call.

    Raises:
        AudioError: A file cannot be decoded or is too short for the encoder.
        AuricleError: The encoder is in training mode, items do not fit the audio, or a layer holds
            no frame of any item, NaN or infinity.
        LayerError: The encoder has no such layer.
    """
    if encoder.training:
        raise AuricleError("the encoder is in training mode; call its eval() before probing it")
    chosen = choose_layers(encoder, layers)
    start = time.perf_counter()
    collected = _collect(encoder, task, chosen, on_seconds)
    middle = time.perf_counter()
    items = [item for of_one in task.items for item in of_one]
    results = []
    for layer in chosen:
        found, num_empty = _layer_items(collected.pop(layer.name), items)
        try:
            scores = abx_scores(
                found,
                distance=settings.distance,
                any_context=settings.context == "any",
                max_group=settings.max_group,
                max_speakers=settings.max_speakers,
                generator=torch.Generator().manual_seed(settings.seed),
                on_share=lambda share: on_share(share / len(chosen)),
            )
        except AuricleError as error:
            raise AuricleError(f"{encoder.info.name}, layer {layer.name}: {error}") from error
        results.append(
            AbxLayer(
                name=layer.name,
                dim=layer.dim,
                hop_samples=layer.geometry.hop_samples,
                within=scores.within.error,
                across=scores.across.error,
                num_within_cells=scores.within.num_cells,
                num_across_cells=scores.across.num_cells,
                num_empty_items=num_empty,
            )
        )
    names = {layer.name for layer in chosen}
    return AbxResult(
        model=model or encoder.info.name,
        family=encoder.family,
        num_parameters=encoder.info.num_parameters,
        weights_sha256=encoder.provenance.sha256,
        items=task.source,
        num_items=len(items),
        num_phones=len({item.phone for item in items}),
        num_speakers=len({item.speaker for item in items}),
        default_layer=encoder.default_layer,
        layers=tuple(results),
        skipped_layers=tuple(i.name for i in encoder.layer_infos if i.name not in names),
        encoding_seconds=round(middle - start, 2),
        scoring_seconds=round(time.perf_counter() - middle, 2),
    )


def _collect(
    encoder: Encoder,
    task: ItemTask,
    layers: Sequence[LayerInfo],
    on_seconds: Callable[[float], object],
) -> dict[str, list[tuple[Tensor, NDArray[np.int64]]]]:
    """Frames (T, D) of each utterance and the ranges of its items in them (N, 2), by layer."""
    for utterance, items in zip(task.utterances, task.items, strict=True):
        seconds = seconds_by_header(utterance)
        if seconds is not None:
            check_items(items, seconds)
    parts: dict[str, dict[int, tuple[Tensor, NDArray[np.int64]]]] = {x.name: {} for x in layers}
    for one in encoded(encoder, task.utterances, layers, on_seconds=on_seconds):
        for name, frames in one.layers.items():
            times = encoder.frame_times(one.num_samples, name)
            parts[name][one.index] = (frames, frame_ranges(times, task.items[one.index]))
    return {
        name: [part[index] for index in range(len(task.utterances))] for name, part in parts.items()
    }


def frame_ranges(times: Tensor, items: Sequence[PhoneItem]) -> NDArray[np.int64]:
    """First frame of each item and the first after it (N, 2).

    `times` (T, 2) are start and end of the receptive field of each frame, in seconds. An item has
    the frames whose centre lies in [onset, offset).
    """
    centres = times.double().mean(dim=1).numpy().round(CENTRE_DECIMALS)
    bounds = np.array([(item.onset, item.offset) for item in items]).round(CENTRE_DECIMALS)
    return np.asarray(np.searchsorted(centres, bounds), dtype=np.int64)


def _layer_items(
    parts: list[tuple[Tensor, NDArray[np.int64]]], items: Sequence[PhoneItem]
) -> tuple[AbxItems, int]:
    """Items with frames of one layer, and the number of those without.

    Raises:
        AuricleError: No item has a frame.
    """
    offsets = np.cumsum([0, *(len(frames) for frames, _ in parts)])
    ranges = np.concatenate(
        [ranges + offset for (_, ranges), offset in zip(parts, offsets[:-1], strict=True)]
    )
    lengths = ranges[:, 1] - ranges[:, 0]
    kept = lengths > 0
    if not kept.any():
        raise AuricleError(
            f"none of the {len(items)} items holds the centre of a frame; check that their times "
            "are in seconds"
        )
    contexts = [f"{item.previous} {item.following}" for item in items]
    return AbxItems(
        frames=torch.cat([frames for frames, _ in parts]),
        starts=ranges[kept, 0],
        lengths=lengths[kept],
        phones=_codes([item.phone for item in items])[kept],
        contexts=_codes(contexts)[kept],
        speakers=_codes([item.speaker for item in items])[kept],
    ), int((~kept).sum())


def _codes(labels: Sequence[str]) -> NDArray[np.int64]:
    return np.asarray(np.unique(np.array(labels), return_inverse=True)[1], dtype=np.int64)
