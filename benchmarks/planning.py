"""Measure planning: listing utterances, the plan, resuming, merging and opening the index.

    python benchmarks/planning.py
    python benchmarks/planning.py --utterances 100000

The list is a CSV file that names one file of audio under many ids, with lengths, so that no header
is read. Each stage is a process of its own; its memory is the most that the process held, less what
it held before the stage began, libraries loaded. Time is the processor's.

    list    the utterances of the CSV file
    plan    the list (made before, and held), into batches and shards, written down
    resume  which shards of that plan are not done, with all that they hold; none is
    merge   the parts of that plan's shards, into a sorted index
    open    the store, ready to give any utterance
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from auricle.extraction.writers import open_format
from auricle.store.layout import SelectionMeta

RESULTS = Path(__file__).parent / "results" / "planning.json"
STAGES = ("list", "plan", "resume", "merge", "open")
PARTS = "parts"
"""A stage that is not measured: what the shards of the plan would leave for merging."""

BYTES_PER_SECOND = 50 * 768 * 2
"""Of what is kept: 768 halves, 50 times a second."""

MIN_SECONDS, MAX_SECONDS = 1.0, 16.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--utterances", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"(default: {RESULTS})")
    parser.add_argument("--stage", choices=(*STAGES, PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage is not None:
        print(json.dumps(measure(arguments.stage, arguments.scratch)))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch), arguments.utterances)
        figures: dict[str, Any] = {"utterances": arguments.utterances}
        for stage in (*STAGES[:3], PARTS, *STAGES[3:]):
            command = [sys.executable, __file__, "--stage", stage, "--scratch", scratch]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            figures[stage] = json.loads(output.splitlines()[-1])
        store = Path(scratch) / "store"
        figures["plan_mib"] = mib(size(store / "plans"))
        figures["index_mib"] = mib(size(store / "index.parquet"))
        figures["num_shards"] = len(list((store / "parts").iterdir()))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(table(figures))
    return 0


def prepare(scratch: Path, num_utterances: int) -> None:
    """The list."""
    rng = random.Random(0)
    (scratch / "a.wav").touch()
    with (scratch / "list.csv").open("w", encoding="utf-8") as file:
        file.write("id,path,duration\n")
        for number in range(num_utterances):
            seconds = rng.uniform(MIN_SECONDS, MAX_SECONDS)
            file.write(f"speaker{number % 9973:05d}/utterance-{number:09d},a.wav,{seconds:.3f}\n")


def measure(stage: str, scratch: Path) -> dict[str, float]:
    """Run one stage in this process."""
    run = prepared_stage(stage, scratch)
    before, start = peak_bytes(), time.process_time()
    run()
    return {
        "seconds": round(time.process_time() - start, 1),
        "mib": mib(peak_bytes() - before),
    }


def prepared_stage(stage: str, scratch: Path) -> Callable[[], Any]:
    """Run a stage; its imports and inputs are ready."""
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401 - loaded before memory is looked at

    from auricle.corpus.listing import list_utterances
    from auricle.store.reader import open as open_store
    from auricle.store.writer import merge_parts

    inputs, out = [str(scratch / "list.csv")], scratch / "store"
    if stage == "list":
        return lambda: list_utterances(inputs)
    if stage == "plan":
        listing = list_utterances(inputs)
        return lambda: begin(out).add(listing.utterances, listing.known_seconds)
    if stage == "resume":
        return lambda: begin(out).pending()
    if stage == PARTS:
        return lambda: write_parts(begin(out), out)
    if stage == "merge":
        return lambda: merge_parts(writer_of(out).folder)
    return lambda: open_store(out)


def begin(out: Path) -> Any:
    """A run into a store of random numbers."""
    from auricle.extraction.extract import Silence
    from auricle.extraction.run import Run
    from auricle.extraction.selection import Selection
    from auricle.extraction.worker import Worker

    worker = Worker(
        load=None, selection=Selection(), pad_short=False, writer=writer_of(out), num_workers=0
    )
    return Run(
        worker,
        None,
        num_bytes=lambda seconds: round(BYTES_PER_SECOND * seconds),
        progress=Silence(),
        stops=True,
    )


def writer_of(out: Path) -> Any:
    import auricle
    from auricle.store.layout import LayerMeta, StoreMeta
    from auricle.store.writer import StoreWriter

    meta = StoreMeta(
        format="store",
        model="random",
        family="random",
        layers=(LayerMeta(name="layer", dim=768, hop_samples=320),),
        sample_rate=16_000,
        dtype="float16",
        selection=SelectionMeta(layers=("layer",)),
        encoder_dtype="float32",
        model_sha256="0" * 64,
        library_version=auricle.__version__,
    )
    return StoreWriter.begin(out, open_format(meta))


def write_parts(run: Any, out: Path) -> None:
    """The parts that the shards of the plan would leave, and a store that says it is closed."""
    import msgspec

    from auricle.store.index import IndexRow, write_part
    from auricle.store.layout import read_meta, write_meta

    folder = writer_of(out).folder
    for shard in run.pending():
        rows, offset = [], 0
        for timed in shard.utterances:
            frames = round(50 * timed.seconds)
            rows.append(
                IndexRow(
                    id=timed.utterance.id,
                    layer="layer",
                    shard=shard.key.file(".safetensors"),
                    offset=offset,
                    frames=frames,
                    dim=768,
                    dtype="float16",
                    source=timed.utterance.source,
                    start=0.0,
                    seconds=timed.seconds,
                    model_sha256="0" * 64,
                )
            )
            offset += frames * 768 * 2
        write_part(folder, shard.key, rows, {}, library_version="0")
    meta = read_meta(folder)
    assert meta is not None
    write_meta(folder, msgspec.structs.replace(meta, closed=True))


def peak_bytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def size(path: Path) -> int:
    files = [path] if path.is_file() else path.iterdir()
    return sum(file.stat().st_size for file in files)


def mib(num_bytes: int) -> int:
    return round(num_bytes / 2**20)


def table(figures: dict[str, Any]) -> str:
    """The figures as a table in Markdown."""
    lines = [f"| {figures['utterances']:,} utterances | seconds | MiB |", "|---|---|---|"]
    lines += [f"| {s} | {figures[s]['seconds']} | {figures[s]['mib']} |" for s in STAGES]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
