"""`auricle convert`: write an original checkpoint as one safetensors file."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from auricle.cli.options import DTYPES, configuration
from auricle.errors import OutputError

SUMMARY = "convert a checkpoint to one safetensors file"
TEXT = """\
Convert a checkpoint to one .safetensors file in auricle's own format.

The file holds weights, configuration and provenance (URL, sha256, licence where known), needs no
unpickling, and is memory-mapped when loaded. CKPT is a file or folder, a URL, or a name of the
catalogue. An existing FILE is replaced atomically.
"""
EXAMPLES = """\
examples:
  auricle convert states-1000000.ckpt --out tera.safetensors
  auricle convert FE_e199.ckpt --model pase --config PASE+.cfg --out pase.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the checkpoint, the file to write and the type of its weights."""
    parser.add_argument("checkpoint", metavar="CKPT", help="file, folder, URL or catalogue name")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, required=True, help="the .safetensors file to write"
    )
    parser.add_argument(
        "--model",
        "--family",
        metavar="FAMILY_OR_NAME",
        help="model or family of the checkpoint (default: detected)",
    )
    parser.add_argument(
        "--config",
        metavar="CONFIG",
        type=configuration,
        help="its configuration, if that is a separate file (PASE) in another folder, or if the "
        "checkpoint has tensors only; or fields to change, such as normalize=false",
    )
    parser.add_argument(
        "--without-adapters",
        action="store_true",
        help="leave out adapters of the checkpoint, with which it is refused (MMS for recognition)",
    )
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="ignore the cache: download again, also if the file has changed since",
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="dtype of the weights (default: float32)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the file and print what it holds.

    Raises:
        AuricleError: The checkpoint cannot be loaded, or the file not written.
    """
    if arguments.out.suffix != ".safetensors":
        raise OutputError(
            f"cannot write {arguments.out}: expected a name that ends in .safetensors"
        )
    import torch

    from auricle.files.digests import file_sha256
    from auricle.hub.load import load

    dtype: torch.dtype = getattr(torch, arguments.dtype)
    source: str = arguments.checkpoint
    name, checkpoint = (source, None) if arguments.model is None else (arguments.model, source)
    encoder = load(
        name,
        checkpoint=checkpoint,
        config=arguments.config,
        device="cpu",
        refresh=arguments.refresh,
        without_adapters=arguments.without_adapters,
    ).to(dtype)
    provenance = encoder.provenance
    if provenance.sha256 is None and Path(source).is_file():
        provenance = dataclasses.replace(provenance, sha256=file_sha256(Path(source)))
    encoder.save(arguments.out, provenance=provenance)
    info = encoder.info
    print(
        f"wrote {arguments.out}: {info.name}, family {info.family}, {info.num_parameters:,} "
        f"parameters, {arguments.dtype}, {arguments.out.stat().st_size:,} bytes"
    )
    if encoder.unused_keys:
        print(f"{len(encoder.unused_keys)} keys of the checkpoint are not used by the encoder")
    return 0
