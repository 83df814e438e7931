"""`auricle plot`: plot one utterance and its representation."""

from __future__ import annotations

import argparse

from auricle.cli.options import (
    LAYER_HELP,
    add_device,
    add_model,
    add_speech,
    choose_model,
    layer_argument,
    load_encoder,
    read_speech,
)
from auricle.errors import AuricleError

SUMMARY = "plot one utterance and its representation"
TEXT = """\
Plot one utterance on one time axis: waveform, log mel spectrogram, labels where given,
representation, its principal components as colour, codes of a quantiser, and self-similarity.

Needs more packages: pip install '.[plot]'.
"""
EXAMPLES = """\
examples:
  auricle plot speech.wav --model tera --layer -1 --out tera.png
  auricle plot speech.wav --labels phones.tsv --start 1.5 --end 3 --out part.pdf
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the utterance, the model and its layer."""
    add_speech(parser)
    add_model(parser)
    parser.add_argument(
        "--layer", metavar="LAYER", help=f"{LAYER_HELP} (default: the model's default layer)"
    )
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the picture.

    Raises:
        AuricleError: The file, the labels, the model or the layer is wrong, matplotlib is missing,
            or the picture cannot be written.
    """
    from auricle.plotting.api import picture_of
    from auricle.plotting.figures import check_plotting, save_figure

    check_plotting(arguments.out)
    speech = read_speech(arguments)
    layer = layer_argument(arguments.layer)
    if layer == "all":
        raise AuricleError(
            "one picture shows one layer: pass an index or a name as --layer, or draw all layers "
            "with auricle compare FILE --models MODEL --layers all"
        )
    choose_model(arguments)
    save_figure(picture_of(speech, load_encoder(arguments), layer).figure, arguments.out)
    print(f"wrote {arguments.out}")
    return 0
