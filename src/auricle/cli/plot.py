"""`auricle plot`: one utterance and its representation as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from auricle.audio.files import read_audio
from auricle.cli.encoders import choose_model, find_layer, layer_argument, load_encoder
from auricle.errors import AuricleError
from auricle.hub.loading import load
from auricle.models.base import SAMPLE_RATE, Encoder
from auricle.outputs import LayerInfo
from auricle.plotting.utterance import (
    Sequence,
    Utterance,
    check_plotting,
    draw_utterance,
    save_figure,
)


def run(arguments: argparse.Namespace) -> int:
    """Draw the file as the arguments say.

    Raises:
        AuricleError: The file, the model or the layer is wrong, matplotlib is missing, or the
            picture cannot be written.
    """
    check_plotting(arguments.out)
    choose_model(arguments)
    waveform = read_audio(arguments.file, sample_rate=SAMPLE_RATE, channel=arguments.channel)
    encoder = load_encoder(arguments)
    layer = layer_argument(arguments.layer)
    if layer == "all":
        raise AuricleError("one picture shows one layer; pass an index or a name as --layer")
    draw_file(arguments.file, waveform, encoder, find_layer(encoder, layer), arguments.out)
    print(f"wrote {arguments.out}")
    return 0


def draw_file(
    source: Path, waveform: Tensor, encoder: Encoder, layer: LayerInfo, picture: Path
) -> None:
    """Write the picture of a waveform (S,), which was read from `source`, to `picture`.

    Raises:
        AudioError: The waveform is too short for the encoder.
        MissingExtraError: matplotlib is not installed.
        OutputError: The picture cannot be written.
    """
    mel = load("mel")
    with torch.inference_mode():
        frames = encoder([waveform], layer=layer.name)[0].cpu().numpy()
        mel_frames = mel([waveform], short="pad")[0].numpy()
    (mel_layer,) = mel.layer_infos
    utterance = Utterance(
        title=f"{encoder.info.name}, layer {layer.name}: {source.name}",
        waveform=waveform.numpy(),
        sample_rate=SAMPLE_RATE,
        mel=Sequence(frames=mel_frames, geometry=mel_layer.geometry),
        representation=Sequence(frames=frames, geometry=layer.geometry),
        # Spectral features have an order of their own.
        sorts_dims=encoder.family != "baseline",
    )
    save_figure(draw_utterance(utterance), picture)
