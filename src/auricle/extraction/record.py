"""Record of an extraction: the meta.json of its store."""

from __future__ import annotations

import hashlib

import msgspec

from auricle.extraction.selection import Selection
from auricle.files.safetensors import raw_bytes
from auricle.geometry import SAMPLE_RATE
from auricle.inference.precision import precision_of
from auricle.models.base import Encoder
from auricle.store.layout import LayerMeta, SelectionMeta, StoreMeta
from auricle.units.codebook import Units, known_sha256


def describe(
    encoder: Encoder,
    selection: Selection,
    *,
    model: str,
    store_format: str,
    channel: int | None,
    short: str,
    compression: str | None = None,
    library_version: str,
) -> StoreMeta:
    """The meta.json of what `selection` keeps of an encoder.

    Args:
        encoder: What encodes.
        selection: What is kept.
        model: What the user calls the encoder.
        store_format: One of `formats.registry.FORMAT_NAMES`.
        channel: Which channel is taken where the inputs name none; None for the mean.
        short: What happens to audio shorter than the encoder's minimum.
        compression: One of `KALDI_METHODS`; None for none.
        library_version: Version of this library.
    """
    info = encoder.info
    windows = selection.windows
    has_frames = not (selection.pool or selection.deduplicate)
    layers = tuple(
        LayerMeta(
            name=one.name,
            dim=one.dim,
            hop_samples=one.geometry.hop_samples if has_frames else None,
            window_samples=one.geometry.window_samples if has_frames else None,
            start_samples=one.geometry.start_samples if has_frames else None,
        )
        for one in selection.kept(encoder)
    )
    return StoreMeta(
        format=store_format,
        model=model,
        family=encoder.family,
        layers=layers,
        sample_rate=SAMPLE_RATE,
        dtype=selection.kept_dtype,
        selection=SelectionMeta(
            layers=selection.layers,
            weights=selection.weights,
            pool=selection.pool,
            codes=selection.wants_codes,
            units_sha256=None if selection.units is None else units_sha256(selection.units),
            deduplicate=selection.deduplicate,
            window_seconds=windows.window_seconds if windows else None,
            overlap_seconds=windows.overlap_seconds if windows else None,
            final_norm=selection.final_norm,
        ),
        channel=channel,
        compression=compression,
        short=short,
        encoder_dtype=precision_of(encoder),
        model_sha256=known_sha256(encoder),
        config=info.changed_config,
        checkpoint_sha256=info.sha256,
        source_url=info.source_url,
        licence=info.licence,
        library_version=library_version,
    )


def units_sha256(units: Units) -> str:
    """Digest, in hex, of all that decides the units of an encoder's frames.

    It is the same whatever is said of their origin, and wherever their encoder lies.
    """
    facts = (units.layer, units.final_norm, units.normalization)
    digest = hashlib.sha256(msgspec.json.encode(facts))
    for x in (units.centroids, units.mean, units.scale):
        if x is not None:
            digest.update(f"{tuple(x.shape)}".encode())
            digest.update(raw_bytes(x).data)
    return digest.hexdigest()
