"""CTranslate2, in float32 or with 8 bits, on what `transformers_worker` converts for it.

Whisper has the features of faster-whisper. Waveforms get zeros up to 30 s before them, as in the
code of Whisper's authors; faster-whisper itself puts zeros after the features, which is another
input. wav2vec 2.0 and HuBERT take normalised waveforms, and w2v-BERT the features of transformers,
inside the time; these have no mask, so a waveform at a time. After w2v-BERT comes an adapter of one
layer, which CTranslate2 does not leave out.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

from peer_workers.protocol import Worker, own_frames, serve

WHOLE_SAMPLES = 480_000
SAMPLE_RATE = 16_000
EPSILON = 1e-5
"""Of the models' authors, in the normalisation of waveforms."""

MODELS = {
    "whisper": ctranslate2.models.Whisper,
    "wav2vec2": ctranslate2.models.Wav2Vec2,
    "hubert": ctranslate2.models.Wav2Vec2,
    "wav2vec2-bert": ctranslate2.models.Wav2Vec2Bert,
}


class Ctranslate2Worker(Worker):
    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("ctranslate2", "faster-whisper")}

    def load(self, checkpoint: str) -> None:
        self.options: dict[str, Any] = json.loads((Path(checkpoint) / "encoder.json").read_text())
        self.is_whisper = self.options["kind"] == "whisper"
        self.model = MODELS[self.options["kind"]](
            checkpoint, device="cpu", compute_type=self.precision, intra_threads=self.num_threads
        )
        if self.is_whisper:
            from faster_whisper.feature_extractor import FeatureExtractor

            self.extractor: Any = FeatureExtractor(feature_size=self.options["num_mels"])
        elif "features" in self.options:
            from peer_workers.torchaudio_import import import_transformers

            extractors = import_transformers().AutoFeatureExtractor
            self.extractor = extractors.from_pretrained(self.options["features"])

    def features(self, waveform: np.ndarray) -> np.ndarray:
        """What the model reads of a waveform, without a dimension for the batch."""
        if self.is_whisper:
            padded = np.pad(waveform, (0, WHOLE_SAMPLES - len(waveform)))
            return self.extractor(padded, padding=0)
        if "features" in self.options:
            found = self.extractor(waveform, sampling_rate=SAMPLE_RATE, return_tensors="np")
            # It has no mask, so that the frame with which an odd number is made even goes.
            return found["input_features"][0][: found["attention_mask"].sum()]
        if self.options["normalizes"]:
            waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + EPSILON)
        return waveform[None]

    def encoded(self, waveforms: list[np.ndarray]) -> np.ndarray:
        features = np.stack([self.features(waveform) for waveform in waveforms])
        features = np.ascontiguousarray(features, dtype=np.float32)
        return np.array(self.model.encode(ctranslate2.StorageView.from_array(features)))

    def alone(self, waveform: np.ndarray) -> np.ndarray:
        return self.together([waveform])[0]

    def together(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        x = self.encoded(waveforms)
        if not self.is_whisper:
            return list(x)
        return [row[: own_frames(len(one))] for row, one in zip(x, waveforms, strict=True)]


if __name__ == "__main__":
    serve(Ctranslate2Worker)
