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
        """The encoder as CTranslate2 reads it, with what else its format wants.

        That is a decoder of one small layer (Whisper), and after w2v-BERT an adapter of one layer,
        which it computes too.

        Raises:
            ValueError: Its format has no such model.
        """
        folder = Path(request["folder"]) / "ctranslate2"
        self.load(request["checkpoint"])
        kind = self.model.config.model_type
        options: dict[str, Any] = {"kind": kind}
        with torch.no_grad():
            if self.is_whisper:
                options["num_mels"] = self.model.config.num_mel_bins
                spec = self._whisper_spec()
            elif kind in ("wav2vec2", "hubert"):
                options["normalizes"] = self.normalizes
                spec = self._wav2vec2_spec()
            elif kind == "wav2vec2-bert":
                options["features"] = request["checkpoint"]
                spec = self._w2v_bert_spec()
            else:
                raise ValueError(f"CTranslate2 has no {kind}")
            spec.validate()
            spec.optimize("float32")
            folder.mkdir()
            spec.save(str(folder))
        (folder / "encoder.json").write_text(json.dumps(options))
        return {"checkpoint": str(folder)}

    def _whisper_spec(self) -> Any:
        from ctranslate2.converters.transformers import WhisperLoader

        config = self.transformers.WhisperConfig(
            **self.model.config.to_dict() | {"decoder_layers": 1, "max_target_positions": 8}
        )
        model = self.transformers.WhisperForConditionalGeneration(config).eval()
        model.model.encoder.load_state_dict(self.model.encoder.state_dict())
        spec = WhisperLoader().get_model_spec(model.requires_grad_(False))
        spec.register_vocabulary([str(index) for index in range(config.vocab_size)])
        spec.config.suppress_ids = spec.config.suppress_ids_begin = spec.config.lang_ids = []
        spec.config.alignment_heads = [(0, 0)]
        return spec

    def _wav2vec2_spec(self) -> Any:
        """Of wav2vec 2.0, and of HuBERT, which has the same parts."""
        from ctranslate2.converters.transformers import Wav2Vec2Loader

        config = self.transformers.Wav2Vec2Config(
            **{**self.model.config.to_dict(), "model_type": "wav2vec2", "vocab_size": 1}
        )
        if not config.do_stable_layer_norm or config.feat_extract_norm != "layer":
            raise ValueError(
                "CTranslate2 has norms before the parts of a layer and in all convolutions alone"
            )
        model = self.transformers.Wav2Vec2ForCTC(config).eval()
        model.wav2vec2.load_state_dict(self.model.state_dict())
        model.wav2vec2.config.return_hidden = True
        spec = Wav2Vec2Loader().get_model_spec(model.requires_grad_(False))
        spec.register_vocabulary(["0"])
        return spec

    def _w2v_bert_spec(self) -> Any:
        from ctranslate2.converters.transformers import Wav2Vec2BertLoader

        model = self.with_adapter()
        model.wav2vec2_bert.config.return_hidden = True
        spec = Wav2Vec2BertLoader().get_model_spec(model.requires_grad_(False))
        spec.register_vocabulary(["0"])
        return spec

    def with_adapter(self) -> Any:
        """The w2v-BERT with an adapter of one layer, and a head.

        The adapter passes on every second frame, normalised and scaled, so that the encoder shows
        in the output; what it computes takes the time of any weights.
        """
        options = {**self.model.config.to_dict(), "vocab_size": 1}
        options |= {"add_adapter": True, "num_adapter_layers": 1}
        config = self.transformers.Wav2Vec2BertConfig(**options)
        with torch.device("meta"):
            model = self.transformers.Wav2Vec2BertForCTC(config).eval()
        for part in (model.wav2vec2_bert.adapter, model.lm_head):
            for name, weight in part.to_empty(device="cpu").named_parameters():
                weight.fill_(float(name.endswith("layer_norm.weight")))
        convolution = model.wav2vec2_bert.adapter.layers[0].residual_conv
        convolution.weight[: config.hidden_size, :, 1] = torch.eye(config.hidden_size)
        # The published weights themselves, not copies: there are 600 million.
        weights = self.model.state_dict()
        model.wav2vec2_bert.load_state_dict(weights, strict=False, assign=True)
        return model


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
