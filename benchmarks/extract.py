"""Measure `auricle extract` on a folder of speech: speed, padding, memory, time of stages.

    python benchmarks/extract.py --data LibriSpeech/dev-clean
    python benchmarks/extract.py --data LibriSpeech/dev-clean --models --random-weights wav2vec2

Each model is one run of the command in a process of its own, into a temporary folder. The command's
last lines tell audio, seconds (without loading of libraries and model), padding, and the shares of
the time that the model's thread spent waiting for audio, in the model, and waiting for shards to be
written. CPU time is that of all processes of the command, its start included: on a machine that
does other work too it is the figure to go by. Memory is the sum of the proportional set sizes of
these processes, looked at five times a second (Linux alone has them), so what they share counts
once.
The figures of other models that the file of results holds already stay in it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "extract.json"
SAMPLE_SECONDS = 0.2
BYTES_PER_MIB = 1 << 20

LAST_LINE = re.compile(
    r"(?P<audio>[\d.]+) s of audio in (?P<elapsed>[\d.]+) s, .*; (?P<padding>[\d.]+) % padding; "
    r"bottleneck: (?P<bound>.+) \(time: decoding (?P<decoding>\d+) %, model (?P<model>\d+) %, "
    r"writing (?P<writing>\d+) %\)"
)
COLUMNS = {
    "model": "model",
    "audio_hours": "hours of audio",
    "times_real_time": "x real time",
    "audio_hours_per_core_hour": "hours per core-hour",
    "padding_percent": "padding %",
    "peak_mib": "peak MiB",
    "decoding_seconds": "decoding s",
    "model_seconds": "model s",
    "writing_seconds": "writing s",
    "num_shards": "shards",
    "store_mib": "store MiB",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path, help="folder of speech")
    parser.add_argument(
        "--models",
        nargs="*",
        default=["apc_mini", "tera_mini"],
        help="names or checkpoints (default: apc_mini tera_mini)",
    )
    parser.add_argument(
        "--random-weights",
        nargs="*",
        default=[],
        metavar="SIZE",
        help="published sizes, with random weights, as `auricle.build` takes them",
    )
    parser.add_argument(
        "--max-seconds", type=float, help="take files in the order of their names up to so much"
    )
    parser.add_argument("--device", default="auto", help="as `auricle extract` takes it")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"(default: {RESULTS})")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        corpus = arguments.data
        if arguments.max_seconds is not None:
            corpus = list_some(arguments.data, arguments.max_seconds, Path(scratch) / "some.csv")
        models = {name: name for name in arguments.models}
        for size in arguments.random_weights:
            models[f"{size}, random weights"] = str(save_random(size, Path(scratch)))
        for name, model in models.items():
            figures = measure(model, corpus, arguments.device, Path(scratch) / "store")
            keep({"model": name, "machine": machine(arguments.device), **figures}, arguments.out)
    print(table(json.loads(arguments.out.read_text(encoding="utf-8"))))
    return 0


def measure(model: str, corpus: Path, device: str, out: Path) -> dict[str, Any]:
    """Run the command once and say what it took."""
    command = [sys.executable, "-m", "auricle", "extract", str(corpus), "--model", model]
    command += ["--device", device, "--out", str(out)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        memory = Memory(process.pid)
        output, _ = process.communicate()
        peak = memory.stop()
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = LAST_LINE.search(output)
    if process.returncode or found is None:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{output}")
    audio, elapsed = float(found["audio"]), float(found["elapsed"])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    stages = ("decoding", "model", "writing")
    shards = [path.stat().st_size for path in (out / "shards").iterdir()]
    figures = {
        "num_utterances": int(re.search(r"wrote (\d+) of", output)[1]),
        "audio_hours": round(audio / 3600, 3),
        "seconds": elapsed,
        "seconds_with_start": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "times_real_time": round(audio / elapsed, 1),
        "audio_hours_per_core_hour": round(audio / cpu, 1),
        "padding_percent": float(found["padding"]),
        "peak_mib": round(peak / BYTES_PER_MIB),
        "bound_by": found["bound"],
        **{f"{stage}_seconds": round(float(found[stage]) * elapsed / 100, 1) for stage in stages},
        "num_shards": len(shards),
        "store_mib": round(sum(shards) / BYTES_PER_MIB, 1),
    }
    subprocess.run(["rm", "-r", str(out)], check=True)
    return figures


class Memory:
    """Watches the memory of a process and of what it starts."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """The most that was seen, in bytes; 0 where the system does not tell."""
        self._done.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, sum(map(proportional_bytes, family(self._pid))))


def family(pid: int) -> list[int]:
    """A process and all that it and its children have started."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def proportional_bytes(pid: int) -> int:
    """A process's share of memory: what n processes map counts one n-th in each."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return sum(int(kib) for kib in re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)) * 1024
    return 0


def list_some(folder: Path, max_seconds: float, path: Path) -> Path:
    """A list of files of at least so many seconds together."""
    import soundfile

    lines, seconds = ["path"], 0.0
    for file in sorted(folder.rglob("*")):
        if seconds < max_seconds and file.suffix.lower() in (".flac", ".wav", ".ogg"):
            seconds += soundfile.info(file).duration
            lines.append(str(file.absolute()))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def save_random(size: str, folder: Path) -> Path:
    """An encoder of a published size with random weights, as a file that the command loads."""
    import auricle
    from auricle.catalogue.search import find

    path = folder / f"{size}.safetensors"
    sizes = auricle.list_sizes()
    auricle.build(size if size in sizes else find(size).name).save(path)
    return path


def machine(device: str) -> dict[str, Any]:
    """Machine and versions of the measurement."""
    import torch

    names = re.findall(r"model name\s*: (.*)", cpu_info())
    return {
        "cpu": names[0] if names else platform.processor(),
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 1),
        "device": device,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def cpu_info() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/cpuinfo").read_text()
    return ""


def keep(row: dict[str, Any], path: Path) -> None:
    """Put a row into the file of results, in place of what it held of the same model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    rows = [other for other in rows if other["model"] != row["model"]] + [row]
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as a table in Markdown."""
    lines = [f"| {' | '.join(COLUMNS.values())} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(str(row[key]) for key in COLUMNS)} |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
