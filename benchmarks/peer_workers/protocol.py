"""Protocol of the workers: requests and answers are lines of JSON on stdin and stdout.

A worker imports one library, loads one model and is then asked to encode; between requests it
blocks in a read. The clock runs around the encoding alone. Here is no torch, so that the memory of
a library that does without is its own.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

BYTES_PER_KIB = 1024
WHISPER_HOP_SAMPLES = 320


class Worker(ABC):
    """One library as the benchmark drives it. `job_NAME(request)` answers a request for NAME."""

    num_threads: int = 1
    precision: str = "float32"

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Versions of what computes here, by package."""

    @abstractmethod
    def load(self, checkpoint: str) -> None:
        """Make a model ready for inference."""

    @abstractmethod
    def alone(self, waveform: Any) -> Any:
        """The last layer of one waveform, (frames, dim)."""

    @abstractmethod
    def together(self, waveforms: list[Any]) -> list[Any]:
        """The last layers of waveforms in one call, each (frames, dim)."""

    def set_threads(self, count: int) -> None:
        """Compute with so many threads."""
        self.num_threads = count

    def context(self) -> AbstractContextManager[Any]:
        """Context of the encoding."""
        return contextlib.nullcontext()

    def waveform(self, samples: np.ndarray) -> Any:
        """Samples as the library takes them."""
        return samples

    def encode(self, waveforms: list[Any], way: str) -> list[Any]:
        if way == "batch":
            return self.together(waveforms)
        return [self.alone(waveform) for waveform in waveforms]

    def read(self, path: str) -> list[Any]:
        """The waveforms of a file that the driver wrote."""
        with np.load(path) as file:
            return [self.waveform(file[name]) for name in file.files]

    def job_versions(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"versions": self.versions()}

    def job_load(self, request: dict[str, Any]) -> dict[str, Any]:
        self.precision = request.get("precision", "float32")
        self.load(request["checkpoint"])
        return {}

    def job_outputs(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write what the model makes of waveforms in the way asked for."""
        with self.context():
            outputs = self.encode(self.read(request["waveforms"]), request["way"])
        np.savez(request["out"], *[np.asarray(x) for x in outputs])
        return {}

    def job_memory(self, request: dict[str, Any]) -> dict[str, Any]:
        """Encode once and say how far memory grew; it warms up too."""
        waveforms = self.read(request["waveforms"])
        gc.collect()
        give_back_memory()
        before = status_bytes("VmRSS")
        is_reset = reset_peak()
        with self.context():
            self.encode(waveforms, request["way"])
        return {"before_bytes": before, "peak_bytes": status_bytes("VmHWM") if is_reset else None}

    def job_time(self, request: dict[str, Any]) -> dict[str, Any]:
        """Encode once and say how long it took, by the clock or in processor time."""
        waveforms = self.read(request["waveforms"])
        gc.collect()
        clock = time.process_time if request.get("clock") == "cpu" else time.perf_counter
        with self.context():
            start = clock()
            outputs = self.encode(waveforms, request["way"])
            seconds = clock() - start
        return {"seconds": seconds, "num_frames": sum(len(x) for x in outputs)}


class TorchWorker(Worker):
    """A library that computes with torch."""

    def set_threads(self, count: int) -> None:
        import torch

        super().set_threads(count)
        torch.set_num_threads(count)

    def context(self) -> AbstractContextManager[Any]:
        import torch

        return torch.inference_mode()

    def waveform(self, samples: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(samples)


class TrainedWorker(TorchWorker):
    """A library whose encoders are fine-tuned: a step is forward, loss, backward and optimiser."""

    frozen: str
    """Name of the part of the model that stays as it is, where training is of the rest."""

    @abstractmethod
    def trained(self, is_frozen: bool) -> Any:
        """The module in train mode, as the library sets it up; no layer is left out."""

    def job_train(self, request: dict[str, Any]) -> dict[str, Any]:
        """Train a step; say its time by the clock and of the processor, and the peak memory."""
        import torch

        if not hasattr(self, "optimizer"):
            module = self.trained(request["frozen"])
            if request["frozen"]:
                module.get_submodule(self.frozen).requires_grad_(False)
            parameters = [one for one in module.parameters() if one.requires_grad]
            self.optimizer = torch.optim.AdamW(parameters, lr=1e-5)
        waveforms = self.read(request["waveforms"])
        gc.collect()
        reset_peak()
        start, cpu_start = time.perf_counter(), time.process_time()
        self.optimizer.zero_grad()
        sum(x.square().mean() for x in self.together(waveforms)).backward()
        self.optimizer.step()
        return {
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - cpu_start,
            "peak_bytes": status_bytes("VmHWM"),
        }


def own_frames(num_samples: int) -> int:
    """Frames of a waveform among the 1500 that Whisper makes of it and the zeros after it."""
    return -(-num_samples // WHISPER_HOP_SAMPLES)


def serve(make: Callable[[], Worker]) -> None:
    """Answer requests until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    num_threads = parser.parse_args().threads
    # What libraries print goes to stderr; the answers go where stdout was.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker: Worker | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if worker is None:
                worker = make()
                worker.set_threads(num_threads)
            answer = getattr(worker, f"job_{request['job']}")(request)
        except Exception as error:
            traceback.print_exc()
            first_line = str(error).strip().split("\n")[0]
            where = traceback.extract_tb(error.__traceback__)[-1].line
            answer = {"error": f"{type(error).__name__}: {first_line or where}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def give_back_memory() -> None:
    """Let the C library return freed memory to the system, where it is glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def reset_peak() -> bool:
    """Reset the peak memory of the process; False if the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def status_bytes(field: str) -> int | None:
    """A field of `/proc/self/status`, in bytes; None where there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * BYTES_PER_KIB
    return None
