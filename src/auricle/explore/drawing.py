"""From what a visitor asks for to what the page shows; knows nothing of how the page is made."""

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
from auricle.explore.recordings import describe_excess
from auricle.hub.loading import load
from auricle.models.base import Encoder
from auricle.outputs import SAMPLE_RATE
from auricle.pictures import Speech, comparison_of, picture_of
from auricle.plotting.figures import save_figure
from auricle.plotting.picture import Picture, TimePanel
from auricle.plotting.utterance import DrawnUtterance

NUM_KEPT_ENCODERS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wish:
    """What a visitor asks for: a file, a part of it in seconds, and models with their layers."""

    audio: Path
    name: str
    models: tuple[tuple[str, str | None], ...]
    labels: Path | None = None
    start: float = 0.0
    end: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What the page shows, as its viewer takes it, and the files it offers."""

    view: dict[str, Any]
    picture: Path
    features: Path


def answer(wish: Wish, folder: Path) -> Answer:
    """Draw what is asked for; the files go into `folder`, which is this wish's own.

    Raises:
        AuricleError: The file, the part, a model or a layer is wrong; the message is for the
            visitor.
    """
    speech = hear(wish)
    encoders = [_encoder(name) for name, _ in wish.models]
    layers = [layer for _, layer in wish.models]
    if len(encoders) == 1:
        picture = picture_of(speech, encoders[0], layers[0])
    else:
        picture = comparison_of(speech, encoders, layers)
    files = folder / "picture.png", folder / "features.npz"
    save_figure(picture.figure, files[0])
    save_features(files[1], picture.utterance)
    return Answer(view=view(picture, files[0], speech), picture=files[0], features=files[1])


def hear(wish: Wish) -> Speech:
    """The part of the file that is asked for, as an utterance of its own.

    Raises:
        AudioError: It cannot be read, the part is none, or it is too long.
    """
    waveform = read_audio(wish.audio, sample_rate=SAMPLE_RATE)
    seconds = len(waveform) / SAMPLE_RATE
    end = seconds if wish.end is None else min(wish.end, seconds)
    if not 0 <= wish.start < end:
        raise AudioError(
            f"The part from {wish.start:g} to {end:g} s is none of {seconds:g} s: let it begin "
            "before it ends, and before the recording does."
        )
    too_long = describe_excess(end - wish.start)
    if too_long:
        raise AudioError(too_long)
    segments = () if wish.labels is None else read_segments(wish.labels, wish.name)
    check_segments(segments, seconds)
    first, last = round(wish.start * SAMPLE_RATE), round(end * SAMPLE_RATE)
    return Speech(
        waveform=waveform[first:last].clone(),
        name=wish.name,
        segments=segments,
        origin=first / SAMPLE_RATE,
    )


def view(picture: Picture, file: Path, speech: Speech) -> dict[str, Any]:
    """What the viewer in the browser needs: sound, picture, and where its time panels lie.

    Places are parts of the picture's width and height from its upper left corner; times are in
    seconds, from the beginning of the recording, of which the sound begins at `origin`.
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
    """Each representation (T, D) with the middle of its frames in seconds (T,), as NumPy reads it.

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
