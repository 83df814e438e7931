"""`auricle demo`: encode and plot the bundled speech, offline."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path

from auricle.catalogue.record import DEFAULT_MODEL
from auricle.cli.options import check_folder
from auricle.errors import MissingExtraError

SUMMARY = "encode and plot bundled speech, offline"
TEXT = """\
Encode the bundled speech, and plot the representation; needs no network.
"""
EXAMPLES = """\
example:
  auricle demo --out demo
"""

DEMO_MODELS = (DEFAULT_MODEL, "fbank")
"""Bundled models; the first is drawn."""

ROW = "{:<10}{:<24}{:>9}{:>8}{:>6}{:>9}{:>9}{:>8}"
HEADER = ("model", "file", "seconds", "frames", "dim", "hop ms", "mean", "std")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder to write to."""
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("demo"),
        help="folder for arrays and picture (default: demo)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Encode the bundled speech, print statistics, write arrays and a picture.

    Raises:
        OutputError: The folder cannot be written to.
    """
    check_folder(arguments.out)
    import torch

    from auricle.audio.files import read_audio
    from auricle.audio.inputs import sample_paths
    from auricle.extraction.writers.arrays import save_npy
    from auricle.files.atomic import write_whole
    from auricle.geometry import SAMPLE_RATE
    from auricle.hub.load import load
    from auricle.plotting.api import listen, picture_of
    from auricle.plotting.figures import check_plotting, save_figure

    sources = sample_paths()
    waveforms = [read_audio(source, sample_rate=SAMPLE_RATE) for source in sources]
    encoders = [load(name) for name in DEMO_MODELS]
    print(ROW.format(*HEADER))
    for name, encoder in zip(DEMO_MODELS, encoders, strict=True):
        hop_ms = 1000 * encoder.info.hop_samples / SAMPLE_RATE
        with torch.inference_mode():
            representations = encoder(waveforms)
        for source, waveform, x in zip(sources, waveforms, representations, strict=True):
            seconds = f"{len(waveform) / SAMPLE_RATE:.2f}"
            facts = (*x.shape, f"{hop_ms:g}", f"{x.mean():.3f}", f"{x.std():.3f}")
            print(ROW.format(name, source.name, seconds, *facts))
            target = arguments.out / name / f"{source.stem}.npy"
            write_whole(target, functools.partial(save_npy, array=x.cpu().numpy()))
    picture: Path = arguments.out / f"{DEMO_MODELS[0]}.png"
    try:
        check_plotting(picture)
        drawn = picture_of(listen(sources[0]), encoders[0])
    except MissingExtraError as error:
        print(f"auricle: no picture: {error}", file=sys.stderr)
    else:
        save_figure(drawn.figure, picture)
        print(f"wrote a picture of {sources[0].name} to {picture}")
    print(f"wrote the representations to {arguments.out}")
    print(
        f"{DEFAULT_MODEL} is a bundled toy model, trained on two hours of speech; `auricle list` "
        'shows\npublished models; auricle.load("tera") or --model tera downloads one'
    )
    return 0
