"""Measure the whole job, from FLAC files to features on disk, against how it is done without.

    python benchmarks/whole_job.py --peers-python PATH/bin/python
    python benchmarks/whole_job.py --peers-python PATH/bin/python --models tera --minutes 5
    python benchmarks/whole_job.py --render

`auricle extract` stands against the loop that people write (transformers or s3prl, soundfile,
`np.save`) and against `datasets.map`, see `peer_workers/usual_ways.py`. Models have their published
sizes and the same random weights; the audio is speech cut to ragged lengths of 2 to 20 s, as FLAC.
Each is a process of its own, from its start to its end, in turn for each round. Processor time is
that of all its threads and children. What `auricle extract` reports as the share of its run in
which the model waits, for audio or for writes, is kept too. What takes longer than
`--limit-seconds` is ended, and reported in its cell. The file of results is written after each
model, and a model of which it holds as much, of this machine, is not measured again but with
`--again`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import soundfile
from extract import BYTES_PER_MIB, Memory, machine
from peer_workers.client import BENCHMARKS, python_path, tell, worker
from peer_workers.report import table

from auricle.files.atomic import write_whole
from peers import RATE, joined

RESULTS = BENCHMARKS / "results" / "whole_job.json"
PAGE = BENCHMARKS.parent / "docs" / "speed.md"
SECTION = re.compile(r"(<!-- whole-job: [^>]*-->\n).*?(<!-- /whole-job -->)", re.DOTALL)
MODELS = {"wav2vec2": "wav2vec 2.0 Base", "tera": "TERA Base"}
PEERS = {"wav2vec2": "transformers", "tera": "s3prl"}
SHORTEST_SECONDS, LONGEST_SECONDS = 2.0, 20.0
GOLDEN_RATIO = 0.618034
"""Multiples of it, modulo 1, lie evenly between 0 and 1 in an order without a pattern."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of speech (default: that in the package)")
    parser.add_argument("--peers-python", help="interpreter that has the peers")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--minutes", type=float, default=30.0, help="of audio (default: 30)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit-seconds", type=float, default=3600.0, help="time for one job")
    parser.add_argument("--again", action="store_true", help="measure what is measured already")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"(default: {RESULTS})")
    parser.add_argument("--render", action="store_true", help="write the table, no more")
    arguments = parser.parse_args()
    if not arguments.render:
        if arguments.peers_python is None or shutil.which(arguments.peers_python) is None:
            parser.error("--peers-python must be an interpreter that has the peers")
        rows = read(arguments.out)
        for name in arguments.models:
            if is_done(rows.get(name), arguments) and not arguments.again:
                tell(f"{name}: measured already (--again measures once more)")
                continue
            with tempfile.TemporaryDirectory() as scratch:
                rows[name] = measure(name, arguments, Path(scratch))
            text = json.dumps(rows, indent=1) + "\n"
            write_whole(
                arguments.out, lambda part, text=text: part.write_text(text, encoding="utf-8")
            )
    text = tables(read(arguments.out))
    page = PAGE.read_text(encoding="utf-8")
    if arguments.render:
        page = SECTION.sub(lambda match: f"{match[1]}{text}\n{match[2]}", page)
        PAGE.write_text(page, encoding="utf-8")
    print(text)
    return 0


def is_done(row: dict[str, Any] | None, arguments: argparse.Namespace) -> bool:
    """True if as much was measured on this machine."""
    if row is None or row["audio_seconds"] < 60 * arguments.minutes:
        return False
    here = {**machine("cpu"), "num_threads": arguments.threads}
    keys = ("cpu", "num_cpus", "num_threads", "torch")
    rounds = len(row["cells"]["auricle extract"]["rounds"])
    return rounds >= arguments.rounds and all(row["machine"][key] == here[key] for key in keys)


