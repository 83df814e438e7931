"""s3prl as it is called: `UpstreamExpert(checkpoint)(waveforms)["last_hidden_state"]`.

It builds the models too: its own classes at the published sizes, their random weights saved as the
authors' checkpoints are, so that both libraries load the same file. WavLM's weights come from a
folder of transformers, for auricle does not read its authors' format. `torchaudio_import` says what
stands in for parts of torchaudio; nothing of s3prl is changed.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from peer_workers.protocol import TrainedWorker, serve
from peer_workers.torchaudio_import import import_torchaudio

FBANK = {
    "feat_type": "fbank",
    "feat_dim": 80,
    "frame_length": 25,
    "frame_shift": 10,
    "decode_wav": False,
    "cmvn": True,
}
LOG_MEL = {
    "win_ms": 25,
    "hop_ms": 10,
    "n_freq": 201,
    "n_mels": 80,
    "n_mfcc": 13,
    "input": {"feat_type": "mel", "channel": 0, "log": True, "delta": 0, "cmvn": True},
    "target": {"feat_type": "mel", "channel": 1, "log": True, "delta": 0, "cmvn": True},
    "target_level": -25,
}
WAV2VEC_EXTRACTOR = "[(512, 10, 5), (512, 8, 4)] + [(512, 4, 2)] * 3 + [(512, 1, 1)] * {}"
WAV2VEC_AGGREGATOR = [(512, kernel, 1) for kernel in range(2, 14)]
WAV2VEC2_EXTRACTOR = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2"

WAVLM_NAMES = {
    r"(conv_layers\.\d)\.conv\.": r"\1.0.",
    r"(conv_layers\.\d)\.layer_norm\.": r"\1.2.",
    r"feature_projection\.layer_norm\.": "layer_norm.",
    r"feature_projection\.projection\.": "post_extract_proj.",
    r"pos_conv_embed\.conv\.": "pos_conv.0.",
    r"parametrizations\.weight\.original0": "weight_g",
    r"parametrizations\.weight\.original1": "weight_v",
    r"\.attention\.": ".self_attn.",
    r"rel_attn_embed": "relative_attention_bias",
    r"gru_rel_pos_linear": "grep_linear",
    r"gru_rel_pos_const": "grep_a",
    r"(layers\.\d+)\.layer_norm\.": r"\1.self_attn_layer_norm.",
    r"feed_forward\.intermediate_dense": "fc1",
    r"feed_forward\.output_dense": "fc2",
}
"""Names of transformers -> those of WavLM's authors."""


class S3prlWorker(TrainedWorker):
    frozen = "model.feature_extractor"

    def __init__(self) -> None:
        self.torchaudio = import_torchaudio()

    def versions(self) -> dict[str, str]:
        # espnet-s3prl is the same package, kept up by ESPnet under a name of its own.
        name = next(iter(importlib.metadata.packages_distributions()["s3prl"]))
        return {
            name: importlib.metadata.version(name),
            "torch": torch.__version__,
            "torchaudio": self.torchaudio.__version__,
        }

    def load(self, checkpoint: str) -> None:
        # Files are named after the upstream that reads them.
        upstream = Path(checkpoint).stem
        if upstream == "data2vec":
            checkpoint = with_teacher(checkpoint)
        module = importlib.import_module(f"s3prl.upstream.{upstream}.expert")
        self.expert = module.UpstreamExpert(checkpoint).eval()
        self.rate = self.expert.get_downsample_rates("last_hidden_state")

    def alone(self, waveform: Tensor) -> Tensor:
        return self.expert([waveform])["last_hidden_state"][0]

    def together(self, waveforms: list[Tensor]) -> list[Tensor]:
        x = self.expert(waveforms)["last_hidden_state"]
        # As its Featurizer takes padding off.
        lengths = [round(len(waveform) / self.rate) for waveform in waveforms]
        return [row[:length] for row, length in zip(x, lengths, strict=True)]

    def trained(self, is_frozen: bool) -> Any:
        # 0 where an upstream is loaded: the extractor gets no gradient.
        if not is_frozen and hasattr(getattr(self.expert, "model", None), "feature_grad_mult"):
            self.expert.model.feature_grad_mult = 1.0
        return self.expert.train()

    def job_build(self, request: dict[str, Any]) -> dict[str, Any]:
        """A published size in the authors' format: random weights, or those of `source`."""
        torch.manual_seed(0)
        if "source" in request:
            upstream, convert = CONVERTERS[request["model"]]
            checkpoint = convert(Path(request["source"]))
        else:
            upstream, build = BUILDERS[request["model"]]
            checkpoint = build()
        path = Path(request["folder"]) / f"{upstream}.pt"
        torch.save(checkpoint, path)
        return {"checkpoint": str(path)}


