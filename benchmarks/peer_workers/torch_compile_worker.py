"""transformers through `torch.compile` with frozen weights, a waveform at a time, of any length.

Compilation falls into the first encodings, which do not count.
"""

from __future__ import annotations

import torch
import torch._inductor.config
from torch import Tensor

from peer_workers.protocol import serve
from peer_workers.transformers_worker import TransformersWorker


class TorchCompileWorker(TransformersWorker):
    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}

    def load(self, checkpoint: str) -> None:
        torch._inductor.config.freezing = True
        super().load(checkpoint)
        self.model.compile(dynamic=True)

    def together(self, waveforms: list[Tensor]) -> list[Tensor]:
        raise NotImplementedError("only lone waveforms are compiled for")


if __name__ == "__main__":
    serve(TorchCompileWorker)