def measure(name: str, arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Rounds of all ways for one model."""
    audio = scratch / "audio"
    seconds = write_corpus(arguments.data, 60 * arguments.minutes, audio)
    ours, theirs, versions = checkpoints(name, arguments, scratch)
    peer = PEERS[name]
    usual = [arguments.peers_python, "-m", "peer_workers.usual_ways"]
    commands = {
        "auricle extract": [
            *(sys.executable, "-m", "auricle", "extract", str(audio)),
            *("--model", ours, "--device", "cpu", "--json", "--out"),
        ],
        f"loop, {peer}": [*usual, "loop", peer, theirs, str(audio)],
        f"datasets.map, {peer}": [*usual, "map", peer, theirs, str(audio)],
    }
    cells: dict[str, dict[str, Any]] = {way: {"rounds": []} for way in commands}
    for index in range(arguments.rounds):
        for way, command in commands.items():
            if "failed" in cells[way]:
                continue
            tell(f"{name}, {seconds:.0f} s: round {index + 1} of {arguments.rounds}, {way}")
            library = "auricle" if way.startswith("auricle") else peer
            try:
                figures = run(command, library, arguments, scratch / "out")
                cells[way]["rounds"].append(figures)
                tell(f"{name}, {way}: {figures}")
            except JobError as error:
                cells[way]["failed"] = str(error)
                tell(f"{name}, {way}: {error}")
    return {
        "audio_seconds": round(seconds, 1),
        "num_files": len(list(audio.iterdir())),
        "machine": {**machine("cpu"), "num_threads": arguments.threads},
        "versions": versions,
        "cells": cells,
    }


class JobError(Exception):
    """A way of doing the job failed, or took too long."""


def run(
    command: list[str], library: str, arguments: argparse.Namespace, out: Path
) -> dict[str, Any]:
    """One job from the start of its process to its end.

    Raises:
        JobError: It failed, or took too long; it is ended, and what it has started.
    """
    is_ours = library == "auricle"
    environment = {**os.environ, "PYTHONPATH": python_path(library), "HF_HUB_OFFLINE": "1"}
    environment |= dict.fromkeys(["OMP_NUM_THREADS", "MKL_NUM_THREADS"], str(arguments.threads))
    more = [str(out)] + ([] if is_ours else ["--threads", str(arguments.threads)])
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen(
        [*command, *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        memory = Memory(process.pid)
        try:
            output, errors = process.communicate(timeout=arguments.limit_seconds)
        except subprocess.TimeoutExpired:
            raise JobError(f"not done in {arguments.limit_seconds:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            peak = memory.stop()
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    num_bytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    shutil.rmtree(out, ignore_errors=True)
    out.with_suffix(".arrow").unlink(missing_ok=True)
    if process.returncode:
        raise JobError((errors.strip().splitlines() or [f"ended with {process.returncode}"])[-1])
    figures = {
        "wall_seconds": round(wall, 2),
        "cpu_seconds": round(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2
        ),
        "peak_mib": round(peak / BYTES_PER_MIB),
        "written_mib": round(num_bytes / BYTES_PER_MIB, 1),
    }
    if is_ours:
        figures["waiting"] = round(json.loads(output)["waiting"], 4)
    return figures


def checkpoints(
    name: str, arguments: argparse.Namespace, scratch: Path
) -> tuple[str, str, dict[str, str]]:
    """What auricle loads, what the peer loads, and the versions of both."""
    peer = PEERS[name]
    options = {"limit_seconds": arguments.limit_seconds}
    tell(f"{name}: making checkpoints")
    with (
        worker("auricle", sys.executable, 1, scratch, **options) as ours,
        worker(peer, arguments.peers_python, 1, scratch, **options) as theirs,
    ):
        versions = ours.ask("versions")["versions"] | theirs.ask("versions")["versions"]
        script = "from importlib.metadata import version; print(version('datasets'))"
        asked = [arguments.peers_python, "-c", script]
        versions["datasets"] = subprocess.check_output(asked, text=True).strip()
        folder = str(scratch)
        if peer == "s3prl":
            made = theirs.ask("build", folder=folder, model=name)["checkpoint"]
            return made, made, versions
        made = ours.ask("build", folder=folder, size="wav2vec2_base_960")["checkpoint"]
        exported = ours.ask("export", folder=folder, checkpoint=made)["checkpoint"]
    return made, exported, versions


def write_corpus(data: Path | None, seconds: float, folder: Path) -> float:
    """FLAC files of ragged lengths; how many seconds they have together."""
    folder.mkdir()
    lengths: list[float] = []
    while sum(lengths) < seconds:
        share = len(lengths) * GOLDEN_RATIO % 1
        lengths.append(SHORTEST_SECONDS + (LONGEST_SECONDS - SHORTEST_SECONDS) * share)
    speech = joined(data, round(sum(lengths) * RATE) + len(lengths))
    end = 0
    for index, length in enumerate(lengths):
        start, end = end, end + round(length * RATE)
        soundfile.write(folder / f"{index:05d}.flac", speech[start:end], RATE)
    return end / RATE


def read(path: Path) -> dict[str, dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def tables(rows: dict[str, dict[str, Any]]) -> str:
    """A table of the models, and what they were measured on."""
    header = ["model", "way", "x real time", "processor s", "ratio", "ratio of processor time"]
    header += ["peak MiB", "MiB written", "the model waits"]
    lines, notes = [], []
    for name, row in rows.items():
        ours = medians(row["cells"]["auricle extract"])
        for way, cell in row["cells"].items():
            figures = medians(cell)
            if "failed" in cell or not figures or not ours:
                reason = cell.get("failed", "nothing to compare with")
                lines.append([MODELS[name], way, reason, *"------"])
                continue
            lines.append(
                [
                    MODELS[name],
                    way,
                    f"{row['audio_seconds'] / figures['wall_seconds']:.1f}",
                    f"{figures['cpu_seconds']:.0f}",
                    f"{figures['wall_seconds'] / ours['wall_seconds']:.2f}",
                    f"{figures['cpu_seconds'] / ours['cpu_seconds']:.2f}",
                    f"{figures['peak_mib']:.0f}",
                    f"{figures['written_mib']:.0f}",
                    f"{figures['waiting']:.1%}" if "waiting" in figures else "",
                ]
            )
        computer, versions = row["machine"], row["versions"].items()
        notes.append(
            f"- {MODELS[name]}: {row['num_files']} files, {row['audio_seconds'] / 60:.0f} minutes; "
            f"rounds: {len(row['cells']['auricle extract']['rounds'])}; {computer['cpu']}, "
            f"{computer['num_cpus']} cores, threads: {computer['num_threads']}, load "
            f"{computer['load_before']} before; {', '.join(f'{k} {v}' for k, v in versions)}"
        )
    return "\n".join([table(header, lines, left=(0, 1)), "", *notes])


def medians(cell: dict[str, Any]) -> dict[str, float]:
    """The median of each figure over the rounds."""
    rounds = cell["rounds"]
    return {key: statistics.median(one[key] for one in rounds) for key in (rounds or [{}])[0]}


if __name__ == "__main__":
    sys.exit(main())