def apc(with_vq: bool = False) -> dict[str, Any]:
    from s3prl.upstream.apc.apc import APC

    options: dict[str, Any] = {
        "num_layers": 3,
        "hidden_size": 512,
        "dropout": 0.1,
        "residual": True,
    }
    if with_vq:
        options["vq"] = {"codebook_size": [512], "code_dim": [512], "gumbel_temperature": 0.5}
    weights = APC(80, **options).state_dict()
    return of_npc_repository("vqapc" if with_vq else "apc", options, weights, n_future=5)


def vq_apc() -> dict[str, Any]:
    return apc(with_vq=True)


def npc() -> dict[str, Any]:
    from s3prl.upstream.npc.npc import NPC

    options = {
        "kernel_size": 15,
        "mask_size": 5,
        "n_blocks": 4,
        "hidden_size": 512,
        "dropout": 0.1,
        "residual": True,
        "batch_norm": True,
        "activate": "relu",
        "disable_cross_layer": False,
        "vq": {"codebook_size": [64] * 4, "code_dim": [128] * 4, "gumbel_temperature": 1.0},
    }
    return of_npc_repository("npc", options, NPC(80, **options).state_dict())


def of_npc_repository(
    method: str, options: dict[str, Any], weights: Any, **more: Any
) -> dict[str, Any]:
    """A checkpoint as the repository of NPC, APC and VQ-APC writes it."""
    model = {"method": method, "paras": options, **more}
    return {"config": {"data": {"audio": FBANK}, "model": model}, "model": weights}


def transformer(num_layers: int, *, share_layer: bool = False) -> Callable[[], dict[str, Any]]:
    """Mockingjay, TERA or Audio ALBERT, as s3prl's own trainer writes them."""

    def build() -> dict[str, Any]:
        from s3prl.upstream.mockingjay.model import TransformerConfig, TransformerModel

        options = {
            "hidden_size": 768,
            "num_hidden_layers": num_layers,
            "num_attention_heads": 12,
            "hidden_act": "gelu",
            "intermediate_size": 3072,
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "initializer_range": 0.02,
            "layer_norm_eps": 1e-12,
            "share_layer": share_layer,
            "pre_layer_norm": False,
        }
        weights = TransformerModel(TransformerConfig(options), 80).state_dict()
        config = {"transformer": options, "audio": LOG_MEL, "task": {"sequence_length": 0}}
        return {
            "SpecHead": {},
            "Transformer": weights,
            "Global_step": 1,
            "Settings": {},
            "Config": {"runner": {}},
            "Upstream_Config": config,
        }

    return build


def cpc(dim: int, norm: str, recurrence: str) -> Callable[[], dict[str, Any]]:
    def build() -> dict[str, Any]:
        from s3prl.upstream.cpc.model import CPCAR, CPCEncoder, CPCModel

        config = {
            "hiddenEncoder": dim,
            "hiddenGar": 256,
            "encoder_type": "cpc",
            "normMode": norm,
            "arMode": recurrence,
            "nLevelsGRU": 1,
            "cpc_mode": None,
            "samplingType": "samespeaker",
        }
        model = CPCModel(CPCEncoder(dim, norm), CPCAR(dim, 256, False, 1, mode=recurrence))
        return {"config": config, "weights": model.state_dict()}

    return build


def pase_plus() -> dict[str, Any]:
    raise RuntimeError(
        "its upstream imports the package `pase` (santi-pdp/pase), which does not come with s3prl"
    )


def wav2vec(with_vq: bool = False) -> dict[str, Any]:
    from s3prl.upstream.wav2vec.wav2vec_model import Wav2VecConfig, Wav2VecModel

    options: dict[str, Any] = {
        "conv_feature_layers": WAV2VEC_EXTRACTOR.format(3 if with_vq else 2),
        "conv_aggregator_layers": str(WAV2VEC_AGGREGATOR),
        "skip_connections_agg": True,
        "residual_scale": 0.5,
        "log_compression": True,
        "infonce": True,
        "activation": "gelu" if with_vq else "relu",
        "vq_type": "gumbel" if with_vq else "none",
        "vq_vars": 320,
        "vq_groups": 2,
        "vq_depth": 2,
        "combine_groups": with_vq,
        "vq_temp": (2.0, 0.5, 0.999995),
    }
    return of_fairseq("wav2vec", options, Wav2VecModel(Wav2VecConfig(**options)).state_dict())


