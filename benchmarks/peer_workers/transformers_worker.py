"""transformers as it is called: `model(input_values, attention_mask).last_hidden_state`.

Waveforms are normalised as `Wav2Vec2FeatureExtractor` does, but with torch and with the epsilon of
the models' authors, 1e-5 for 1e-7. A batch is padded with zeros and has an attention mask. Models
that read spectra take those of their own feature extractor, inside the time. The graph for
onnxruntime and OpenVINO and the files of openai-whisper and CTranslate2 are made here too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from peer_workers.protocol import TrainedWorker, own_frames, serve
from peer_workers.torchaudio_import import import_transformers

SAMPLE_RATE = 16_000
EXAMPLE_SAMPLES = 32_000
ONNX_OPSET = 17


class TransformersWorker(TrainedWorker):
    frozen = "feature_extractor"

    def __init__(self) -> None:
        self.transformers = import_transformers()

    def versions(self) -> dict[str, str]:
        return {"transformers": self.transformers.__version__, "torch": torch.__version__}

    def load(self, checkpoint: str) -> None:
        self.model = self.transformers.AutoModel.from_pretrained(checkpoint).eval()
        reader = json.loads((Path(checkpoint) / "preprocessor_config.json").read_text())
        self.normalizes = reader.get("do_normalize")
        self.extractor = None
        self.is_whisper = reader["feature_extractor_type"] == "WhisperFeatureExtractor"
        if self.is_whisper or self.normalizes is None:
            self.extractor = self.transformers.AutoFeatureExtractor.from_pretrained(checkpoint)

    def normalised(self, waveform: Tensor) -> Tensor:
        if not self.normalizes:
            return waveform
        return F.layer_norm(waveform, waveform.shape)

    def spectral(self, waveforms: list[Tensor]) -> list[Tensor]:
        """Outputs of a model that reads the spectra of its feature extractor."""
        samples = [waveform.numpy() for waveform in waveforms]
        inputs = self.extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        if self.is_whisper:
            x = self.model.encoder(inputs.input_features).last_hidden_state
            num_frames = [own_frames(len(waveform)) for waveform in waveforms]
        else:
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

    def trained(self, is_frozen: bool) -> Any:
        config = self.model.config
        config.layerdrop = config.mask_time_prob = config.mask_feature_prob = 0.0
        return self.model.train()

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

    def job_openai_whisper(self, request: dict[str, Any]) -> dict[str, Any]:
        """The encoder as a file of OpenAI's, in float32, with a decoder of no weights."""
        path = Path(request["folder"]) / "openai.pt"
        self.load(request["checkpoint"])
        config = self.model.config
        dims = {
            "n_mels": config.num_mel_bins,
            "n_audio_ctx": config.max_source_positions,
            "n_audio_state": config.d_model,
            "n_audio_head": config.encoder_attention_heads,
            "n_audio_layer": config.encoder_layers,
            "n_vocab": 1,
            "n_text_ctx": 1,
            "n_text_state": config.encoder_attention_heads,
            "n_text_head": config.encoder_attention_heads,
            "n_text_layer": 0,
        }
        weights = {}
        for name, weight in self.model.encoder.state_dict().items():
            for theirs, openai in OPENAI_NAMES.items():
                name = name.replace(theirs, openai)
            weights[f"encoder.{name}"] = weight
        torch.save({"dims": dims, "model_state_dict": weights}, path)
        return {"checkpoint": str(path)}

    def job_ctranslate2(self, request: dict[str, Any]) -> dict[str, Any]:
        """The encoder as CTranslate2 reads it, with a decoder of one small layer."""
        from ctranslate2.converters.transformers import WhisperLoader

        folder = Path(request["folder"]) / "ctranslate2"
        self.load(request["checkpoint"])
        config = self.transformers.WhisperConfig(
            **self.model.config.to_dict() | {"decoder_layers": 1, "max_target_positions": 8}
        )
        model = self.transformers.WhisperForConditionalGeneration(config).eval()
        model.model.encoder.load_state_dict(self.model.encoder.state_dict())
        with torch.no_grad():
            spec = WhisperLoader().get_model_spec(model.requires_grad_(False))
            spec.register_vocabulary([str(index) for index in range(config.vocab_size)])
            spec.config.suppress_ids = spec.config.suppress_ids_begin = spec.config.lang_ids = []
            spec.config.alignment_heads = [(0, 0)]
            spec.validate()
            spec.optimize("float32")
            folder.mkdir()
            spec.save(str(folder))
        (folder / "num_mels").write_text(str(config.num_mel_bins))
        return {"checkpoint": str(folder)}


OPENAI_NAMES = {
    "layers.": "blocks.",
    "self_attn_layer_norm": "attn_ln",
    "final_layer_norm": "mlp_ln",
    "layer_norm": "ln_post",
    "self_attn.q_proj": "attn.query",
    "self_attn.k_proj": "attn.key",
    "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
    "embed_positions.weight": "positional_embedding",
}
"""Parts of names of weights, those that hold others first."""


if __name__ == "__main__":
    serve(TransformersWorker)
