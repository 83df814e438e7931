"""CTranslate2, the engine of faster-whisper, with the features of faster-whisper, in float32.

Waveforms get zeros up to 30 s before the features, as in the code of Whisper's authors;
faster-whisper itself puts zeros after the features, which is another input.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import ctranslate2
import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor

from peer_workers.protocol import Worker, own_frames, serve

WHOLE_SAMPLES = 480_000


class Ctranslate2Worker(Worker):
    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("ctranslate2", "faster-whisper")}

    def load(self, checkpoint: str) -> None:
        self.model = ctranslate2.models.Whisper(
            checkpoint, device="cpu", compute_type="float32", intra_threads=self.num_threads
        )
        num_mels = int((Path(checkpoint) / "num_mels").read_text())
        self.extractor = FeatureExtractor(feature_size=num_mels)

    def features(self, waveform: np.ndarray) -> np.ndarray:
        padded = np.pad(waveform, (0, WHOLE_SAMPLES - len(waveform)))
        return self.extractor(padded, padding=0)

    def alone(self, waveform: np.ndarray) -> np.ndarray:
        return self.together([waveform])[0]

    def together(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        features = np.stack([self.features(waveform) for waveform in waveforms])
        features = np.ascontiguousarray(features, dtype=np.float32)
        x = np.array(self.model.encode(ctranslate2.StorageView.from_array(features)))
        return [row[: own_frames(len(one))] for row, one in zip(x, waveforms, strict=True)]


if __name__ == "__main__":
    serve(Ctranslate2Worker)
