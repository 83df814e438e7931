"""What a store says of itself: the encoder, what is kept of it, and in which form."""

from __future__ import annotations

import hashlib

import msgspec
import torch

from auricle.extraction.selection import Selection
from auricle.extraction.store import layout
from auricle.models.base import Encoder
from auricle.models.precision import precision_of
from auricle.outputs import SAMPLE_RATE


def describe(
    encoder: Encoder,
    selection: Selection,
    *,
    model: str,
    store_format: str,
    channel: int | None,
    short: str,
    library_version: str,
) -> layout.StoreMeta:
    """The meta.json of what `selection` keeps of an encoder.

    Args:
        encoder: What encodes.
        selection: What is kept.
        model: What the user calls the encoder.
        store_format: One of `formats.registry.FORMAT_NAMES`.
        channel: Which channel is taken where the inputs name none; None for the mean.
        short: What happens to audio shorter than the encoder's minimum.
        library_version: Version of this library.
    """
    info = encoder.info
    windows = selection.windows
    layers = tuple(
        layout.LayerMeta(
            name=one.name,
            dim=one.dim,
            hop_samples=None if selection.pool else one.hop_samples,
        )
        for one in selection.kept(encoder)
    )
    return layout.StoreMeta(
        format=store_format,
        model=model,
        family=encoder.family,
        layers=layers,
        sample_rate=SAMPLE_RATE,
        dtype="int64" if selection.wants_codes else selection.dtype,
        selection=layout.Selection(
            layers=selection.layers,
            weights=selection.weights,
            pool=selection.pool,
            codes=selection.wants_codes,
            window_seconds=windows.window_seconds if windows else None,
            overlap_seconds=windows.overlap_seconds if windows else None,
        ),
        channel=channel,
        short=short,
        encoder_dtype=precision_of(encoder),
        model_sha256=encoder_sha256(encoder),
        checkpoint_sha256=info.sha256,
        source_url=info.source_url,
        licence=info.licence,
        library_version=library_version,
    )


def encoder_sha256(encoder: Encoder) -> str:
    """Digest, in hex, of all that decides what an encoder gives: family, configuration, weights.

    Unlike the digest of a checkpoint's file it is there for every encoder, and is the same
    whatever format the weights came in.
    """
    digest = hashlib.sha256(encoder.family.encode())
    digest.update(msgspec.json.encode(encoder.config))
    if precision_of(encoder) == "int8":
        digest.update(b"int8")  # other types are those of the weights
    for name, weight in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(memoryview(weight.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()
