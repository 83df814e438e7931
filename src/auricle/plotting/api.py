"""`auricle.plot` and `auricle.compare`: encode speech and draw its representations."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from auricle.audio.inputs import Waveform, as_waveforms
from auricle.catalogue.record import DEFAULT_MODEL
from auricle.corpus.labels import check_segments, read_segments
from auricle.corpus.listing import find_utterance
from auricle.corpus.reading import decode_utterance
from auricle.corpus.utterance import Segment
from auricle.errors import AudioError, AuricleError, LayerError
from auricle.hub.load import load
from auricle.info import SAMPLE_RATE, LayerInfo
from auricle.models.base import Encoder
from auricle.plotting.analysis import (
    MIN_FRAMES,
    DrawnUtterance,
    FrameSequence,
    Representation,
    at_common_times,
    cka_matrix,
)
from auricle.plotting.figures import check_matplotlib
from auricle.plotting.picture import LayerSimilarity, Picture, draw_comparison, draw_utterance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_MODELS = 8
"""Most models in one picture."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speech:
    """A waveform (S,) at 16 kHz with a title, labels, and the section to show in seconds.

    `origin` is where the waveform begins in its recording, in seconds.
    """

    waveform: Tensor
    name: str = ""
    segments: tuple[Segment, ...] = ()
    section: tuple[float, float] | None = None
    origin: float = 0.0


def plot(
    audio: Waveform,
    model: str | Path | Encoder = DEFAULT_MODEL,
    layer: int | str | None = None,
    *,
    labels: str | Path | Sequence[tuple[float, float, str]] = (),
    tier: str | None = None,
    channel: int | None = None,
    start: float | None = None,
    end: float | None = None,
    utterance: str | None = None,
) -> Figure:
    """Draw one utterance on one axis in seconds.

    From the top: waveform, log mel spectrogram, labels if given, the representation with correlated
    dimensions side by side, its first two principal components as colour, codes if the encoder has
    a quantiser, and the cosine similarity of all pairs of frames.

    Args:
        audio: A path, a 1-D float tensor or array at 16 kHz, or a `(samples, sample_rate)` pair. A
            path may be any input of `auricle.extract`, such as a manifest, an archive or a data
            set.
        model: As `auricle.load` takes it; or an encoder.
        layer: Index or name; None for the encoder's default layer.
        labels: Labels such as phones: `(start, end, label)` in seconds, or a file: tab-separated
            start, end and label; a .ctm, of which the rows of the audio file's name and channel
            are taken; a .TextGrid, of which phones are taken before words.
        tier: Selects among several labels of a file: the name of a tier or a speaker of a
            .TextGrid, of an utterance of a .ctm.
        channel: Channel of a file, counted from 0; None averages all channels.
        start: Start of the section that is shown, in seconds. The whole utterance is encoded.
        end: End of the section that is shown, in seconds.
        utterance: Id of an utterance of an input that lists several.

    Returns:
        A matplotlib figure: a notebook shows it, `figure.savefig("picture.png")` writes it.

    Raises:
        AudioError: The audio or the labels cannot be read, or the audio is too short.
        LayerError: The encoder has no such layer.
        MissingExtraError: matplotlib is not installed.
    """
    check_matplotlib()
    speech = listen(
        audio,
        labels=labels,
        tier=tier,
        channel=channel,
        start=start,
        end=end,
        utterance=utterance,
    )
    return picture_of(speech, _encoder(model), layer).figure


def compare(
    audio: Waveform,
    models: str | Path | Encoder | Sequence[str | Path | Encoder],
    layers: int | str | Sequence[int | str | None] | None = None,
    *,
    labels: str | Path | Sequence[tuple[float, float, str]] = (),
    tier: str | None = None,
    channel: int | None = None,
    start: float | None = None,
    end: float | None = None,
    utterance: str | None = None,
) -> Figure:
    """Draw one utterance through several encoders, and the similarity of all their layers.

    The matrix holds the linear CKA of each pair of layers (Kornblith et al., arXiv:1905.00414), by
    the unbiased estimate (arXiv:2010.15327, section 2), over the frames of the whole utterance at
    the rate of the layer with the largest hop.

    Args:
        audio: As `plot` takes it.
        models: One to eight models as `auricle.load` takes them, or encoders. A model may be
            repeated with another layer.
        layers: The layer to draw of each model: one for all, a list with one for each, None for the
            default layers, "all" for every layer. The matrix always has all layers.
        labels: As `plot` takes them.
        tier: As `plot` takes it.
        channel: As `plot` takes it.
        start: As `plot` takes it.
        end: As `plot` takes it.
        utterance: As `plot` takes it.

    Returns:
        A matplotlib figure.

    Raises:
        AudioError: The audio or the labels cannot be read, or the audio is too short.
        AuricleError: The number of models or of layers is wrong.
        LayerError: An encoder has no such layer.
        MissingExtraError: matplotlib is not installed.
    """
    check_matplotlib()
    if isinstance(models, str | Path | Encoder):
        models = [models]
    chosen = layers_of_each(layers, len(models))
    speech = listen(
        audio,
        labels=labels,
        tier=tier,
        channel=channel,
        start=start,
        end=end,
        utterance=utterance,
    )
    loaded = functools.lru_cache(_encoder)
    return comparison_of(speech, [loaded(model) for model in models], chosen).figure


