"""An encoder for X-ARES (https://github.com/jimbozhang/xares); imports nothing of it.

X-ARES takes a file with one class whose name ends with `Encoder`, makes it without arguments, and
keeps results by its name: a class for each model and layer.

    from auricle.adapters import xares

    class WavlmBaseEncoder(xares.XaresEncoder):
        model = "wavlm_base"
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from auricle.catalogue.record import DEFAULT_MODEL
from auricle.errors import AudioError
from auricle.hub.load import load


class XaresEncoder(nn.Module):
    """Padded waveforms in, padded frames out, as X-ARES asks for them.

    Attributes:
        model: Name, path or address for `auricle.load`; the bundled toy model unless a subclass
            says another.
        layer: Index or name of the layer; None for the default one.
        sampling_rate: Rate of waveforms in Hz.
        output_dim: D, features of a frame.
        hop_size_in_ms: Time from one frame to the next.
    """

    model: ClassVar[str] = DEFAULT_MODEL
    layer: ClassVar[int | str | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.encoder = load(self.model)
        info = self.encoder.layer_info(self.layer)
        self.sampling_rate = self.encoder.sample_rate
        self.output_dim = info.dim
        self.hop_size_in_ms = 1000 * info.geometry.hop_samples / self.sampling_rate

    def forward(self, audio: Tensor) -> Tensor:
        """Frames (B, T, D), float32, of waveforms (B, S); zeros follow those that are too short.

        X-ARES gives no lengths: the zeros after shorter waveforms of a batch count as audio.

        Raises:
            AudioError: There is no batch of waveforms; as in a call of the encoder.
        """
        if audio.ndim != 2 or len(audio) == 0:
            raise AudioError(f"audio must be (B, S), B at least 1, but is {tuple(audio.shape)}")
        return torch.stack(self.encoder(list(audio), self.layer, pad_short=True))
