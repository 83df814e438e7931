"""Measure a step of fine-tuning of auricle, s3prl and transformers on the same weights and speech.

    python benchmarks/training.py --data LibriSpeech/dev-clean --peers-python PATH/bin/python
    python benchmarks/training.py --peers-python PATH/bin/python --models tera apc --rounds 7
    python benchmarks/training.py --render

A step is waveforms in memory -> representations of the last layer, their mean squares, backward,
AdamW; float32, train mode with the dropout of the models, no layer left out. It is of the whole
encoder, and of all but the convolutions ("frozen"). Libraries take turns, each in a process of its
own; ratios are of medians of the time that the processor works, which a busy machine disturbs
least. `--peers-python` and weights are as in `peers.py`. Figures of other models that the file of
results holds stay in it. `--render` writes the table into docs/speed.md, and needs nothing else.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from peer_workers import machine
from peer_workers.client import LIMIT_SECONDS, PeerError
from peer_workers.models import MODELS

from peers import RATE, Benchmark, in_mib, joined, tell

RESULTS = Path(__file__).parent / "results" / "training.json"
PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
SECTION = re.compile(r"(<!-- training -->\n).*?(<!-- /training -->)", re.DOTALL)

SECONDS = (5.0, 4.3, 3.7, 3.0)
"""Of the utterances of a step."""

WITH_EXTRACTOR = ("wav2vec2", "hubert", "wavlm")
CHOICES = (*WITH_EXTRACTOR, "tera", "apc", "cpc")
LIBRARIES = ("auricle", "transformers", "s3prl")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of speech (default: that in the package)")
    parser.add_argument("--peers-python", help="interpreter that has the peers")
    parser.add_argument("--models", nargs="*", default=list(CHOICES), choices=CHOICES)
    parser.add_argument("--parts", nargs="*", default=["all", "frozen"], choices=["all", "frozen"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"(default: {RESULTS})")
    parser.add_argument("--render", action="store_true", help="write the table, no more")
    arguments = parser.parse_args()
    if arguments.render:
        render(json.loads(arguments.out.read_text(encoding="utf-8")))
        return
    if arguments.peers_python is None:
        parser.error("--peers-python must be an interpreter that has the peers")
    arguments.libraries, arguments.cases = list(LIBRARIES[1:]), []
    arguments.clock, arguments.limit_seconds = "cpu", LIMIT_SECONDS
    with tempfile.TemporaryDirectory() as scratch:
        Training(arguments, Path(scratch)).run()


class Training(Benchmark):
    """One run over models."""

    def run(self) -> list[str]:
        arguments = self._arguments
        counts = [round(seconds * RATE) for seconds in SECONDS]
        speech = joined(arguments.data, sum(counts))[: sum(counts)]
        waveforms = self._scratch / "train.npz"
        np.savez(waveforms, *np.split(speech, np.cumsum(counts)[:-1]))
        for name in arguments.models:
            folder = self._scratch / name
            folder.mkdir()
            skipped: dict[str, str] = {}
            found = self._checkpoints(name, folder, skipped)
            checkpoints = {library: found[library] for library in LIBRARIES if library in found}
            for part in arguments.parts if name in WITH_EXTRACTOR else ["all"]:
                row = self._train(name, part, checkpoints, str(waveforms)) | {"skipped": skipped}
                keep(row, arguments.out)
        return []

    def _train(
        self, name: str, part: str, checkpoints: dict[str, str], waveforms: str
    ) -> dict[str, Any]:
        """Train by every library in turn."""
        answers: dict[str, list[dict[str, Any]]] = {library: [] for library in checkpoints}
        with ExitStack() as stack:
            clients = {}
            for library, checkpoint in checkpoints.items():
                clients[library] = stack.enter_context(self._worker(library))
                clients[library].ask("load", checkpoint=checkpoint)
            for _ in range(self._arguments.rounds + 1):
                for library, client in list(clients.items()):
                    try:
                        request = {"waveforms": waveforms, "frozen": part == "frozen"}
                        answers[library].append(client.ask("train", **request))
                    except PeerError as error:
                        tell(f"{name}: {library} left out: {error}")
                        del clients[library]
        row: dict[str, Any] = {"model": name, "part": part, "rounds": self._arguments.rounds}
        row |= {"threads": self._arguments.threads, **machine.describe(), "entries": {}}
        for library in clients:
            _, *counted = answers[library]  # the first warms up
            row["entries"][library] = {
                "cpu_seconds": median(counted, "cpu_seconds"),
                "seconds": median(counted, "seconds"),
                "peak_mib": in_mib(max(one["peak_bytes"] for one in answers[library])),
            }
        tell(json.dumps(row))
        return row


def median(answers: list[dict[str, Any]], key: str) -> float:
    return round(statistics.median(answer[key] for answer in answers), 3)


def keep(row: dict[str, Any], path: Path) -> None:
    """Put a row into the file of results, in place of what it held of that model and part."""
    key = row["model"], row["part"]
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    rows = [other for other in held if (other["model"], other["part"]) != key] + [row]
    rows.sort(key=lambda one: (CHOICES.index(one["model"]), one["part"]))
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def render(rows: list[dict[str, Any]]) -> None:
    """Write the table between its markers in the documentation."""
    lines = [
        "| model | trained | auricle | transformers | s3prl | ratio | MiB: auricle | transformers "
        "| s3prl |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        entries = row["entries"]
        times = [entries.get(library, {}).get("cpu_seconds") for library in LIBRARIES]
        peaks = [entries.get(library, {}).get("peak_mib") for library in LIBRARIES]
        ratio = min(time for time in times[1:] if time) / times[0]
        cells = [MODELS[row["model"]].title, "all" if row["part"] == "all" else "but convolutions"]
        cells += [f"{time:.2f} s" if time else "" for time in times]
        cells += [f"{ratio:.2f}", *(str(peak) if peak else "" for peak in peaks)]
        lines.append(f"| {' | '.join(cells)} |")
    page = PAGE.read_text(encoding="utf-8")
    table = "\n".join(lines)
    page = SECTION.sub(lambda match: f"{match[1]}{table}\n{match[2]}", page)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
