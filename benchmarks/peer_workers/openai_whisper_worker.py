"""openai-whisper as its own code encodes: zeros up to 30 s, log mel features, `AudioEncoder`.

A batch is a batch of the encoder; features are computed one by one, for in a batch they share a
maximum. Outputs are cut to the frames of their waveforms.
"""

from __future__ import annotations

import torch
import whisper
from torch import Tensor
from whisper.model import ModelDimensions, Whisper

from peer_workers.protocol import TorchWorker, own_frames, serve


class OpenaiWhisperWorker(TorchWorker):
    def versions(self) -> dict[str, str]:
        return {"openai-whisper": whisper.__version__, "torch": torch.__version__}

    def load(self, checkpoint: str) -> None:
        content = torch.load(checkpoint, weights_only=True)
        model = Whisper(ModelDimensions(**content["dims"]))
        model.load_state_dict(content["model_state_dict"], strict=False)
        self.encoder = model.encoder.eval()
        self.num_mels = content["dims"]["n_mels"]

    def features(self, waveform: Tensor) -> Tensor:
        return whisper.log_mel_spectrogram(whisper.pad_or_trim(waveform), self.num_mels)

    def alone(self, waveform: Tensor) -> Tensor:
        return self.together([waveform])[0]

    def together(self, waveforms: list[Tensor]) -> list[Tensor]:
        x = self.encoder(torch.stack([self.features(waveform) for waveform in waveforms]))
        return [row[: own_frames(len(one))] for row, one in zip(x, waveforms, strict=True)]


if __name__ == "__main__":
    serve(OpenaiWhisperWorker)
