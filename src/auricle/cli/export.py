"""`auricle export`: an encoder for another library."""

from __future__ import annotations

import argparse

from auricle.cli.encoders import load_encoder
from auricle.convert.huggingface_export import export_to_transformers
from auricle.writing import refuse_used_folder


def run(arguments: argparse.Namespace) -> int:
    """Write the folder and say where it is.

    Raises:
        AuricleError: The model cannot be loaded, or the other library has none like it.
        OutputError: The folder holds something, or cannot be written.
    """
    # Before the weights are fetched, which may take long.
    refuse_used_folder(arguments.out)
    encoder = load_encoder(arguments)
    export_to_transformers(encoder, arguments.out)
    print(
        f"wrote {encoder.info.name} to {arguments.out}; in Python: "
        f'transformers.AutoModel.from_pretrained("{arguments.out}")'
    )
    return 0
