"""Compared models, libraries and durations of audio."""

from __future__ import annotations

import dataclasses
import math

GRAPH_LIBRARIES = ("onnxruntime", "openvino")
"""They run what transformers exports, a waveform at a time."""

LONE_LIBRARIES = (*GRAPH_LIBRARIES, "torch_compile")
CTRANSLATE2_LIBRARIES = ("ctranslate2", "ctranslate2_int8")
INT8_LIBRARIES = ("auricle_int8", "ctranslate2_int8")
"""They compute with 8 bits: what they give is reported, not required to agree."""

LIBRARIES = (
    "auricle",
    "s3prl",
    "transformers",
    "torchaudio",
    *LONE_LIBRARIES,
    "openai_whisper",
    "ctranslate2",
    *INT8_LIBRARIES,
)
PEERS = LIBRARIES[1:]
LARGE_PEERS = ("transformers", "ctranslate2", *INT8_LIBRARIES)

TOLERANCE = 1e-4
MEL_TOLERANCE = 3e-4
"""Largest difference from a peer's output, in standard deviations of the peer's."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A model at its published size.

    Attributes:
        title: What tables call it.
        size: The published size, as `auricle.build` takes it.
        peers: Libraries that have it.
        maker: Whose random weights all have.
        tolerance: Largest deviation from them.
        max_seconds: Longest waveform that the model takes.
        adapted: Libraries that compute an adapter after it, which passes on every second frame,
            normalised.
        lone: Libraries that take one waveform of it at a time.
    """

    title: str
    size: str
    peers: tuple[str, ...] = ("s3prl",)
    maker: str = "s3prl"
    tolerance: float = TOLERANCE
    max_seconds: float = math.inf
    adapted: tuple[str, ...] = ()
    lone: tuple[str, ...] = ()

    def takes(self, case: str) -> bool:
        """True if no waveform of the case is too long for the model."""
        return max(CASES[case]) <= self.max_seconds


def _whisper(title: str, size: str) -> Model:
    peers = ("transformers", "openai_whisper", "ctranslate2", *INT8_LIBRARIES)
    return Model(title, size, peers, "auricle", MEL_TOLERANCE, max_seconds=30.0)


def _large(title: str, size: str) -> Model:
    return Model(title, size, LARGE_PEERS, "auricle", lone=CTRANSLATE2_LIBRARIES)


MODELS = {
    "apc": Model("APC", "apc", tolerance=MEL_TOLERANCE),
    "vq_apc": Model("VQ-APC", "vq_apc", tolerance=MEL_TOLERANCE),
    "npc": Model("NPC", "npc", tolerance=MEL_TOLERANCE),
    "mockingjay": Model("Mockingjay Base", "mockingjay_base", tolerance=MEL_TOLERANCE),
    "tera": Model("TERA Base", "tera_base", tolerance=MEL_TOLERANCE),
    "audio_albert": Model("Audio ALBERT, 12 layers", "audio_albert_12", tolerance=MEL_TOLERANCE),
    "cpc": Model("CPC", "cpc"),
    "modified_cpc": Model("Modified CPC", "modified_cpc"),
    "pase_plus": Model("PASE+", "pase_plus"),
    "wav2vec": Model("wav2vec large", "wav2vec_large"),
    "vq_wav2vec": Model("vq-wav2vec", "vq_wav2vec"),
    "wav2vec2": Model("wav2vec 2.0 Base", "wav2vec2_base_960", PEERS[:6]),
    "hubert": Model("HuBERT Base", "hubert_base", PEERS[:3]),
    "wavlm": Model("WavLM Base+", "wavlm_base_plus", PEERS[:3], maker="auricle"),
    "data2vec": Model("data2vec audio Base", "data2vec_audio_base", PEERS[:2]),
    "whisper_base": _whisper("Whisper base", "whisper_base"),
    "whisper_small": _whisper("Whisper small", "whisper_small"),
    "w2v_bert": Model(
        "w2v-BERT 2.0",
        "w2v_bert_2",
        LARGE_PEERS,
        "auricle",
        MEL_TOLERANCE,
        adapted=CTRANSLATE2_LIBRARIES,
        lone=CTRANSLATE2_LIBRARIES,
    ),
    "wav2vec2_large": _large("wav2vec 2.0 Large", "wav2vec2_large_ll60k"),
    "hubert_large": _large("HuBERT Large", "hubert_large"),
}

CASES = {
    "ragged": (16.02, 15.43, 14.96, 14.11, 13.87, 12.72, 12.30, 11.05, 6.54),
    "single_1s": (1.0,),
    "single_10s": (10.0,),
    "single_60s": (60.0,),
    "batch_8x10s": (12.64, 11.87, 11.21, 10.45, 9.72, 9.06, 8.33, 7.58),
    "batch_32": tuple(round(2 + 4 * (index * 0.618034 % 1), 2) for index in range(32)),
}
"""Case -> lengths of its waveforms, in seconds."""

CHECK = (5.31, 3.77, 2.12)
"""Waveforms over which outputs are compared."""

WAYS = ("batch", "one_by_one")


def ways(name: str, case: str, library: str) -> tuple[str, ...]:
    """In which ways a library encodes a case: with one waveform there is one way."""
    if len(CASES[case]) == 1 or library in (*LONE_LIBRARIES, *MODELS[name].lone):
        return ("one_by_one",)
    return WAYS


def worker_of(library: str) -> str:
    """The worker of a library in any precision."""
    return library.removesuffix("_int8")


def precision_of(library: str) -> str:
    """With how many bits a library computes here."""
    return "int8" if library in INT8_LIBRARIES else "float32"
