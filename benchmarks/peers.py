"""Measure speed and memory of auricle, s3prl, transformers and others on the same speech.

    python benchmarks/peers.py --data LibriSpeech/dev-clean --peers-python PATH/bin/python
    python benchmarks/peers.py --peers-python PATH/bin/python --models tera --cases single_10s
    python benchmarks/peers.py --peers-python PATH/bin/python --clock cpu --threads 1
    python benchmarks/peers.py --render

Models have their published sizes and random weights, the same in every library: a peer makes a
checkpoint in the authors' format, auricle loads it, and their outputs for lone waveforms have to
agree before anything is timed. What is timed is waveforms in memory -> unpadded representations of
the last layer, in float32 and inference mode, by a clock inside the process: in one call ("batch")
and in a call for each waveform ("one by one"). Each library is a process of its own, blocked while
another is measured. In every round each library encodes once in each way, in an order that moves on
by one; the first encoding does not count, but tells the memory. `--peers-python` is an interpreter
with

    pip install torch==2.13.0 espnet-s3prl==2026.5.14 transformers==5.24.0 torchaudio onnxruntime \
        onnx openvino openai-whisper==20250625 ctranslate2==4.8.5 faster-whisper

and what is missing there is left out. What takes longer than `--limit-seconds`, and a worker that
dies, is reported in its cell, and the rest goes on. The file of results is written after each model
and case, and what it holds of this machine, these versions, this clock and these libraries is not
measured again but with `--again`. `--clock cpu` measures processor time, which other work on the
machine changes little. `--render` writes the tables into the documentation, and needs nothing but
the file.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import shutil
import statistics
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from peer_workers import machine, report
from peer_workers.client import LIMIT_SECONDS, Client, PeerError, tell, worker
from peer_workers.comparison import compare
from peer_workers.models import (
    CASES,
    CHECK,
    CTRANSLATE2_LIBRARIES,
    GRAPH_LIBRARIES,
    LIBRARIES,
    MODELS,
    PEERS,
    ways,
    worker_of,
)

from auricle.audio.inputs import sample_paths
from auricle.files.atomic import write_whole

RESULTS = Path(__file__).parent / "results" / "peers.json"
RATE = 16_000
BYTES_PER_MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of speech (default: that in the package)")
    parser.add_argument("--peers-python", help="interpreter that has the peers")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--libraries", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="(default: wall)")
    parser.add_argument(
        "--limit-seconds", type=float, default=LIMIT_SECONDS, help="time for a measurement"
    )
    parser.add_argument("--again", action="store_true", help="measure what is measured already")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"(default: {RESULTS})")
    parser.add_argument("--render", action="store_true", help="write tables and picture, no more")
    arguments = parser.parse_args()
    if arguments.render:
        report.render(report.read(arguments.out))
        return 0
    if arguments.peers_python is None or shutil.which(arguments.peers_python) is None:
        parser.error("--peers-python must be an interpreter that has the peers")
    if arguments.clock == "cpu" and arguments.threads > 1:
        parser.error("--clock cpu counts the time of all threads; add --threads 1")
    with tempfile.TemporaryDirectory() as scratch:
        failures = Benchmark(arguments, Path(scratch)).run()
    print(report.tables(report.read(arguments.out)))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


class Benchmark:
    """One run over models and cases."""

    def __init__(self, arguments: argparse.Namespace, scratch: Path) -> None:
        self._arguments = arguments
        self._scratch = scratch
        self._waveforms = write_waveforms(arguments.data, arguments.cases, scratch)
        self._missing: dict[str, str] = {}
        self._run: dict[str, Any] = {
            "date": datetime.date.today().isoformat(),
            "rounds": arguments.rounds,
            "threads": arguments.threads,
            "clock": arguments.clock,
            **machine.describe(),
            "versions": {},
        }

    def run(self) -> list[str]:
        """Measure; each model or case that could not be measured gives a line."""
        for library in ("auricle", *self._arguments.libraries):
            self._find(library)
        left = {name: self._left(name) for name in self._arguments.models}
        if any(left.values()):
            with self._worker("auricle") as client:
                self._run |= client.ask("limits", clock=self._arguments.clock)
            limits = self._run["float32_gflops"], self._run["bfloat16_gflops"]
            tell("matrix products: {} GFLOP/s in float32, {} in bfloat16".format(*limits))
        failures = []
        for name, cases in left.items():
            try:
                if cases:
                    failures += self._measure(name, cases)
            except PeerError as error:
                failures.append(f"{name}: {error}")
                tell(failures[-1])
        return failures

    def _find(self, library: str) -> None:
        """Ask a library for its version, or note why it does not import."""
        try:
            with self._worker(library) as client:
                self._run["versions"] |= client.ask("versions")["versions"]
        except PeerError as error:
            if library == "auricle":
                raise
            self._missing[library] = str(error)
            tell(f"{library} is left out: {error}")

    def _left(self, name: str) -> list[str]:
        """Cases of a model that are still to be measured."""
        model, asked = MODELS[name], set(self._arguments.libraries)
        cases = [case for case in self._arguments.cases if model.takes(case)]
        if self._arguments.again:
            return cases
        wanted = asked.intersection(model.peers) - set(self._missing)
        results = report.read(self._arguments.out)
        done = {
            row["case"]
            for row in results["rows"]
            if row["model"] == name
            and report.is_like(results["runs"][row["run"]], self._run)
            and wanted <= report.libraries_of(row)
        }
        for case in done.intersection(cases):
            tell(f"{name} {case}: measured already (--again measures once more)")
        return [case for case in cases if case not in done]

    def _measure(self, name: str, cases: list[str]) -> list[str]:
        folder = self._scratch / name
        folder.mkdir()
        skipped: dict[str, str] = {}
        failures = []
        tell(f"{name}: making checkpoints")
        checkpoints = self._checkpoints(name, folder, skipped)
        tell(f"{name}: counting operations")
        gflop = self._count(checkpoints["auricle"], cases)
        with contextlib.ExitStack() as stack:
            clients = {
                library: stack.enter_context(self._worker(library, checkpoint=checkpoint))
                for library, checkpoint in checkpoints.items()
            }
            differences = compare(name, clients, self._waveforms["check"], folder, skipped)
            for library, reason in skipped.items():
                tell(f"{name}: {library} left out: {reason}")
            for case in cases:
                try:
                    row = self._case(name, case, clients)
                except PeerError as error:
                    failures.append(f"{name} {case}: {error}")
                    tell(failures[-1])
                    continue
                row["gflop"] = gflop[case]
                row |= {"differences": differences, "skipped": skipped}
                keep(row, self._run, self._arguments.out)
        shutil.rmtree(folder)
        return failures

    def _checkpoints(self, name: str, folder: Path, skipped: dict[str, str]) -> dict[str, str]:
        """The file or folder that each library loads, all of the same weights."""
        model = MODELS[name]
        asked = [peer for peer in model.peers if peer in self._arguments.libraries]
        skipped |= {peer: self._missing[peer] for peer in asked if peer in self._missing}
        peers = [peer for peer in asked if peer not in self._missing]
        result: dict[str, str] = {}

        def make(library: str, job: str, **request: Any) -> str:
            with self._worker(library) as client:
                return client.ask(job, folder=str(folder), **request)["checkpoint"]

        def convert(libraries: tuple[str, ...], job: str) -> None:
            """Let transformers write what some of the peers read, or note why it cannot."""
            found = [peer for peer in libraries if peer in peers]
            try:
                if found:
                    made = make("transformers", job, checkpoint=exported)
                    result.update(dict.fromkeys(found, made))
            except PeerError as error:
                skipped.update(dict.fromkeys(found, f"conversion by {error}"))

        if "s3prl" in peers and model.maker == "s3prl":
            try:
                result["s3prl"] = result["auricle"] = make("s3prl", "build", model=name)
            except PeerError as error:
                skipped["s3prl"] = str(error)
        if "auricle" not in result:
            result["auricle"] = make("auricle", "build", size=model.size)
        if "auricle_int8" in peers:
            result["auricle_int8"] = result["auricle"]
        readers = [peer for peer in peers if worker_of(peer) not in ("s3prl", "auricle")]
        if readers or ("s3prl" in peers and model.maker == "auricle"):
            exported = make("auricle", "export", checkpoint=result["auricle"])
            plain = ("transformers", "torchaudio", "torch_compile")
            result |= {peer: exported for peer in readers if peer in plain}
        if "s3prl" in peers and model.maker == "auricle":
            result["s3prl"] = make("s3prl", "build", model=name, source=exported)
        convert(GRAPH_LIBRARIES, "export")
        convert(("openai_whisper",), "openai_whisper")
        convert(CTRANSLATE2_LIBRARIES, "ctranslate2")
        return {library: result[library] for library in LIBRARIES if library in result}

    def _case(self, name: str, case: str, clients: dict[str, Client]) -> dict[str, Any]:
        """Measure every library in every way over one case."""
        waveforms = self._waveforms[case]
        entries: list[dict[str, Any]] = []
        for library, client in clients.items():
            for way in ways(name, case, library):
                tell(f"{name} {case}: {library}, {way}")
                entry: dict[str, Any] = {"library": library, "way": way, "seconds": []}
                entries.append(entry)
                try:
                    memory = client.ask("memory", waveforms=waveforms, way=way)
                except PeerError as error:
                    fail(entry, error)
                    continue
                for key in ("before", "peak"):
                    entry[f"{key}_mib"] = in_mib(memory[f"{key}_bytes"])
        for index in range(self._arguments.rounds):
            tell(f"{name} {case}: round {index + 1} of {self._arguments.rounds}")
            start = index % len(entries)
            for entry in entries[start:] + entries[:start]:
                if "failed" in entry:
                    continue
                request = {"waveforms": waveforms, "way": entry["way"]}
                try:
                    answer = clients[entry["library"]].ask(
                        "time", clock=self._arguments.clock, **request
                    )
                    entry["seconds"].append(round(answer["seconds"], 4))
                except PeerError as error:
                    fail(entry, error)
        audio = sum(CASES[case])
        for entry in (entry for entry in entries if "failed" not in entry):
            entry["median"] = round(statistics.median(entry["seconds"]), 4)
            entry["fastest"], entry["slowest"] = min(entry["seconds"]), max(entry["seconds"])
            rate = audio / entry["median"]
            tell(f"{name} {case}: {entry['library']}, {entry['way']}: {rate:.1f} x real time")
        return {"model": name, "case": case, "audio_seconds": round(audio, 2), "entries": entries}

    def _count(self, checkpoint: str, cases: list[str]) -> dict[str, float]:
        """Operations of each case in 10^9, without padding."""
        with self._worker("auricle", checkpoint=checkpoint) as client:
            counts = {case: [round(seconds * RATE) for seconds in CASES[case]] for case in cases}
            answers = {c: client.ask("flops", num_samples=counts[c])["flops"] for c in cases}
        return {case: round(sum(flops) / 1e9, 2) for case, flops in answers.items()}

    def _worker(self, library: str, **more: Any) -> AbstractContextManager[Client]:
        ours = worker_of(library) == "auricle"
        python = sys.executable if ours else self._arguments.peers_python
        limit = self._arguments.limit_seconds
        threads = self._arguments.threads
        return worker(library, python, threads, self._scratch, limit_seconds=limit, **more)


def fail(entry: dict[str, Any], error: PeerError) -> None:
    """Note in a cell why it has no figures.

    Raises:
        PeerError: It is ours: without it there is nothing to compare with.
    """
    if entry["library"] == "auricle":
        raise error
    entry["failed"] = str(error)
    tell(f"{entry['library']}, {entry['way']}: {error}")


def write_waveforms(data: Path | None, cases: list[str], folder: Path) -> dict[str, str]:
    """Files with the waveforms of each case: pieces of speech, one after another."""
    paths = {}
    for name, lengths in {**{case: CASES[case] for case in cases}, "check": CHECK}.items():
        counts = [round(seconds * RATE) for seconds in lengths]
        speech = joined(data, sum(counts))
        ends = np.cumsum(counts)
        path = folder / f"{name}.npz"
        np.savez(path, *np.split(speech[: ends[-1]], ends[:-1]))
        paths[name] = str(path)
    return paths


def joined(data: Path | None, num_samples: int) -> np.ndarray:
    """So much speech: files in the order of their names, again from the start if need be."""
    files = sample_paths()
    if data is not None:
        files = sorted(path for path in data.rglob("*") if path.suffix in (".flac", ".wav"))
    pieces: list[np.ndarray] = []
    while files and num_samples > 0:
        for path in files:
            piece, rate = soundfile.read(path, dtype="float32", frames=max(0, num_samples))
            if rate != RATE or piece.ndim != 1:
                raise SystemExit(f"{path} is not of one channel at {RATE} Hz")
            pieces.append(piece)
            num_samples -= len(piece)
    if not pieces:
        raise SystemExit(f"no speech in {data}")
    return np.concatenate(pieces)


def keep(row: dict[str, Any], run: dict[str, Any], path: Path) -> None:
    """Put a row into the file of results, in place of that model and case on this machine."""
    results = report.read(path)
    rows = [{**other, "run": results["runs"][other["run"]]} for other in results["rows"]]

    def place(row: dict[str, Any]) -> tuple[str, str, str]:
        return row["model"], row["case"], report.machine_of(row["run"])

    row = {**row, "run": run}
    rows = [*(other for other in rows if place(other) != place(row)), row]
    rows.sort(key=lambda row: (list(MODELS).index(row["model"]), list(CASES).index(row["case"])))
    runs = []
    for each in rows:
        if each["run"] not in runs:
            runs.append(each["run"])
        each["run"] = runs.index(each["run"])
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"runs": runs, "rows": rows}, indent=1) + "\n"
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def in_mib(count: int | None) -> int | None:
    return None if count is None else round(count / BYTES_PER_MIB)


if __name__ == "__main__":
    sys.exit(main())
