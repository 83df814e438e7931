"""Compare two checkouts of the library: equal numbers, no slower.

    python tools/compare_versions.py OLD [NEW] [--sizes apc tera_base] [--rounds 5]

OLD and NEW (default: this checkout) are folders; `git worktree add ../before COMMIT` makes one of
a commit. Every golden case of OLD and every published size with random weights goes through both,
each in a process of its own: all layers and codes of lone waveforms and of a batch must be equal
to the last bit. Times are those of the processor over a batch, in alternating rounds; the median
of the ratios NEW / OLD is printed. Exit status 1 where a number differs or a ratio is above the
limit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SLOWER_LIMIT = 1.03
"""Largest median ratio of times, NEW / OLD, that is not called slower."""

SAMPLES = (16_000, 47_777, 8_123, 31_999)
"""Lengths of the waveforms that sizes with random weights encode, in samples at 16 kHz."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path, nargs="?", default=ROOT)
    parser.add_argument(
        "--only", nargs="+", choices=("golden", "sizes"), default=["golden", "sizes"]
    )
    parser.add_argument("--cases", nargs="+", help="golden cases (default: all)")
    parser.add_argument("--sizes", nargs="+", help="published sizes (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="of times, 0 for none (default: 5)")
    options = parser.parse_args(arguments)
    with Worker(options.old) as old, Worker(options.new) as new:
        return compare(old, new, options)


def compare(old: Worker, new: Worker, options: argparse.Namespace) -> int:
    """Compare all that is asked for; the exit status."""
    jobs: list[dict[str, Any]] = []
    if "golden" in options.only:
        cases = options.cases or old.ask({"list": "golden"})
        jobs += [{"golden": str(options.old.resolve()), "case": case} for case in cases]
    if "sizes" in options.only:
        jobs += [{"size": size} for size in options.sizes or old.ask({"list": "sizes"})]
    failures = 0
    for job in jobs:
        name = job.get("case") or job["size"]
        differences = different(old.ask(job), new.ask(job))
        ratio = time_ratio(old, new, options.rounds)
        verdict = "equal" if not differences else f"DIFFERENT: {', '.join(differences)}"
        if ratio is not None:
            verdict += f", time x {ratio:.3f}{' SLOWER' if ratio > SLOWER_LIMIT else ''}"
        say(f"{name}: {verdict}")
        failures += bool(differences) or (ratio is not None and ratio > SLOWER_LIMIT)
    say(f"{len(jobs)} compared, {failures} failed")
    return int(failures > 0)


def say(line: str) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def different(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Names of the outputs whose digests differ, or which one of the two lacks."""
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def time_ratio(old: Worker, new: Worker, rounds: int) -> float | None:
    """Median over rounds of NEW's seconds over OLD's for the last job; None without rounds."""
    ratios = []
    for turn in range(rounds):
        pair = (old, new) if turn % 2 == 0 else (new, old)
        seconds = {worker: worker.ask({"time": True}) for worker in pair}
        ratios.append(seconds[new] / max(seconds[old], 1e-9))
    return median(ratios) if ratios else None


class Worker:
    """A process with one checkout's library, which answers one JSON line with another."""

    def __init__(self, checkout: Path) -> None:
        source = checkout.resolve() / "src"
        if not (source / "auricle").is_dir():
            raise SystemExit(f"{checkout} is no checkout: {source / 'auricle'} is missing")
        self._process = subprocess.Popen(  # noqa: S603 - our own file, by this interpreter
            [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        )
        imported = Path(self.ask({"list": "source"}))
        if source not in imported.parents:
            self.__exit__()
            raise SystemExit(f"expected the library of {source}, but {imported} was imported")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def ask(self, request: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"a worker ended at {request} with status {self._process.wait()}")
        return json.loads(answer)


def work() -> None:
    """Answer requests on standard input until it ends."""
    import torch

    import auricle

    torch.set_num_threads(1)
    encoder, wavs = None, []
    for line in sys.stdin:
        request = json.loads(line)
        answer: Any
        if request.get("list") == "source":
            answer = auricle.__file__
        elif request.get("list") == "sizes":
            answer = list(auricle.list_sizes())
        elif request.get("list") == "golden":
            folder = Path(auricle.__file__).parents[2] / "tests" / "golden" / "cases"
            answer = sorted(path.name for path in folder.iterdir())
        elif "time" in request:
            with torch.inference_mode():
                start = time.process_time()
                encoder(wavs)
                answer = time.process_time() - start
        else:
            encoder = None  # the last one makes room for the next
            encoder, wavs = _encoder_and_wavs(request)
            answer = digests(encoder, wavs)
        say(json.dumps(answer))


def _encoder_and_wavs(request: Mapping[str, str]) -> tuple[Any, list[Any]]:
    import torch
    from safetensors.torch import load_file

    import auricle

    if "size" in request:
        generator = torch.Generator().manual_seed(0)
        wavs = [0.1 * torch.randn(count, generator=generator) for count in SAMPLES]
        return auricle.build(request["size"]), wavs
    folder = Path(request["golden"]) / "tests" / "golden" / "cases" / request["case"]
    facts = json.loads((folder / "case.json").read_text())
    tensors = load_file(folder / "golden.safetensors")
    wavs = [tensors[name] for name in sorted(tensors) if name.startswith("wav.")]
    return auricle.load(folder / facts["checkpoint"], device="cpu"), wavs


def digests(encoder: Any, wavs: list[Any]) -> dict[str, str]:
    """sha256 of every output of an encoder, by name: layers and codes, lone and in a batch."""
    import torch

    names = list(encoder.info.layers)
    found: dict[str, str] = {}

    def add(way: str, layers: list[dict[str, Any]]) -> None:
        for number, outputs in enumerate(layers):
            for name, output in outputs.items():
                content = output.detach().contiguous().numpy().tobytes()
                shape = "x".join(map(str, output.shape))
                digest = hashlib.sha256(content).hexdigest()
                found[f"{way}.{number}.{name}"] = f"{output.dtype} {shape} {digest}"

    with torch.inference_mode():
        several = getattr(encoder, "layers", encoder)  # versions before it take a list of layers
        add("batch", several(wavs, names))
        for number, wav in enumerate(wavs):
            add(f"lone.{number}", several([wav], names))
        add("default", [{"default": output} for output in encoder(wavs)])
        if encoder.codes_layer is not None:
            add("codes", [{"codes": output} for output in encoder.codes(wavs)])
    encoder.train(False)
    add("gradients", [{"default": output} for output in encoder(wavs[:1])])
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["--worker"]:
        work()
    else:
        sys.exit(main())
