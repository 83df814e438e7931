"""onnxruntime over the graph that `transformers_worker` exports, a waveform at a time.

Its graph has no attention mask, so it gets a waveform at a time.
"""

from __future__ import annotations

import numpy as np
import onnxruntime

from peer_workers.protocol import Worker, serve


class OnnxruntimeWorker(Worker):
    def versions(self) -> dict[str, str]:
        return {"onnxruntime": onnxruntime.__version__}

    def load(self, checkpoint: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.num_threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            checkpoint, options, providers=["CPUExecutionProvider"]
        )

    def alone(self, waveform: np.ndarray) -> np.ndarray:
        return self.session.run(["last_hidden_state"], {"input_values": waveform[None]})[0][0]

    def together(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        raise NotImplementedError("the exported graph takes one waveform at a time")


if __name__ == "__main__":
    serve(OnnxruntimeWorker)
