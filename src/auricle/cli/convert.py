"""`auricle convert`: an original checkpoint as one file of the library's own."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

from auricle.errors import OutputError
from auricle.hub.digests import file_sha256
from auricle.hub.loading import load


def run(arguments: argparse.Namespace) -> int:
    """Write the file and say what it holds.

    Raises:
        AuricleError: The checkpoint cannot be loaded, or the file not written.
    """
    if arguments.out.suffix != ".safetensors":
        raise OutputError(
            f"cannot write {arguments.out}: expected a name that ends in .safetensors"
        )
    dtype: torch.dtype = getattr(torch, arguments.dtype)
    source: str = arguments.checkpoint
    name, checkpoint = (source, None) if arguments.model is None else (arguments.model, source)
    encoder = load(
        name,
        checkpoint=checkpoint,
        config=arguments.config,
        dtype=dtype,
        refresh=arguments.refresh,
    )
    if encoder.provenance.sha256 is None and Path(source).is_file():
        digest = file_sha256(Path(source))
        encoder.provenance = dataclasses.replace(encoder.provenance, sha256=digest)
    encoder.save(arguments.out)
    info = encoder.info
    print(
        f"wrote {arguments.out}: {info.name}, family {info.family}, {info.num_parameters:,} "
        f"parameters, {arguments.dtype}, {arguments.out.stat().st_size:,} bytes"
    )
    if encoder.unused_keys:
        print(f"{len(encoder.unused_keys)} keys of the checkpoint are for pretraining only")
    return 0
