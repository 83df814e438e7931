"""Examples of layers: labelled frames or means over utterances for classifiers, items for ABX."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auricle.corpus.reading import decode_utterance, seconds_by_header
from auricle.corpus.utterance import Segment, Utterance
from auricle.errors import AudioError, AuricleError
from auricle.info import SAMPLE_RATE, FinalNorm, LayerInfo
from auricle.models.base import Encoder
from auricle.probing.abx import AbxItems
from auricle.probing.items import ItemTask, PhoneItem, check_items
from auricle.probing.tasks import Fold, Task

logger = logging.getLogger(__name__)

BATCH_SECONDS = 30.0
"""Audio per batch of the encoder, which bounds the memory of all layers together."""

MAX_FRAMES = 30_000
"""Approximate number of labelled frames per layer. Neighbouring frames are so similar that twice as
many changed the accuracy of spliced fbank frames by less than 0.1 points.
"""

CENTRE_DECIMALS = 9
"""Decimals of the centre of a frame in seconds, by which 0.0125 is no less than 0.0125."""

MAX_NUMERIC_CLASSES = 20
"""Most different numbers that are taken for classes without a remark."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
    """Examples of a layer for a classifier.

    Attributes:
        features: (N, D).
        labels: (N,), text.
        utterances: (N,), index of the utterance of each example.
        frame_step: Subsampling factor of the frames.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.str_]
    utterances: NDArray[np.int64]
    frame_step: int

    def mask(self, part: Sequence[int]) -> NDArray[np.bool_]:
        """True for the examples (N,) of these utterances."""
        return np.isin(self.utterances, part)


def collect(
    encoder: Encoder,
    task: Task,
    layers: Sequence[LayerInfo],
    *,
    max_frames: int = MAX_FRAMES,
    on_seconds: Callable[[float], object] = lambda seconds: None,
) -> dict[str, Examples]:
    """Collect the examples of each of `layers`, by name, in one pass over the audio of a task.

    Examples are in the order of the task's utterances. `on_seconds` is called with the seconds of
    audio encoded since its last call.

    Raises:
        AudioError: A file cannot be decoded or is too short for the encoder.
    """
    seconds = [_seconds(seconds_by_header(utterance)) for utterance in task.utterances]
    _check_lengths(encoder, task.utterances, seconds)
    steps = {layer.name: _frame_step(layer, seconds, max_frames) for layer in layers}
    parts: dict[str, list[Any]] = {layer.name: [None] * len(seconds) for layer in layers}
    for one in encoded(encoder, task.utterances, layers, on_seconds=on_seconds):
        utterance = task.utterances[one.index]
        for layer in layers:
            x = one.layers[layer.name]
            if task.target is None:
                times = encoder.frame_times(one.num_samples, layer.name)
                part = _frames(x, times, utterance.segments, steps[layer.name])
            else:
                # In float64: means over long utterances would lose digits.
                mean = x.mean(dim=0, dtype=torch.float64, keepdim=True).float().numpy()
                part = (mean, [utterance.labels[task.target]])
            parts[layer.name][one.index] = part
    # Popped one by one, so that concatenation needs twice the memory of one layer, not of all.
    return {
        name: _joined(parts.pop(name), steps[name] if task.labels_frames else 1)
        for name in list(parts)
    }


def _check_lengths(
    encoder: Encoder, utterances: Sequence[Utterance], seconds: Sequence[float]
) -> None:
    """Refuse, before any is encoded, utterances that are too short by what their lists state."""
    pairs = zip(utterances, seconds, strict=True)
    least = encoder.min_samples / SAMPLE_RATE
    short = [one for one, length in pairs if round(length * SAMPLE_RATE) < encoder.min_samples]
    if short:
        raise AudioError(
            f"{len(short)} of {len(utterances)} utterances are shorter than the {least:g} s that "
            f"{encoder.info.name} needs, such as {short[0].id} of {short[0].origin}: leave "
            "them out"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedUtterance:
    """Layers (T, D) of an utterance by name, on the CPU; its index and its number of samples."""

    index: int
    num_samples: int
    layers: Mapping[str, Tensor]


def encoded(
    encoder: Encoder,
    utterances: Sequence[Utterance],
    layers: Sequence[LayerInfo],
    *,
    final_norm: FinalNorm = "keep",
    on_seconds: Callable[[float], object] = lambda seconds: None,
) -> Iterator[EncodedUtterance]:
    """Encode utterances in one pass over their audio, the longest first.

    `final_norm` is as in a call of the encoder. `on_seconds` is called with the seconds of audio
    encoded since its last call.

    Raises:
        AudioError: A file cannot be decoded or is too short for the encoder.
        AuricleError: The encoder is in training mode.
    """
    if encoder.training:
        raise AuricleError("the encoder is in training mode; call its eval() before probing it")
    seconds = [_seconds(seconds_by_header(utterance)) for utterance in utterances]
    for batch in _batches(seconds):
        waveforms = [_read(encoder, utterances[index]) for index in batch]
        outputs = _encode(encoder, waveforms, layers, final_norm)
        for index, waveform, output in zip(batch, waveforms, outputs, strict=True):
            yield EncodedUtterance(index=index, num_samples=len(waveform), layers=output)
        on_seconds(sum(seconds[index] for index in batch))


def label_frames(times: Tensor, segments: Sequence[Segment]) -> NDArray[np.int64]:
    """Index of the segment that contains the centre of each frame (T,), -1 if none does.

    `times` (T, 2) are start and end of the receptive field of each frame, in seconds; a segment
    includes its start but not its end. Times are compared rounded to `CENTRE_DECIMALS`.
    """
    starts = np.array([segment.start for segment in segments]).round(CENTRE_DECIMALS)
    ends = np.array([segment.end for segment in segments]).round(CENTRE_DECIMALS)
    centres = times.double().mean(dim=1).numpy().round(CENTRE_DECIMALS)
    found = np.searchsorted(starts, centres, side="right") - 1
    is_inside = (found >= 0) & (centres < ends[found])
    return np.where(is_inside, found, -1).astype(np.int64)


def _frames(
    x: Tensor, times: Tensor, segments: Sequence[Segment], step: int
) -> tuple[NDArray[np.float32], list[str]]:
    """Every `step`-th labelled frame of (T, D), with its label."""
    found = label_frames(times, segments)
    kept = np.arange(step // 2, len(found), step)
    kept = kept[found[kept] >= 0]
    return x.numpy()[kept], [segments[index].label for index in found[kept]]


def _frame_step(layer: LayerInfo, seconds: Sequence[float], max_frames: int) -> int:
    total = sum(layer.geometry.num_frames(round(length * SAMPLE_RATE)) for length in seconds)
    return max(1, -(-total // max_frames))


def _seconds(seconds: float | None) -> float:
    return BATCH_SECONDS if seconds is None else seconds  # the header leaves the length open


def _batches(seconds: Sequence[float]) -> Iterator[list[int]]:
    """Indices of utterances of similar length, within `BATCH_SECONDS` when padded."""
    batch: list[int] = []
    for index in sorted(range(len(seconds)), key=lambda index: (-seconds[index], index)):
        if batch and (len(batch) + 1) * seconds[batch[0]] > BATCH_SECONDS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _read(encoder: Encoder, utterance: Utterance) -> Tensor:
    waveform = decode_utterance(utterance, sample_rate=SAMPLE_RATE)
    if len(waveform) < encoder.min_samples:
        raise AudioError(
            f"{utterance.origin} has {len(waveform)} samples at {SAMPLE_RATE} Hz, but "
            f"{encoder.info.name} needs at least {encoder.min_samples}; take it out of the "
            "corpus's table"
        )
    return waveform


def _encode(
    encoder: Encoder,
    waveforms: Sequence[Tensor],
    layers: Sequence[LayerInfo],
    final_norm: FinalNorm,
) -> Iterator[Mapping[str, Tensor]]:
    """Layers (T, D) of each waveform by name, on the CPU."""
    with torch.inference_mode():
        names = [layer.name for layer in layers]
        for output in encoder.layers(waveforms, names, final_norm=final_norm):
            yield {name: frames.cpu() for name, frames in output.items()}


def _joined(parts: Sequence[tuple[NDArray[np.float32], list[str]]], frame_step: int) -> Examples:
    counts = [len(labels) for _, labels in parts]
    return Examples(
        features=np.concatenate([features for features, _ in parts]),
        labels=np.array([label for _, labels in parts for label in labels], dtype=np.str_),
        utterances=np.repeat(np.arange(len(parts), dtype=np.int64), counts),
        frame_step=frame_step,
    )


def collect_items(
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


def layer_items(
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


MIN_HOP_SAMPLES = 80
"""Smallest hop of layers that are probed by default, 5 ms. Denser layers (the first blocks of PASE,
down to one frame per sample) are nearly copies of the waveform.
"""


def choose_layers(encoder: Encoder, names: Sequence[str] | None) -> list[LayerInfo]:
    """Layers of these names by depth, then taps; for None, those that are probed by default.

    Raises:
        LayerError: The encoder has no such layer.
    """
    if names is None:
        return [
            info
            for info in encoder.layer_infos
            if info.geometry.hop_samples >= MIN_HOP_SAMPLES or info.name == encoder.default_layer
        ]
    chosen = {encoder.layer_info(name).name for name in names}
    return [info for info in (*encoder.layer_infos, *encoder.taps) if info.name in chosen]


def seconds_bar(name: str, utterances: Sequence[Utterance]) -> Any:
    """A progress bar over the seconds of audio, on a terminal alone."""
    from tqdm import tqdm

    seconds = sum(seconds_by_header(utterance) or 0.0 for utterance in utterances)
    return tqdm(desc=name, total=seconds, unit="s", unit_scale=True, disable=None, leave=False)


def check_values(values: Sequence[str], where: str, is_regression: bool) -> None:
    """Check that labels are two classes or more, or numbers, as the task needs them.

    Raises:
        AuricleError: They are not, or classes look like numbers to predict.
    """
    counts = Counter(values)
    numbers = {value: _number(value) for value in counts}
    wrong = [value for value, number in numbers.items() if number is None]
    if is_regression and wrong:
        raise AuricleError(
            f"{where} has {sum(counts[value] for value in wrong)} labels that are no finite "
            f"numbers, such as {wrong[0]!r}; --regression (in Python regression=True) needs "
            "numbers: correct them, or leave it out to predict classes"
        )
    if len(counts) < 2:
        raise AuricleError(
            f"{where} has {len(values)} labels of {len(counts)} value(s), "
            f"{next(iter(counts), '')!r}; expected 2 or more to tell apart"
        )
    are_whole = all(number is None or number.is_integer() for number in numbers.values())
    are_rare = 2 * len(counts) > len(values)
    are_few = len(counts) <= MAX_NUMERIC_CLASSES and (are_whole or not are_rare)
    if is_regression or wrong or are_few:
        return
    if not are_whole or are_rare:
        raise AuricleError(
            f"{where} has {len(counts)} different numbers as {len(values)} labels, such as "
            f"{values[0]}; pass --regression (in Python regression=True) to predict numbers, or "
            "write them as text, such as 'class 7', to take each for a class"
        )
    logger.warning("%d numbers are taken for classes; --regression predicts them", len(counts))


def _number(text: str) -> float | None:
    """A text as a finite number; None where it is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def check_folds(folds: Sequence[Fold], labels: Sequence[Sequence[str]], where: str) -> None:
    """Check that every training has two labels; log labels that are tested without training.

    Raises:
        AuricleError: A training has fewer.
    """
    kinds = [set(each) for each in labels]
    unseen: set[str] = set()
    for fold in folds:
        known, tested = (set().union(*(kinds[i] for i in x)) for x in (fold.train, fold.test))
        if len(known) < 2:
            raise AuricleError(
                f"{where}: the training part of {fold.name} has the label(s) "
                f"{', '.join(map(repr, known))}, expected 2 or more to tell apart"
            )
        unseen |= tested - known
    if unseen:
        logger.warning(
            "%d labels, such as %r, are tested where training has none of them: these are errors",
            len(unseen),
            min(unseen),
        )
