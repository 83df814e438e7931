"""OpenVINO over the graph that `transformers_worker` exports, a waveform at a time."""

from __future__ import annotations

import numpy as np
import openvino

from peer_workers.protocol import Worker, serve


class OpenvinoWorker(Worker):
    def versions(self) -> dict[str, str]:
        return {"openvino": openvino.__version__.partition("-")[0]}

    def load(self, checkpoint: str) -> None:
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": self.num_threads,
            "NUM_STREAMS": 1,
        }
        self.model = openvino.compile_model(checkpoint, "CPU", options)

    def alone(self, waveform: np.ndarray) -> np.ndarray:
        return self.model({"input_values": waveform[None]})["last_hidden_state"][0].copy()

    def together(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        raise NotImplementedError("the exported graph takes one waveform at a time")


if __name__ == "__main__":
    serve(OpenvinoWorker)
