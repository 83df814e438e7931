"""Faster encoding whose numbers are not the authors': long audio in windows, reduced precision.

An encoder takes audio of any length whole. Windows save time where attention's grows with the
square of the length, and change every frame a little: each frame sees its window alone, and
statistics over the utterance (mean and variance normalisation, group norm over time, level) are the
window's. Precisions are fp16, bf16 and int8; a digest says if two encoders compute the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast, get_args

import msgspec
import torch
from torch import Tensor, nn

from auricle.audio.inputs import Waveform, as_waveforms, checked_pad_short
from auricle.errors import AuricleError, warn_deprecated
from auricle.info import SAMPLE_RATE, FinalNorm, FrameGeometry, LayerInfo
from auricle.models.base import Encoder
from auricle.models.outputs import stacked
from auricle.nn.conv import Linear
from auricle.nn.cpu import prepack

MAX_BATCH_SECONDS = 120.0
"""Audio of windows that are encoded at once, or one window that is longer."""


def encode_windows(
    encoder: Encoder,
    wavs: Sequence[Waveform],
    layer: int | str | None = None,
    *,
    window_seconds: float,
    overlap_seconds: float,
    pad_short: bool = False,
    final_norm: FinalNorm = "keep",
    short: Literal["error", "pad"] | None = None,
) -> list[Any]:
    """Encode waveforms, those longer than a window in windows with overlap.

    A waveform of at most `window_seconds` is encoded whole, as by a call of the encoder. A longer
    one is cut into windows, each of which is encoded as if it were the whole utterance. Each frame
    comes from the window in whose middle it lies nearest.

    Args:
        encoder: Any encoder.
        wavs: As in a call of the encoder.
        layer: As in a call of the encoder; `window_layers` gives several by name.
        window_seconds: Length of a window in seconds. The last one ends where the waveform does.
        overlap_seconds: Least overlap of neighbouring windows, in seconds. Half of it is context
            at either side, whose frames are cropped.
        pad_short: As in a call of the encoder.
        final_norm: As in a call of the encoder.
        short: Deprecated, as in a call of the encoder.

    Returns:
        What a call of the encoder returns, with the same number of frames.

    Raises:
        AudioError: As in a call of the encoder.
        LayerError: The encoder has no such layer.
        AuricleError: The window is not a hop longer than the overlap, shorter than `min_samples`
            or longer than the encoder takes; the overlap is shorter than the span of a frame; the
            encoder has no final norm.
    """
    pad_short = checked_pad_short(pad_short, short)
    is_one = layer != "all" and (isinstance(layer, str) or not isinstance(layer, Sequence))
    names: Any = [encoder.layer_info(layer).name] if is_one else layer
    outputs = window_layers(
        encoder,
        wavs,
        names,
        window_seconds=window_seconds,
        overlap_seconds=overlap_seconds,
        pad_short=pad_short,
        final_norm=final_norm,
    )
    if is_one:
        return [output[names[0]] for output in outputs]
    warn_deprecated(
        f"encode_windows(encoder, wavs, layer={layer!r}) is deprecated: auricle.window_layers "
        "returns layers by name"
    )
    return stacked(outputs, encoder.layer_infos) if layer == "all" else outputs


def window_layers(
    encoder: Encoder,
    wavs: Sequence[Waveform],
    names: Sequence[int | str] | Literal["all"] = "all",
    *,
    window_seconds: float,
    overlap_seconds: float,
    pad_short: bool = False,
    final_norm: FinalNorm = "keep",
) -> list[dict[str, Tensor]]:
    """Encode waveforms into several layers by name, in windows with overlap.

    Args:
        encoder: Any encoder.
        wavs: As in a call of the encoder.
        names: As `Encoder.layers` takes them.
        window_seconds: As `encode_windows` takes it.
        overlap_seconds: As `encode_windows` takes it.
        pad_short: As in a call of the encoder.
        final_norm: As in a call of the encoder.

    Returns:
        What `Encoder.layers` returns, with the same number of frames.

    Raises:
        AudioError: As in a call of the encoder.
        LayerError: The encoder has no such layer.
        AuricleError: As `encode_windows` raises it.
    """
    chosen = encoder.layer_names(names)
    infos = [encoder.layer_info(name) for name in chosen]

    def encode(waveforms: list[Tensor]) -> list[dict[str, Tensor]]:
        return encoder.layers(waveforms, chosen, final_norm=final_norm)

    return _encode(encode, encoder, wavs, infos, window_seconds, overlap_seconds, pad_short)


def window_codes(
    encoder: Encoder,
    wavs: Sequence[Waveform],
    *,
    window_seconds: float,
    overlap_seconds: float,
    pad_short: bool = False,
) -> list[Tensor]:
    """Discrete codes of waveforms, of those longer than a window in windows with overlap.

    Args:
        encoder: An encoder with a quantiser.
        wavs: As in a call of the encoder.
        window_seconds: As `encode_windows` takes it.
        overlap_seconds: As `encode_windows` takes it.
        pad_short: As in a call of the encoder.

    Returns:
        What `Encoder.codes` returns, with the same number of frames.

    Raises:
        AudioError: As in a call of the encoder.
        AuricleError: The encoder has no quantiser; else as `encode_windows` raises it.
    """
    encoder.codes([])  # an error where there are none
    info = encoder.layer_info(encoder.codes_layer)

    def encode(waveforms: list[Tensor]) -> list[dict[str, Tensor]]:
        return [{info.name: codes} for codes in encoder.codes(waveforms)]

    outputs = _encode(encode, encoder, wavs, [info], window_seconds, overlap_seconds, pad_short)
    return [output[info.name] for output in outputs]


def _encode(
    encode: Callable[[list[Tensor]], list[dict[str, Tensor]]],
    encoder: Encoder,
    wavs: Sequence[Waveform],
    infos: list[LayerInfo],
    window_seconds: float,
    overlap_seconds: float,
    pad_short: bool,
) -> list[dict[str, Tensor]]:
    """Outputs of `encode`, by layer, for each waveform, whole or in windows."""
    length, overlap = _in_samples(encoder, infos, window_seconds, overlap_seconds)
    waveforms = as_waveforms(
        wavs,
        sample_rate=SAMPLE_RATE,
        min_samples=encoder.min_samples,
        pad_short=pad_short,
        device=encoder.device,
    )
    whole = iter(encode([x for x in waveforms if len(x) <= length]))
    return [
        next(whole)
        if len(x) <= length
        else _join(encode, x, _cuts(x, length, overlap, infos, encoder.fixed_samples), infos)
        for x in waveforms
    ]


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
    if encoder.fixed_samples is not None and window > encoder.fixed_samples:
        raise AuricleError(
            f"window_seconds must be at most {encoder.fixed_samples / SAMPLE_RATE:g} "
            f"({encoder.fixed_samples} samples, the most that the encoder takes), but is "
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


def _hop(infos: list[LayerInfo]) -> int:
    """Samples whose multiples are the beginning of a frame in every layer."""
    return math.lcm(*(info.geometry.hop_samples for info in infos))


def _cuts(
    waveform: Tensor, window: int, overlap: int, infos: list[LayerInfo], longest: int | None
) -> list[slice]:
    """Windows in samples, each with a whole number of hops before it.

    The last one ends at the end, and may be a hop longer than the others but for a sample; with a
    `longest` window it may be so much shorter.
    """
    hop = _hop(infos)
    spare = hop - 1 if longest is not None else 0
    last = (len(waveform) - window + spare) // hop * hop
    starts = range(0, last, (window - overlap) // hop * hop)
    return [
        *(slice(start, start + window) for start in starts),
        slice(last, len(waveform)),
    ]


def _join(
    encode: Callable[[list[Tensor]], list[dict[str, Tensor]]],
    waveform: Tensor,
    cuts: list[slice],
    infos: list[LayerInfo],
) -> dict[str, Tensor]:
    """Outputs of `encode` for the windows of a waveform, cropped and joined."""
    joined: dict[str, Tensor] = {}
    per_batch = max(int(MAX_BATCH_SECONDS * SAMPLE_RATE) // len(waveform[cuts[0]]), 1)
    for first in range(0, len(cuts), per_batch):
        windows = [waveform[cut] for cut in cuts[first : first + per_batch]]
        for index, output in enumerate(encode(windows), first):
            for info in infos:
                piece = output[info.name]
                if index == 0:
                    num_frames = info.geometry.num_frames(len(waveform))
                    joined[info.name] = piece.new_empty(num_frames, piece.shape[1])
                start, stop = _own_frames(cuts, index, info.geometry)
                offset = cuts[index].start // info.geometry.hop_samples
                joined[info.name][start:stop] = piece[start - offset : stop - offset]
    return joined


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
