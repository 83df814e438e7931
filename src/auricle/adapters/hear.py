"""The API of HEAR (https://hearbenchmark.com/hear-api.html) for every encoder.

`hear-validator auricle.adapters.hear --model NAME`: what HEAR calls the path of a model is a name,
path or address that `auricle.load` takes, with `#LAYER` after it for a layer of your choice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from auricle.catalogue.record import DEFAULT_MODEL
from auricle.errors import AudioError
from auricle.hub.load import load
from auricle.models.base import Encoder


class HearModel(nn.Module):
    """An encoder and one of its layers, with the rate and the sizes that HEAR reads."""

    def __init__(self, encoder: Encoder, layer: int | str | None = None) -> None:
        super().__init__()
        info = encoder.layer_info(layer)
        self.encoder, self.layer = encoder, info.name
        self.sample_rate = encoder.sample_rate
        self.scene_embedding_size = self.timestamp_embedding_size = info.dim


def load_model(model_file_path: str = "") -> HearModel:
    """Load an encoder.

    Args:
        model_file_path: Name, path or address, and after a `#` the name or index of a layer; empty
            for the bundled toy model.

    Raises:
        AuricleError: As `auricle.load` raises it.
        LayerError: The encoder has no such layer.
    """
    name, _, layer = model_file_path.partition("#")
    is_index = layer.removeprefix("-").isdecimal()
    return HearModel(load(name or DEFAULT_MODEL), int(layer) if is_index else layer or None)


@torch.no_grad()
def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Frames of sounds of one length, and the middle of each in milliseconds.

    Args:
        audio: (B, S), at the model's rate, in [-1, 1]; zeros follow where it is too short.
        model: From `load_model`.

    Returns:
        Tensors (B, T, D) and (B, T), float32.

    Raises:
        AudioError: There is no batch of sounds; as in a call of the encoder.
    """
    if audio.ndim != 2 or len(audio) == 0:
        raise AudioError(f"audio must be (B, S), one sound or more, but is {tuple(audio.shape)}")
    num_samples = max(audio.shape[1], model.encoder.min_samples)
    centres = model.encoder.frame_centres(num_samples, model.layer)
    outputs = model.encoder(list(audio), model.layer, pad_short=True)
    timestamps = (1000 * centres).float().to(audio.device).expand(len(audio), -1)
    return torch.stack(outputs), timestamps


@torch.no_grad()
def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """Means (B, D), float32, over all frames of sounds (B, S); as `get_timestamp_embeddings`."""
    return model.encoder.pooled(list(audio), "mean", model.layer, pad_short=True)
