"""transformers as it is called: `model(input_values, attention_mask).last_hidden_state`.

Waveforms are normalised as `Wav2Vec2FeatureExtractor` does, but with torch and with the epsilon of
the models' authors, 1e-5 for 1e-7. A batch is padded with zeros and has an attention mask. Models
that read spectra get those of their own feature extractor, inside the time. The graph for
onnxruntime and OpenVINO is made here too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from peer_workers.protocol import TorchWorker, serve
from peer_workers.torchaudio_import import import_transformers

SAMPLE_RATE = 16_000
EXAMPLE_SAMPLES = 32_000
ONNX_OPSET = 17


class TransformersWorker(TorchWorker):
    def __init__(self) -> None:
        self.transformers = import_transformers()

    def versions(self) -> dict[str, str]:
        return {"transformers": self.transformers.__version__, "torch": torch.__version__}

    def load(self, checkpoint: str) -> None:
        self.model = self.transformers.AutoModel.from_pretrained(checkpoint).eval()
        reader = json.loads((Path(checkpoint) / "preprocessor_config.json").read_text())
        self.normalizes = reader.get("do_normalize")
        self.extractor = None
        if self.normalizes is None:
            self.extractor = self.transformers.AutoFeatureExtractor.from_pretrained(checkpoint)

    def normalised(self, waveform: Tensor) -> Tensor:
        if not self.normalizes:
            return waveform
        return F.layer_norm(waveform, waveform.shape)

    def spectral(self, waveforms: list[Tensor]) -> list[Tensor]:
        """Outputs of a model that reads the spectra of its feature extractor."""
        samples = [waveform.numpy() for waveform in waveforms]
        inputs = self.extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        x = self.model(**inputs).last_hidden_state
        num_frames = inputs["attention_mask"].sum(1).tolist()
        return [row[:count] for row, count in zip(x, num_frames, strict=True)]

    def alone(self, waveform: Tensor) -> Tensor:
        if self.extractor is not None:
            return self.spectral([waveform])[0]
        return self.model(self.normalised(waveform)[None]).last_hidden_state[0]

    def together(self, waveforms: list[Tensor]) -> list[Tensor]:
        if self.extractor is not None:
            return self.spectral(waveforms)
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        batch = pad_sequence([self.normalised(waveform) for waveform in waveforms], True)
        mask = (torch.arange(batch.shape[1]) < lengths[:, None]).long()
        x = self.model(batch, attention_mask=mask).last_hidden_state
        num_frames = self.model._get_feat_extract_output_lengths(lengths).tolist()
        return [row[:count] for row, count in zip(x, num_frames, strict=True)]

    def job_export(self, request: dict[str, Any]) -> dict[str, Any]:
        """The graph of a batch of one, of any length, by torch's exporter that traces."""
        path = Path(request["folder"]) / "model.onnx"
        self.load(request["checkpoint"])
        self.model.config.return_dict = False
        self.model.set_attn_implementation("eager")
        with torch.no_grad():
            torch.onnx.export(
                self.model,
                (torch.randn(1, EXAMPLE_SAMPLES),),
                str(path),
                input_names=["input_values"],
                output_names=["last_hidden_state"],
                dynamic_axes={
                    "input_values": {0: "batch", 1: "samples"},
                    "last_hidden_state": {0: "batch", 1: "frames"},
                },
                opset_version=ONNX_OPSET,
                dynamo=False,
            )
        return {"checkpoint": str(path)}


if __name__ == "__main__":
    serve(TransformersWorker)
