"""Long audio in windows with overlap, each encoded as an utterance of its own.

An encoder takes audio of any length whole. Windows save time where attention's grows with the
square of the length, and change every frame a little: it sees its window alone, and statistics over
the utterance (mean and variance normalisation, group norm over time, level) are the window's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

from torch import Tensor

from auricle.audio.waveforms import Waveform, as_waveforms
from auricle.errors import AuricleError
from auricle.models.base import Encoder
from auricle.outputs import SAMPLE_RATE, FrameGeometry, LayerInfo

MAX_BATCH_SECONDS = 120.0
"""Audio of windows that are encoded at once, or one window that is longer."""


@overload
def encode_windows(
    encoder: Encoder,
    wavs: Sequence[Waveform],
    layer: Literal["all"],
    *,
    window_seconds: float,
    overlap_seconds: float,
    short: Literal["error", "pad"] = "error",
) -> list[Any]: ...


@overload
def encode_windows(
    encoder: Encoder,
    wavs: Sequence[Waveform],
    layer: list[int | str] | list[int] | list[str] | tuple[int | str, ...],
    *,
    window_seconds: float,
    overlap_seconds: float,
    short: Literal["error", "pad"] = "error",
) -> list[dict[str, Tensor]]: ...


@overload
def encode_windows(
    encoder: Encoder,
    wavs: Sequence[Waveform],
    layer: int | str | None = None,
    *,
    window_seconds: float,
    overlap_seconds: float,
    short: Literal["error", "pad"] = "error",
) -> list[Tensor]: ...


def encode_windows(
    encoder: Encoder,
    wavs: Sequence[Waveform],
    layer: Any = None,
    *,
    window_seconds: float,
    overlap_seconds: float,
    short: Literal["error", "pad"] = "error",
) -> list[Any]:
    """Encode waveforms, those longer than a window in windows with overlap.

    A waveform of at most `window_seconds` is encoded whole, as by a call of the encoder. A longer
    one is cut into windows, each of which is encoded as if it were the whole utterance. Each frame
    comes from the window in whose middle it lies nearest.

    Args:
        encoder: Any encoder.
        wavs: As in a call of the encoder.
        layer: As in a call of the encoder.
        window_seconds: Length of a window in seconds. The last one ends where the waveform does.
        overlap_seconds: What neighbours have in common at least, in seconds. Half of it is
            context at either side, whose frames are dropped.
        short: As in a call of the encoder.

    Returns:
        What a call of the encoder returns, with the same number of frames.

    Raises:
        AudioError: As in a call of the encoder.
        LayerError: The encoder has no such layer.
        AuricleError: The window is not a hop longer than the overlap, or shorter than
            `min_samples`; the overlap is shorter than what a frame sees.
    """
    infos = _infos(encoder, layer)
    length, overlap = _in_samples(encoder, infos, window_seconds, overlap_seconds)
    waveforms = _waveforms(encoder, wavs, short)
    whole = iter(encoder([x for x in waveforms if len(x) <= length], layer))
    return [
        next(whole)
        if len(x) <= length
        else _join(
            lambda windows: encoder(windows, layer), x, _cuts(x, length, overlap, infos), infos
        )
        for x in waveforms
    ]


def window_codes(
    encoder: Encoder,
    wavs: Sequence[Waveform],
    *,
    window_seconds: float,
    overlap_seconds: float,
    short: Literal["error", "pad"] = "error",
) -> list[Tensor]:
    """Discrete codes of waveforms, of those longer than a window in windows with overlap.

    Args:
        encoder: An encoder with a quantiser.
        wavs: As in a call of the encoder.
        window_seconds: As `encode_windows` takes it.
        overlap_seconds: As `encode_windows` takes it.
        short: As in a call of the encoder.

    Returns:
        What `encoder.codes` returns, with the same number of frames.

    Raises:
        AudioError: As in a call of the encoder.
        AuricleError: The encoder has no quantiser; else as `encode_windows` raises it.
    """
    encoder.codes([])  # an error where there are none
    infos = _infos(encoder, encoder.codes_layer)
    length, overlap = _in_samples(encoder, infos, window_seconds, overlap_seconds)
    waveforms = _waveforms(encoder, wavs, short)
    whole = iter(encoder.codes([x for x in waveforms if len(x) <= length]))
    return [
        next(whole)
        if len(x) <= length
        else _join(encoder.codes, x, _cuts(x, length, overlap, infos), infos)
        for x in waveforms
    ]


def _infos(encoder: Encoder, layer: Any) -> list[LayerInfo]:
    """The layers asked for, in the order of the output."""
    if isinstance(layer, str) and layer == "all":
        return list(encoder.layer_infos)
    is_list = isinstance(layer, Sequence) and not isinstance(layer, str)
    chosen = [encoder.layer_info(one) for one in (layer if is_list else [layer])]
    return list({info.name: info for info in chosen}.values())


def _in_samples(
    encoder: Encoder, infos: list[LayerInfo], window_seconds: float, overlap_seconds: float
) -> tuple[int, int]:
    """Window and overlap in samples; an AuricleError where they cannot be."""
    if not (math.isfinite(window_seconds) and math.isfinite(overlap_seconds)):
        raise AuricleError(
            "window_seconds and overlap_seconds must be finite numbers, but are "
            f"{window_seconds} and {overlap_seconds}; call the encoder itself for the whole"
        )
    window, overlap = (round(value * SAMPLE_RATE) for value in (window_seconds, overlap_seconds))
    reach = max((info.geometry.window_samples for info in infos), default=0)
    hop = _hop(infos)
    if window < encoder.min_samples:
        raise AuricleError(
            f"window_seconds must be at least {encoder.min_samples / SAMPLE_RATE:g} "
            f"({encoder.min_samples} samples, the fewest that the encoder takes), but is "
            f"{window_seconds:g}"
        )
    if overlap < reach:
        raise AuricleError(
            f"overlap_seconds must be at least {reach / SAMPLE_RATE:g} ({reach} samples, what one "
            f"frame sees), but is {overlap_seconds:g}; a second or more is of use"
        )
    if window - overlap < hop:
        raise AuricleError(
            f"window_seconds must be longer than overlap_seconds ({overlap_seconds:g}) by at least "
            f"{hop / SAMPLE_RATE:g} (a frame), but is {window_seconds:g}"
        )
    return window, overlap


def _waveforms(
    encoder: Encoder, wavs: Sequence[Waveform], short: Literal["error", "pad"]
) -> list[Tensor]:
    return as_waveforms(
        wavs,
        sample_rate=SAMPLE_RATE,
        min_samples=encoder.min_samples,
        short=short,
        device=encoder.device,
    )


def _hop(infos: list[LayerInfo]) -> int:
    """Samples whose multiples are the beginning of a frame in every layer."""
    return math.lcm(*(info.geometry.hop_samples for info in infos))


def _cuts(waveform: Tensor, window: int, overlap: int, infos: list[LayerInfo]) -> list[slice]:
    """Windows in samples, each with a whole number of hops before it.

    The last one ends at the end, and may be a hop longer than the others but for a sample.
    """
    hop = _hop(infos)
    last = (len(waveform) - window) // hop * hop
    starts = range(0, last, (window - overlap) // hop * hop)
    return [
        *(slice(start, start + window) for start in starts),
        slice(last, len(waveform)),
    ]


def _join(
    encode: Callable[[list[Tensor]], Sequence[Any]],
    waveform: Tensor,
    cuts: list[slice],
    infos: list[LayerInfo],
) -> Any:
    """What `encode` gives for each window, its own frames joined; of the kind that it gives."""
    joined: Any = None
    per_batch = max(int(MAX_BATCH_SECONDS * SAMPLE_RATE) // len(waveform[cuts[0]]), 1)
    for first in range(0, len(cuts), per_batch):
        windows = [waveform[cut] for cut in cuts[first : first + per_batch]]
        for index, output in enumerate(encode(windows), first):
            if joined is None:
                joined = _allocated(output, infos, len(waveform))
            places = zip(infos, _by_layer(joined, infos), _by_layer(output, infos), strict=True)
            for info, target, piece in places:
                start, stop = _own_frames(cuts, index, info.geometry)
                offset = cuts[index].start // info.geometry.hop_samples
                target[start:stop] = piece[start - offset : stop - offset]
    return joined


def _allocated(output: Any, infos: list[LayerInfo], num_samples: int) -> Any:
    """Room for all frames, of the kind of `output`, which is a window's."""
    if isinstance(output, dict):
        return {
            info.name: output[info.name].new_empty(
                info.geometry.num_frames(num_samples), output[info.name].shape[-1]
            )
            for info in infos
        }
    num_frames = infos[0].geometry.num_frames(num_samples)
    return output.new_empty(*output.shape[:-2], num_frames, output.shape[-1])


def _by_layer(output: Any, infos: list[LayerInfo]) -> list[Tensor]:
    """The layers (T, D) of a dict, of a tensor (layers, T, D) or of the only one."""
    if isinstance(output, dict):
        return [output[info.name] for info in infos]
    return [output[index] for index in range(len(infos))] if output.dim() == 3 else [output]


def _own_frames(cuts: list[slice], index: int, geometry: FrameGeometry) -> tuple[int, int]:
    """First frame that is taken from a window and first one that no longer is, in the whole."""
    start = 0 if index == 0 else _border(cuts[index - 1], cuts[index], geometry)
    if index + 1 == len(cuts):
        return start, geometry.num_frames(cuts[-1].stop)
    return start, _border(cuts[index], cuts[index + 1], geometry)


def _border(left: slice, right: slice, geometry: FrameGeometry) -> int:
    """The first frame whose middle does not lie before the middle of the overlap."""
    # Twice the samples from the middle of frame 0 to that of the overlap.
    twice = right.start + left.stop - 2 * geometry.start_samples - geometry.window_samples
    return int(-(-twice // (2 * geometry.hop_samples)))
