"""auricle as it is called: `encoder(waveforms)`.

It builds models, counts their operations and measures the machine's limits too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import auricle
from peer_workers.protocol import TrainedWorker, serve

LIMIT_SHAPES = ((512, 768, 3072), (1024, 768, 3072), (1024, 3072, 768), (2048, 1024, 4096))
"""Rows, inputs and outputs of matrix products of the sizes that encoders have."""
LIMIT_SECONDS = 1.0

COUNTED_SAMPLES = (12_800, 25_600, 38_400)
"""Lengths whose operations are counted: whole frames of every model's hop."""


class AuricleWorker(TrainedWorker):
    frozen = "extractor"

    def versions(self) -> dict[str, str]:
        return {"auricle": auricle.__version__, "torch": torch.__version__}

    def load(self, checkpoint: str) -> None:
        self.encoder = auricle.load(checkpoint, device="cpu", precision=self.precision)

    def alone(self, waveform: Tensor) -> Tensor:
        return self.encoder([waveform])[0]

    def together(self, waveforms: list[Tensor]) -> list[Tensor]:
        return self.encoder(waveforms)

    def trained(self, is_frozen: bool) -> Any:
        if stack := getattr(self.encoder, "transformer", None):
            stack.config = msgspec.structs.replace(stack.config, layer_drop=0.0)
        return self.encoder.train()

    def job_build(self, request: dict[str, Any]) -> dict[str, Any]:
        """Random weights of a published size, for where no peer has made some."""
        path = Path(request["folder"]) / f"{request['size']}.safetensors"
        auricle.build(request["size"]).save(path)
        return {"checkpoint": str(path)}

    def job_export(self, request: dict[str, Any]) -> dict[str, Any]:
        """The same weights as a folder of transformers."""
        folder = Path(request["folder"]) / "transformers"
        auricle.export_to_transformers(auricle.load(request["checkpoint"]), folder)
        return {"checkpoint": str(folder)}

    def job_flops(self, request: dict[str, Any]) -> dict[str, Any]:
        """Floating-point operations of waveforms by length, without padding and without shortcuts.

        They are a polynomial of the length of degree two (attention), up to a part of a frame, so
        three short ones tell: to count over minutes of speech takes minutes in recurrent models.
        Gradients are recorded, for which only plain operations serve, but nothing is kept for them.
        """
        self.encoder.requires_grad_()
        counts = []
        for num_samples in COUNTED_SAMPLES:
            counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
            hooks = torch.autograd.graph.saved_tensors_hooks(lambda _: None, lambda _: None)
            with counter, hooks, torch.enable_grad():
                self.encoder([torch.randn(num_samples)])
            counts.append(counter.get_total_flops())
        polynomial = np.polynomial.Polynomial.fit(COUNTED_SAMPLES, counts, 2)
        return {"flops": [float(polynomial(n)) for n in request["num_samples"]]}

    def job_limits(self, request: dict[str, Any]) -> dict[str, Any]:
        """The most operations per second that matrix products of this torch come to."""
        clock = time.process_time if request["clock"] == "cpu" else time.perf_counter
        with torch.inference_mode():
            return {
                "float32_gflops": best_gflops(torch.float32, clock),
                "bfloat16_gflops": best_gflops(torch.bfloat16, clock),
            }


def best_gflops(dtype: torch.dtype, clock: Callable[[], float]) -> float:
    best = 0.0
    for rows, inputs, outputs in LIMIT_SHAPES:
        x = torch.randn(rows, inputs).to(dtype)
        weight, bias = torch.randn(outputs, inputs).to(dtype), torch.randn(outputs).to(dtype)
        runs = [lambda x=x, weight=weight, bias=bias: F.linear(x, weight, bias)]
        if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
            runs.append(
                lambda x=x, packed=packed, bias=bias: torch.ops.mkldnn._linear_pointwise(
                    x, packed, bias, "none", [], ""
                )
            )
        for run in runs:
            run()
            end = time.perf_counter() + LIMIT_SECONDS / len(runs)
            while time.perf_counter() < end:
                start = clock()
                run()
                seconds = clock() - start
                best = max(best, 2 * rows * inputs * outputs / seconds / 1e9)
    return round(best, 1)


def lstm_flops(x: torch.Size, weight: torch.Size, recurrent: torch.Size, *_: Any, **__: Any) -> int:
    """Of `mkldnn_rnn_layer`, which torch's counter leaves out."""
    return 2 * x[0] * x[1] * (weight.numel() + recurrent.numel())


def attention_flops(query: torch.Size, key: torch.Size, *_: Any, **__: Any) -> int:
    """Of the attention kernel of CPUs, which torch's counter leaves out."""
    return 4 * query.numel() * key[-2]


def linear_flops(x: torch.Size, *_: Any, out_shape: torch.Size, **__: Any) -> int:
    """Of a linear map with packed weights."""
    return 2 * x.numel() * out_shape[-1]


FORMULAS = {
    torch.ops.aten.mkldnn_rnn_layer: lstm_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    torch.ops.mkldnn._linear_pointwise: linear_flops,
}


if __name__ == "__main__":
    serve(AuricleWorker)
