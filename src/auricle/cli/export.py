"""`auricle export`: write an encoder for transformers or ONNX Runtime."""

from __future__ import annotations

import argparse
from pathlib import Path

from auricle.cli.options import (
    LAYER_HELP,
    MODEL_HELP,
    add_weights,
    layer_argument,
    load_encoder,
)
from auricle.errors import AuricleError

SUMMARY = "export an encoder to transformers or ONNX"
TEXT = """\
Export an encoder as a folder that transformers or ONNX Runtime loads, with the same numbers.

transformers: for wav2vec 2.0, its Conformer, omniASR, HuBERT, UniSpeech-SAT, WavLM, data2vec audio,
w2v-BERT 2.0 and Whisper. DIR, which must be empty or not exist, receives config.json,
preprocessor_config.json and model.safetensors, all at once.

onnx: one layer, for one waveform of any length. DIR receives model.onnx and auricle.json, after
ONNX Runtime's frames have been compared with the library's. Needs more packages: pip install
'.[onnx]'.
"""
EXAMPLES = """\
examples:
  auricle export hubert --to transformers hubert-folder
  auricle export path/to/checkpoint_best.pt --to transformers my-wav2vec2
  auricle export apc_mini --to onnx apc-onnx
  auricle export wavlm_base --to onnx wavlm-onnx --layer 9
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the library and the folder to write."""
    # Weights are written from memory, in float32.
    parser.set_defaults(device="cpu", precision="float32")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "--to", choices=("transformers", "onnx"), required=True, help="library to export to"
    )
    parser.add_argument("out", metavar="DIR", type=Path, help="folder to write")
    parser.add_argument(
        "--layer", metavar="LAYER", help=f"onnx: {LAYER_HELP} (default: the model's default)"
    )
    parser.add_argument(
        "--final-norm",
        choices=("keep", "strip", "each"),
        default="keep",
        help="onnx: the norm after the last layer (default: keep)",
    )
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
    if arguments.to == "onnx":
        return _run_onnx(arguments)
    if arguments.layer is not None or arguments.final_norm != "keep":
        raise AuricleError(
            "--layer and --final-norm are for --to onnx: transformers gets the whole encoder"
        )
    from auricle.checkpoints.export import export_to_transformers

    encoder = load_encoder(arguments)
    export_to_transformers(encoder, arguments.out)
    print(
        f"wrote {encoder.info.name} to {arguments.out}; in Python: "
        f'transformers.AutoModel.from_pretrained("{arguments.out}")'
    )
    return 0


def _run_onnx(arguments: argparse.Namespace) -> int:
    from auricle.checkpoints.onnx import MODEL_FILE, check_packages, export_to_onnx

    check_packages()
    encoder = load_encoder(arguments)
    layer = None if arguments.layer is None else layer_argument(arguments.layer)
    export_to_onnx(encoder, arguments.out, layer=layer, final_norm=arguments.final_norm)
    print(
        f"wrote {encoder.info.name} to {arguments.out}; in Python: onnxruntime.InferenceSession("
        f'"{arguments.out / MODEL_FILE}").run(None, {{"waveform": samples}})'
    )
    return 0