def listen(
    audio: Waveform,
    *,
    labels: str | Path | Sequence[tuple[float, float, str]] = (),
    tier: str | None = None,
    channel: int | None = None,
    start: float | None = None,
    end: float | None = None,
    utterance: str | None = None,
) -> Speech:
    """Read audio and labels; arguments and errors are those of `plot`."""
    name = ""
    if isinstance(audio, str | os.PathLike):
        found = find_utterance(os.fspath(audio), utterance, channel=channel)
        name = found.id if found.source != os.fspath(audio) else Path(audio).name
        waveform = decode_utterance(found, sample_rate=SAMPLE_RATE)
    elif utterance is not None:
        raise AudioError("an id (utterance) is for files; leave it out, or pass a list of files")
    elif channel is not None:
        raise AudioError("a channel is for files; pass one channel of the samples, samples[0]")
    elif isinstance(audio, list):
        raise AudioError(f"got a list of {len(audio)}, expected one utterance: pass one of them")
    else:
        (waveform,) = as_waveforms([audio], sample_rate=SAMPLE_RATE, min_samples=1)
    seconds = len(waveform) / SAMPLE_RATE
    segments = _segments(labels, name, channel, tier)
    check_segments(segments, seconds)
    section = _section(start, end, seconds)
    return Speech(waveform=waveform.detach().cpu(), name=name, segments=segments, section=section)


def picture_of(speech: Speech, encoder: Encoder, layer: int | str | None = None) -> Picture:
    """Draw one layer of one encoder.

    Raises:
        AudioError: The waveform is too short for the encoder.
        LayerError: The encoder has no such layer.
        MissingExtraError: matplotlib is not installed.
    """
    shown = represent(speech, encoder, [encoder.layer_info(layer)])
    title = f"{encoder.info.name}, {shown[0].layer}"
    return draw_utterance(_utterance(speech, title, shown))


def comparison_of(
    speech: Speech, encoders: Iterable[Encoder], layers: Sequence[int | str | None] | Literal["all"]
) -> Picture:
    """Draw several encoders; `layers` has the layer to draw of each, or is "all".

    An encoder that is repeated with two layers is in the matrix once.

    Raises:
        AudioError: The waveform is too short for an encoder, or for a similarity.
        LayerError: An encoder has no such layer, or is repeated with the same layer.
        MissingExtraError: matplotlib is not installed.
    """
    drawn: list[Representation] = []
    every: list[Representation] = []
    known: dict[Encoder, list[Representation]] = {}
    for index, encoder in enumerate(encoders):
        info = None if layers == "all" else encoder.layer_info(layers[index])
        wanted = None if info is None else info.name
        if encoder not in known:
            known[encoder] = represent(speech, encoder, encoder.layer_infos)
            every += known[encoder]
        if info is not None and all(one.layer != wanted for one in known[encoder]):  # a tap
            tapped = represent(speech, encoder, [info])
            known[encoder] += tapped
            every += tapped
        for one in known[encoder]:
            if wanted is not None and one.layer != wanted:
                continue
            if any(one is other for other in drawn):
                raise LayerError(
                    f"{one.model} comes twice with its layer {one.layer}: give one of them another "
                    "layer, or leave it out"
                )
            drawn.append(one)
    aligned = at_common_times([(one.sequence.frames, one.sequence.geometry) for one in every])
    if len(aligned[0]) < MIN_FRAMES:
        raise AudioError(
            f"{len(aligned[0])} frame(s) are too few to compare layers by: pass at least "
            f"{MIN_FRAMES} frames' worth, a tenth of a second or more"
        )
    similarity = LayerSimilarity(
        layers=tuple((one.model, one.layer) for one in every),
        matrix=cka_matrix(aligned, unbiased=True),
        num_moments=len(aligned[0]),
    )
    title = ", ".join(dict.fromkeys(one.model for one in every))
    return draw_comparison(_utterance(speech, title, drawn), similarity)


