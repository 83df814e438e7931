"""What a `.safetensors` output says about itself: model, layers, rates and origin."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from auricle.hub.digests import file_sha256
from auricle.models.base import Encoder
from auricle.outputs import LayerInfo


def encoder_metadata(
    encoder: Encoder, model: str, checkpoint: Path | None, layers: Sequence[LayerInfo]
) -> dict[str, str]:
    """Facts that all outputs of one run share; safetensors holds text alone.

    `model` is what the user calls the encoder and `checkpoint` the file it was read from, if it
    was one of theirs. Each of `layers` gets its width, its hop and the span of its first frame in
    samples; `hop_samples` and `layer` stand by themselves where there is one value for all.
    """
    info = encoder.info
    rates = {
        layer.name: {
            "dim": layer.dim,
            "hop_samples": layer.geometry.hop_samples,
            "window_samples": layer.geometry.window_samples,
            "start_samples": layer.geometry.start_samples,
        }
        for layer in layers
    }
    facts = {
        "model": model,
        "family": info.family,
        "sample_rate": str(info.sample_rate),
        "layers": json.dumps(rates),
        "default_layer": info.default_layer,
        "dtype": str(encoder.dtype).removeprefix("torch."),
    }
    if len(layers) == 1:
        facts["layer"] = layers[0].name
    hops = {layer.geometry.hop_samples for layer in layers}
    if len(hops) == 1:
        facts["hop_samples"] = str(hops.pop())
    digest = info.sha256
    if checkpoint is not None:  # which may be a folder
        digest = file_sha256(checkpoint) if checkpoint.is_file() else None
    if digest:
        facts["checkpoint_sha256"] = digest
    return facts


def source_metadata(source: Path) -> dict[str, str]:
    """Facts about the audio file that one output comes from."""
    name = os.fsencode(source).decode(errors="replace")
    return {"source": name, "source_sha256": file_sha256(source)}
