"""`auricle export`: write an encoder for another library."""

from __future__ import annotations

import argparse
from pathlib import Path

from auricle.cli.options import MODEL_HELP, add_weights, load_encoder

SUMMARY = "export an encoder to transformers"
TEXT = """\
Export an encoder as a folder that transformers loads, with the same numbers.

For wav2vec 2.0, its Conformer, omniASR, HuBERT, UniSpeech-SAT, WavLM, data2vec audio, w2v-BERT 2.0
and Whisper. DIR, which must be empty or not exist, receives config.json, preprocessor_config.json
and model.safetensors, all at once.
"""
EXAMPLES = """\
examples:
  auricle export hubert --to transformers hubert-folder
  auricle export path/to/checkpoint_best.pt --to transformers my-wav2vec2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the library and the folder to write."""
    # Weights are written from memory, in float32.
    parser.set_defaults(device="cpu", precision="float32")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "--to", choices=("transformers",), required=True, help="library to export to"
    )
    parser.add_argument("out", metavar="DIR", type=Path, help="folder to write")
    add_weights(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the folder and print its path.

    Raises:
        AuricleError: The model cannot be loaded, or has no equivalent in the other library.
        OutputError: The folder is not empty, or cannot be written.
    """
    from auricle.files.atomic import refuse_used_folder

    # Before the weights are fetched, which may take long.
    refuse_used_folder(arguments.out)
    from auricle.checkpoints.export import export_to_transformers

    encoder = load_encoder(arguments)
    export_to_transformers(encoder, arguments.out)
    print(
        f"wrote {encoder.info.name} to {arguments.out}; in Python: "
        f'transformers.AutoModel.from_pretrained("{arguments.out}")'
    )
    return 0
