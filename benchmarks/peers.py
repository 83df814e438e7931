"""Measure speed and memory of auricle, s3prl, transformers and others on the same speech.

    python benchmarks/peers.py --data LibriSpeech/dev-clean --peers-python PATH/bin/python
    python benchmarks/peers.py --peers-python PATH/bin/python --models tera --cases single_10s
    python benchmarks/peers.py --render

Models have their published sizes and random weights, the same in every library: a peer makes a
checkpoint in the authors' format, auricle loads it, and their outputs for lone waveforms have to
agree before anything is timed. What is timed is waveforms in memory -> unpadded representations of
the last layer, in float32 and inference mode, by a clock inside the process: in one call ("batch")
and in a call for each waveform ("one by one"). Each library is a process of its own, blocked while
another is measured. In every round each library encodes once in each way, in an order that moves on
by one; the first encoding does not count, but tells the memory. `--peers-python` is an interpreter
with

    pip install torch==2.13.0 s3prl==0.4.18 transformers==5.24.0 torchaudio onnxruntime onnx \
        openvino openai-whisper ctranslate2==4.8.5 faster-whisper

and what is missing there is left out. Figures of other models and cases that the file of results
holds stay in it. `--render` writes its tables into the documentation, and needs nothing but it.
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
from peer_workers.client import Client, PeerError, worker
from peer_workers.models import (
    CASES,
    CHECK,
    GRAPH_LIBRARIES,
    LIBRARIES,
    MODELS,
    PEERS,
    WHISPER_LIBRARIES,
    ways,
)

from auricle.audio.inputs import sample_paths

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
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"(default: {RESULTS})")
    parser.add_argument("--render", action="store_true", help="write tables and picture, no more")
    arguments = parser.parse_args()
    if arguments.render:
        report.render(report.read(arguments.out))
        return 0
    if arguments.peers_python is None or shutil.which(arguments.peers_python) is None:
        parser.error("--peers-python must be an interpreter that has the peers")
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
            **machine.describe(),
            "versions": {},
        }

    def run(self) -> list[str]:
        """Measure; each model that could not be compared gives a line."""
        for library in ("auricle", *self._arguments.libraries):
            self._find(library)
        with self._worker("auricle") as client:
            self._run |= client.ask("limits")
        limits = self._run["float32_gflops"], self._run["bfloat16_gflops"]
        tell("matrix products: {} GFLOP/s in float32, {} in bfloat16".format(*limits))
        failures = []
        for name in self._arguments.models:
            try:
                self._measure(name)
            except PeerError as error:
                failures.append(f"{name}: {error}")
                tell(f"{name}: {error}")
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

    def _measure(self, name: str) -> None:
        folder = self._scratch / name
        folder.mkdir()
        skipped: dict[str, str] = {}
        checkpoints = self._checkpoints(name, folder, skipped)
        cases = [case for case in self._arguments.cases if MODELS[name].takes(case)]
        gflop = self._count(checkpoints["auricle"], cases)
        with contextlib.ExitStack() as stack:
            clients: dict[str, Client] = {}
            for library, checkpoint in checkpoints.items():
                try:
                    client = stack.enter_context(self._worker(library))
                    client.ask("load", checkpoint=checkpoint)
                    clients[library] = client
                except PeerError as error:
                    if library == "auricle":
                        raise
                    skipped[library] = str(error)
            for library, reason in skipped.items():
                tell(f"{name}: {library} left out: {reason}")
            differences = compare(name, clients, self._waveforms["check"], folder)
            for case in cases:
                row = self._case(name, case, clients)
                row["gflop"] = gflop[case]
                row |= {"differences": differences, "skipped": {**skipped, **row["skipped"]}}
                keep(row, self._run, self._arguments.out)
        shutil.rmtree(folder)

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

        if "s3prl" in peers and model.maker == "s3prl":
            try:
                result["s3prl"] = result["auricle"] = make("s3prl", "build", model=name)
            except PeerError as error:
                skipped["s3prl"] = str(error)
        if "auricle" not in result:
            result["auricle"] = make("auricle", "build", size=model.size)
        readers = [peer for peer in peers if peer != "s3prl"]
        if readers or model.maker == "auricle":
            exported = make("auricle", "export", checkpoint=result["auricle"])
            result |= dict.fromkeys(readers, exported)
        if "s3prl" in peers and model.maker == "auricle":
            result["s3prl"] = make("s3prl", "build", model=name, source=exported)
        graph_readers = [reader for reader in readers if reader in GRAPH_LIBRARIES]
        if graph_readers:
            try:
                graph = make("transformers", "export", checkpoint=exported)
                result |= dict.fromkeys(graph_readers, graph)
            except PeerError as error:
                skipped |= dict.fromkeys(graph_readers, f"export by {error}")
                result = {name: path for name, path in result.items() if name not in graph_readers}
        for reader in [reader for reader in readers if reader in WHISPER_LIBRARIES]:
            try:
                result[reader] = make("transformers", reader, checkpoint=exported)
            except PeerError as error:
                skipped[reader] = f"conversion by {error}"
                del result[reader]
        return {library: result[library] for library in LIBRARIES if library in result}

    def _case(self, name: str, case: str, clients: dict[str, Client]) -> dict[str, Any]:
        """Measure every library in every way over one case."""
        waveforms = self._waveforms[case]
        skipped: dict[str, str] = {}
        entries: list[dict[str, Any]] = []
        for library, client in clients.items():
            for way in ways(case, library):
                try:
                    memory = client.ask("memory", waveforms=waveforms, way=way)
                except PeerError as error:
                    if library == "auricle":
                        raise
                    skipped[f"{library}, {way}"] = str(error)
                    continue
                entry = {"library": library, "way": way, "seconds": []}
                for key in ("before", "peak"):
                    entry[f"{key}_mib"] = in_mib(memory[f"{key}_bytes"])
                entries.append(entry)
        for index in range(self._arguments.rounds):
            start = index % len(entries)
            for entry in entries[start:] + entries[:start]:
                client = clients[entry["library"]]
                answer = client.ask("time", waveforms=waveforms, way=entry["way"])
                entry["seconds"].append(round(answer["seconds"], 4))
        for entry in entries:
            entry["median"] = round(statistics.median(entry["seconds"]), 4)
            entry["fastest"], entry["slowest"] = min(entry["seconds"]), max(entry["seconds"])
        audio = sum(CASES[case])
        rates = [f"{e['library']} {e['way']} {audio / e['median']:.1f}" for e in entries]
        tell(f"{name} {case}, x real time: {', '.join(rates)}")
        return {
            "model": name,
            "case": case,
            "audio_seconds": round(audio, 2),
            "entries": entries,
            "skipped": skipped,
        }

    def _count(self, checkpoint: str, cases: list[str]) -> dict[str, float]:
        """Operations of each case in 10^9, without padding."""
        with self._worker("auricle") as client:
            client.ask("load", checkpoint=checkpoint)
            return {
                case: round(client.ask("flops", waveforms=self._waveforms[case])["flops"] / 1e9, 2)
                for case in cases
            }

    def _worker(self, library: str) -> AbstractContextManager[Client]:
        python = sys.executable if library == "auricle" else self._arguments.peers_python
        return worker(library, python, self._arguments.threads, self._scratch)


def compare(
    name: str, clients: dict[str, Client], waveforms: str, folder: Path
) -> dict[str, dict[str, float]]:
    """Differences of outputs in standard deviations: ours and a peer's, batches and alone.

    Raises:
        PeerError: Ours are not those of a peer, so to time both would compare nothing.
    """
    result: dict[str, dict[str, float]] = {}
    ours: list[np.ndarray] = []
    for library, client in clients.items():
        alone = outputs(client, waveforms, "one_by_one", folder)
        found = {}
        if library == "auricle":
            ours = alone
        else:
            found["from_auricle"] = deviation(ours, alone)
            if not found["from_auricle"] <= MODELS[name].tolerance:
                raise PeerError(
                    f"auricle and {library} differ by {found['from_auricle']:.1e} standard "
                    f"deviations, more than {MODELS[name].tolerance:.0e}"
                )
        with contextlib.suppress(PeerError):
            batch = outputs(client, waveforms, "batch", folder)
            found["batch_from_alone"] = deviation(batch, alone, cut=True)
        result[library] = found
    return result


def outputs(client: Client, waveforms: str, way: str, folder: Path) -> list[np.ndarray]:
    path = str(folder / "outputs.npz")
    client.ask("outputs", waveforms=waveforms, way=way, out=path)
    with np.load(path) as file:
        return [file[name] for name in file.files]


def deviation(
    outputs: list[np.ndarray], references: list[np.ndarray], *, cut: bool = False
) -> float:
    """Largest difference, in standard deviations of the reference."""
    worst = 0.0
    for x, reference in zip(outputs, references, strict=True):
        count = min(len(x), len(reference))
        if cut:
            x, reference = x[:count], reference[:count]
        if x.shape != reference.shape:
            raise PeerError(f"outputs have shapes {x.shape} and {reference.shape}")
        worst = max(worst, float(np.abs(x - reference).max() / reference.std()))
    return float(f"{worst:.2g}")


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
    """Put a row into the file of results, in place of what it held of that model and case."""
    results = report.read(path)
    rows = [
        other
        for other in results["rows"]
        if (other["model"], other["case"]) != (row["model"], row["case"])
    ]
    rows = [{**other, "run": results["runs"][other["run"]]} for other in rows]
    rows.append({**row, "run": run})
    rows.sort(key=lambda row: (list(MODELS).index(row["model"]), list(CASES).index(row["case"])))
    runs = []
    for each in rows:
        if each["run"] not in runs:
            runs.append(each["run"])
        each["run"] = runs.index(each["run"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"runs": runs, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def in_mib(count: int | None) -> int | None:
    return None if count is None else round(count / BYTES_PER_MIB)


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
