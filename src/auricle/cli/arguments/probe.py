"""Arguments of `auricle probe`."""

from __future__ import annotations

import argparse
from pathlib import Path

from auricle.cli.arguments.shared import (
    LAYER_HELP,
    MODEL_HELP,
    add_device,
    add_weights,
    whole_number,
    words,
)

SUMMARY = "measure what layers tell"
TEXT = """\
Measure what the layers of frozen encoders make easy to tell, with linear classifiers.

Tasks: phones (frames; librispeech/phones.tsv), words (means over time; arabic_words), speakers
(means over time; librispeech, split speakers). FOLDER is the corpus or the folder that holds it
under that name; docs/probing.md says what must be in it. What is tested is never trained on.

DIR receives TASK.json, TASK.png (accuracy over layers) and table.md, anew after each model.
Results of other models that it holds stay there, so a comparison can grow.

Needs more packages: pip install scikit-learn matplotlib.
"""
EXAMPLES = """\
examples:
  auricle probe --model tera --task phones --data corpora/librispeech --out probes
  auricle probe --models fbank,mel,tera --task phones,words,speakers --data corpora --out probes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    parser.set_defaults(module="auricle.cli.probe")
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", metavar="MODEL", help=MODEL_HELP)
    model.add_argument(
        "--models", metavar="MODEL,...", type=words, help="several, for one table to compare them"
    )
    parser.add_argument(
        "--task",
        metavar="TASK,...",
        type=words,
        required=True,
        help="phones, words, speakers, or several of them",
    )
    parser.add_argument(
        "--data", metavar="FOLDER", type=Path, required=True, help="the corpus of the task"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder to write results to")
    parser.add_argument(
        "--layers",
        metavar="LAYER,...",
        type=words,
        help=f"{LAYER_HELP} (default: all whose frames are 5 ms or more apart)",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=whole_number,
        default=0,
        help="decides which half of a speaker's utterances is held out (default: 0)",
    )
    add_weights(parser)
    add_device(parser)