def represent(
    speech: Speech, encoder: Encoder, layers: Sequence[LayerInfo]
) -> list[Representation]:
    """Encode one utterance and collect the given layers for drawing.

    The last of the layers carries the codes, if the encoder has a quantiser.

    Raises:
        AudioError: The waveform is too short for the encoder.
    """
    name = encoder.info.name
    waveform = speech.waveform
    if len(waveform) < encoder.info.min_samples:
        raise AudioError(
            f"{speech.name or 'the audio'} has {len(waveform) / SAMPLE_RATE:.4f} s, too short for "
            f"{name}, which needs {encoder.info.min_samples / SAMPLE_RATE:.4f} s: pass longer audio"
        )
    codes = None
    with torch.inference_mode():
        (outputs,) = encoder.layers([waveform], [layer.name for layer in layers])
        if encoder.codes_layer is not None:
            geometry = encoder.layer_info(encoder.codes_layer).geometry
            (indices,) = encoder.codes([waveform])
            codes = FrameSequence(frames=indices.cpu().numpy(), geometry=geometry)
    last = layers[-1].name
    return [
        Representation(
            model=name,
            layer=layer.name,
            sequence=FrameSequence(
                frames=outputs[layer.name].float().cpu().numpy(), geometry=layer.geometry
            ),
            codes=codes if layer.name == last else None,
            # The order of frequency bands is meaningful.
            sorts_dims=encoder.family != "baseline",
        )
        for layer in layers
    ]


def layers_of_each(
    layers: int | str | Sequence[int | str | None] | None, num_models: int
) -> list[int | str | None] | Literal["all"]:
    """Expand the argument `layers` of `compare` to one layer for each model.

    Raises:
        AuricleError: There are too few or too many models, or not as many layers as models.
    """
    if not 1 <= num_models <= MAX_MODELS:
        raise AuricleError(f"got {num_models} models to compare, expected 1 to {MAX_MODELS}")
    if layers == "all":
        return "all"
    if layers is None or isinstance(layers, int | str):
        return [layers] * num_models
    if len(layers) != num_models:
        raise LayerError(
            f"got {len(layers)} layers for {num_models} models: pass one for each, in their order, "
            'one for all of them, or "all"'
        )
    return list(layers)


def _utterance(speech: Speech, title: str, shown: Sequence[Representation]) -> DrawnUtterance:
    mel = load("mel", device="cpu")
    with torch.inference_mode():
        (frames,) = mel([speech.waveform], pad_short=True)
    (layer,) = mel.layer_infos
    return DrawnUtterance(
        title=f"{title}: {speech.name}" if speech.name else title,
        waveform=speech.waveform.numpy(),
        sample_rate=SAMPLE_RATE,
        mel=FrameSequence(frames=frames.numpy(), geometry=layer.geometry),
        representations=tuple(shown),
        segments=speech.segments,
        section=speech.section,
        origin=speech.origin,
    )


def _encoder(model: str | Path | Encoder) -> Encoder:
    return model if isinstance(model, Encoder) else load(model)


def _segments(
    labels: str | Path | Sequence[tuple[float, float, str]],
    name: str,
    channel: int | None,
    tier: str | None,
) -> tuple[Segment, ...]:
    if isinstance(labels, str | os.PathLike):
        return read_segments(Path(labels), name or None, channel=channel, tier=tier)
    if tier is not None:
        raise AudioError("a tier is for files of labels; leave it out")
    try:
        return tuple(
            Segment(start=float(start), end=float(end), label=str(label))
            for start, end, label in labels
        )
    except (TypeError, ValueError) as error:
        raise AudioError(
            f"labels are (start, end, label) in seconds, or a file of them, but: {error}"
        ) from error


def _section(start: float | None, end: float | None, seconds: float) -> tuple[float, float] | None:
    if start is None and end is None:
        return None
    first, last = start or 0.0, seconds if end is None else min(end, seconds)
    if first < 0:
        raise AudioError(f"got a part from {first:g} s: pass a start of 0 or more")
    if first >= seconds:
        raise AudioError(
            f"the part begins at {first:g} s, but the recording ends at {seconds:g} s: pass an "
            "earlier start"
        )
    if not 0 <= first < last:
        raise AudioError(
            f"got a part from {first:g} to {last:g} s of {seconds:g} s: pass a start before the end"
        )
    return first, last
