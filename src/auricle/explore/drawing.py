"""Encode and draw a request of the page; independent of Gradio."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from auricle.audio.files import read_audio
from auricle.corpus.labels import check_segments, read_segments
from auricle.errors import AudioError, AuricleError
from auricle.explore.choices import describe_excess
from auricle.hub.load import load
from auricle.info import SAMPLE_RATE
from auricle.models.base import Encoder
from auricle.plotting.analysis import DrawnUtterance
from auricle.plotting.api import Speech, comparison_of, picture_of
from auricle.plotting.figures import save_figure
from auricle.plotting.picture import Picture, TimePanel

NUM_KEPT_ENCODERS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawRequest:
    """A request: an audio file, a section of it in seconds, and models with their layers."""

    audio: Path
    name: str
    models: tuple[tuple[str, str | None], ...]
    labels: Path | None = None
    start: float = 0.0
    end: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawResult:
    """Data for the viewer of the page, and the files to download."""

    view: dict[str, Any]
    picture: Path
    features: Path


def draw(request: DrawRequest, folder: Path) -> DrawResult:
    """Draw a request; its files are written to `folder`, which belongs to this request alone.

    Raises:
        AuricleError: The file, the section, a model or a layer is wrong; the message is shown to
            the user.
    """
    speech = read_section(request)
    encoders = [_encoder(name) for name, _ in request.models]
    layers = [layer for _, layer in request.models]
    if len(encoders) == 1:
        picture = picture_of(speech, encoders[0], layers[0])
    else:
        picture = comparison_of(speech, encoders, layers)
    files = folder / "picture.png", folder / "features.npz"
    save_figure(picture.figure, files[0])
    save_features(files[1], picture.utterance)
    return DrawResult(view=view(picture, files[0], speech), picture=files[0], features=files[1])


def read_section(request: DrawRequest) -> Speech:
    """Read the requested section of the file as an utterance of its own.

    Raises:
        AudioError: The file cannot be read, or the section is empty or too long.
    """
    waveform = read_audio(request.audio, sample_rate=SAMPLE_RATE)
    seconds = len(waveform) / SAMPLE_RATE
    end = seconds if request.end is None else min(request.end, seconds)
    if not 0 <= request.start < end:
        raise AudioError(
            f"The section from {request.start:g} to {end:g} s is not within the recording of "
            f"{seconds:g} s: choose a start before its end and before that of the recording."
        )
    too_long = describe_excess(end - request.start)
    if too_long:
        raise AudioError(too_long)
    segments = () if request.labels is None else read_segments(request.labels, request.name)
    check_segments(segments, seconds)
    first, last = round(request.start * SAMPLE_RATE), round(end * SAMPLE_RATE)
    return Speech(
        waveform=waveform[first:last].clone(),
        name=request.name,
        segments=segments,
        origin=first / SAMPLE_RATE,
    )


def view(picture: Picture, file: Path, speech: Speech) -> dict[str, Any]:
    """Data for the viewer in the browser: sound, picture, and positions of the time panels.

    Positions are fractions of the picture's width and height from its upper left corner; times are
    in seconds from the start of the recording; the sound starts at `origin`.
    """
    sound = io.BytesIO()
    soundfile.write(sound, speech.waveform.numpy(), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return {
        "sound": _data_url("audio/wav", sound.getvalue()),
        "picture": _data_url("image/png", file.read_bytes()),
        "origin": speech.origin,
        "seconds": len(speech.waveform) / SAMPLE_RATE,
        "title": picture.figure.get_suptitle(),
        "panels": [_place(panel, picture) for panel in picture.panels],
    }


def save_features(path: Path, utterance: DrawnUtterance) -> None:
    """Write each representation (T, D) and the centres of its frames in seconds (T,) as .npz.

    Names in the archive are `model.layer` and `model.layer.seconds`.
    """
    arrays: dict[str, Any] = {}
    for one in utterance.representations:
        sequence = one.sequence
        hop = sequence.geometry.hop_samples / SAMPLE_RATE
        first = utterance.start_seconds(sequence) + hop / 2
        name = f"{one.model}.{one.layer}"
        arrays[name] = sequence.frames
        arrays[f"{name}.seconds"] = first + hop * np.arange(len(sequence.frames))
    np.savez_compressed(path, **arrays)


def _place(panel: TimePanel, picture: Picture) -> dict[str, Any]:
    box, canvas = panel.axes.get_window_extent(), picture.figure.bbox
    place: dict[str, Any] = {
        "name": panel.name,
        "left": box.x0 / canvas.width,
        "right": box.x1 / canvas.width,
        "top": 1 - box.y1 / canvas.height,
        "bottom": 1 - box.y0 / canvas.height,
    }
    if panel.sequence is not None:
        place["frames"] = {
            "start": picture.utterance.start_seconds(panel.sequence),
            "hop": panel.sequence.geometry.hop_samples / SAMPLE_RATE,
            "count": len(panel.sequence.frames),
        }
    return place


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


@functools.lru_cache(maxsize=NUM_KEPT_ENCODERS)
def _encoder(name: str) -> Encoder:
    try:
        return load(name)
    except OSError as error:
        if isinstance(error, AuricleError):
            raise
        raise AuricleError(f"{name} cannot be loaded: {error}") from error