def vq_wav2vec() -> dict[str, Any]:
    return wav2vec(with_vq=True)


def wav2vec2() -> dict[str, Any]:
    from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Config, Wav2Vec2Model

    options = {
        "conv_feature_layers": WAV2VEC2_EXTRACTOR,
        "quantize_targets": True,
        "final_dim": 256,
    }
    return of_fairseq("wav2vec2", options, Wav2Vec2Model(Wav2Vec2Config(**options)).state_dict())


def hubert() -> dict[str, Any]:
    from s3prl.upstream.hubert.hubert_model import (
        HubertConfig,
        HubertModel,
        HubertPretrainingConfig,
    )

    options = {"label_rate": 50.0, "conv_feature_layers": WAV2VEC2_EXTRACTOR, "final_dim": 256}
    task = {"normalize": False, "sample_rate": 16_000}
    symbols = [[str(index) for index in range(504)]]
    model = HubertModel(HubertConfig(**options), HubertPretrainingConfig(**task), symbols)
    checkpoint = of_fairseq("hubert", options, model.state_dict(), task)
    return {**checkpoint, "dictionaries_symbols": symbols}


def wavlm(source: Path) -> dict[str, Any]:
    """A checkpoint as the authors write it, with the weights of a folder of transformers."""
    from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig
    from safetensors.torch import load_file

    options = {
        "conv_feature_layers": WAV2VEC2_EXTRACTOR,
        "relative_position_embedding": True,
        "num_buckets": 320,
        "max_distance": 800,
        "gru_rel_pos": True,
        "normalize": False,
    }
    config = WavLMConfig(options)
    model = WavLM(config)
    weights = {"mask_emb": model.mask_emb.detach()}
    for name, weight in load_file(source / "model.safetensors").items():
        for theirs, authors in WAVLM_NAMES.items():
            name = re.sub(theirs, authors, name)
        weights[name] = weight
    model.load_state_dict(weights)
    return {"cfg": vars(config), "model": model.state_dict()}


def data2vec() -> dict[str, Any]:
    from s3prl.upstream.data2vec.data2vec_model import Data2VecAudioConfig, Data2VecAudioModel

    options = {
        "conv_feature_layers": WAV2VEC2_EXTRACTOR,
        "extractor_mode": "layer_norm",
        "conv_pos": 95,
        "pos_conv_depth": 5,
    }
    model = Data2VecAudioModel(Data2VecAudioConfig(**options))
    model.remove_pretraining_modules()
    return of_fairseq("data2vec_audio", options, model.state_dict(), {"normalize": True})


def with_teacher(checkpoint: str) -> str:
    """The same with an entry for the teacher's weights, which s3prl deletes and so wants there."""
    content = torch.load(checkpoint)
    content["model_weight"]["_ema"] = {}
    path = Path(checkpoint).with_name("with_teacher.pt")
    torch.save(content, path)
    return str(path)


def of_fairseq(
    name: str, options: dict[str, Any], weights: Any, task: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A checkpoint of fairseq as s3prl converts it, to do without fairseq."""
    return {
        "task_cfg": task or {"normalize": False, "sample_rate": 16_000},
        "model_cfg": {"_name": name, **options},
        "model_weight": weights,
    }


BUILDERS: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "apc": ("apc", apc),
    "vq_apc": ("vq_apc", vq_apc),
    "npc": ("npc", npc),
    "mockingjay": ("mockingjay", transformer(3)),
    "tera": ("tera", transformer(3)),
    "audio_albert": ("audio_albert", transformer(12, share_layer=True)),
    "cpc": ("cpc", cpc(512, "batchNorm", "GRU")),
    "modified_cpc": ("cpc", cpc(256, "layerNorm", "LSTM")),
    "pase_plus": ("pase", pase_plus),
    "wav2vec": ("wav2vec", wav2vec),
    "vq_wav2vec": ("vq_wav2vec", vq_wav2vec),
    "wav2vec2": ("wav2vec2", wav2vec2),
    "hubert": ("hubert", hubert),
    "data2vec": ("data2vec", data2vec),
}
"""Model -> upstream that reads its checkpoint, and what makes one."""

CONVERTERS: dict[str, tuple[str, Callable[[Path], dict[str, Any]]]] = {"wavlm": ("wavlm", wavlm)}
"""The same, from a folder of transformers."""


if __name__ == "__main__":
    serve(S3prlWorker)
