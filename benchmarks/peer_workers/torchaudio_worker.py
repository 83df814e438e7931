"""torchaudio as it is called: `model(waveforms, lengths)`, with weights of transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from peer_workers.protocol import TorchWorker, serve
from peer_workers.torchaudio_import import import_torchaudio, import_transformers


class TorchaudioWorker(TorchWorker):
    def __init__(self) -> None:
        self.torchaudio: Any = import_torchaudio()
        self.transformers: Any = import_transformers()

    def versions(self) -> dict[str, str]:
        return {"torchaudio": self.torchaudio.__version__, "torch": torch.__version__}

    def load(self, checkpoint: str) -> None:
        from torchaudio.models.wav2vec2.utils import import_huggingface_model

        original = self.transformers.AutoModel.from_pretrained(checkpoint).eval()
        self.model = import_huggingface_model(original).eval()

    def alone(self, waveform: Tensor) -> Tensor:
        return self.model(waveform[None])[0][0]

    def together(self, waveforms: list[Tensor]) -> list[Tensor]:
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        x, num_frames = self.model(pad_sequence(waveforms, True), lengths)
        return [row[:count] for row, count in zip(x, num_frames.tolist(), strict=True)]


if __name__ == "__main__":
    serve(TorchaudioWorker)
