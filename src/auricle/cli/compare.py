"""`auricle compare`: plot one utterance through several encoders."""

from __future__ import annotations

import argparse
import functools

from auricle.cli.options import (
    LAYER_HELP,
    MODEL_HELP,
    add_device,
    add_speech,
    layer_argument,
    read_speech,
    repeatable_words,
)

SUMMARY = "plot one utterance through several models"
TEXT = """\
Plot the representations of one utterance by several models on one time axis, and below them the
similarity of all their layers (linear CKA, 1 where one is a rotation and a scaling of the other).

Needs more packages: pip install '.[plot]'.
"""
EXAMPLES = """\
examples:
  auricle compare speech.wav --models tera_mini,wav2vec2_mini,fbank --out compared.png
  auricle compare speech.wav --models wav2vec2,hubert --layers 6,9 --out compared.pdf
  auricle compare speech.wav --models tera_mini --layers all --out layers.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the utterance, the models and their layers."""
    add_speech(parser)
    parser.add_argument(
        "--models",
        metavar="MODEL,...",
        type=repeatable_words,
        required=True,
        help=f"each {MODEL_HELP}; one may be repeated, with another layer",
    )
    parser.add_argument(
        "--layers",
        metavar="LAYER,...",
        type=repeatable_words,
        help=f"one for each model in order or one for all: {LAYER_HELP}; or all (default: each "
        "model's default layer); if the first is negative, --layers=-1,-2",
    )
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the picture.

    Raises:
        AuricleError: The file, the labels, a model or a layer is wrong, matplotlib is missing, or
            the picture cannot be written.
    """
    from tqdm import tqdm

    from auricle.hub.load import load
    from auricle.plotting.api import comparison_of, layers_of_each
    from auricle.plotting.figures import check_plotting, save_figure

    check_plotting(arguments.out)
    models: list[str] = arguments.models
    texts: list[str] = arguments.layers or []
    single = layer_argument(texts[0]) if len(texts) == 1 else None
    layers = layers_of_each(
        [*map(layer_argument, texts)] if len(texts) > 1 else single, len(models)
    )
    speech = read_speech(arguments)
    loaded = functools.cache(
        functools.partial(load, device=arguments.device, precision=arguments.precision)
    )
    encoders = (
        loaded(model)
        for model in tqdm(models, desc="encoding", unit="encoder", disable=None, leave=False)
    )
    save_figure(comparison_of(speech, encoders, layers).figure, arguments.out)
    print(f"wrote {arguments.out}")
    return 0
