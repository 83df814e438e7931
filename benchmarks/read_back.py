"""Measure random reads of utterances: from a store, and from files of other formats.

    python benchmarks/read_back.py
    python benchmarks/read_back.py --utterances 2000 --reads 2000 --rounds 3

Utterances of random numbers, 1 to 15 s long at 50 frames a second, are written through the store's
own writer in every format that is installed. Then the same random ids are read from each, in rounds
that take turns; the median over the rounds counts. Reading is what a training loop does: from an id
to numbers in memory, every one of them touched, so that pages of a mapped file do come in. The time
is the processor's, so that other work on the machine does not count: all is in the system's cache,
and there is nothing to wait for. A cold cache cannot be had without root; on a disk that must be
waited for the waiting outweighs all of these figures. `open` is what opening costs, once.

    store       auricle.open(...)[id], mapped
    npy         numpy.load of a file for each utterance
    npy opened  auricle.open on the same folder, which has an index
    kaldi       kaldiio.load_scp(...)[id], float32: Kaldi has no halves, so twice the bytes
    hdf5        h5py, files kept open
    arrow       Hugging Face datasets, a row by its number; a tenth of the reads, it takes so long

WebDataset's archives are left out: they are read from end to end, not at random.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import auricle
from auricle.corpus.utterance import Utterance
from auricle.errors import MissingExtraError
from auricle.extraction.writers import open_format
from auricle.store.layout import LayerMeta, SelectionMeta, ShardKey, StoreMeta
from auricle.store.writer import StoreWriter

RESULTS = Path(__file__).parent / "results" / "read_back.json"
LAYER = "layer"
MIN_FRAMES, MAX_FRAMES = 50, 750
SHARD_UTTERANCES = 600
HOP_SAMPLES = 320

Read = Callable[[str], float]
"""Reads an utterance and sums it."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--utterances", type=int, default=10_000)
    parser.add_argument("--reads", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--ways", nargs="*", default=[*WAYS], choices=[*WAYS])
    parser.add_argument("--scratch", type=Path, help="where to write (default: temporary)")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"(default: {RESULTS})")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ids = [f"speaker{n % 251:03d}/utterance-{n:06d}" for n in range(arguments.utterances)]
    asked = random.Random(0).choices(ids, k=arguments.reads)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        folders: dict[str, Path] = {}
        readers: dict[str, Read] = {}
        opening: dict[str, float] = {}
        for way in arguments.ways:
            store_format, opener = WAYS[way]
            try:
                if store_format not in folders:
                    folder = Path(scratch) / store_format
                    write(folder, store_format, ids, arguments.dim)
                    folders[store_format] = folder
                start = time.process_time()
                readers[way] = opener(folders[store_format], ids)
                opening[way] = time.process_time() - start
            except (ImportError, MissingExtraError) as error:
                print(f"{way} is left out: {error}", file=sys.stderr)
        check(readers, asked[:20])
        microseconds: dict[str, list[float]] = {way: [] for way in readers}
        for _ in range(arguments.rounds):
            for way, read in readers.items():
                names = asked[: len(asked) // FEWER.get(way, 1)]
                start = time.process_time()
                for name in names:
                    read(name)
                elapsed = time.process_time() - start
                microseconds[way].append(1e6 * elapsed / len(names))
        figures = {
            "utterances": len(ids),
            "reads": len(asked),
            "rounds": arguments.rounds,
            "dim": arguments.dim,
            "cache": "warm",
            "ways": {
                way: {
                    "microseconds": round(median(times), 1),
                    "of_rounds": [round(each, 1) for each in times],
                    "open_milliseconds": round(1000 * opening[way], 1),
                    "mib": round(size(folders[WAYS[way][0]]) / 2**20),
                }
                for way, times in microseconds.items()
            },
        }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(table(figures))
    return 0


def write(folder: Path, store_format: str, ids: list[str], dim: int) -> None:
    """A store of random numbers in a format."""
    meta = StoreMeta(
        format=store_format,
        model="random",
        family="random",
        layers=(LayerMeta(name=LAYER, dim=dim, hop_samples=HOP_SAMPLES),),
        sample_rate=16_000,
        dtype="float32" if store_format == "kaldi" else "float16",
        selection=SelectionMeta(layers=(LAYER,)),
        encoder_dtype="float32",
        model_sha256="0" * 64,
        library_version=auricle.__version__,
    )
    writer = StoreWriter.begin(folder, open_format(meta))
    writer.reopen()
    # The order of ids is not that of the shards, as lengths order a corpus.
    names = random.Random(1).sample(ids, len(ids))
    for number, first in enumerate(range(0, len(names), SHARD_UTTERANCES)):
        some = names[first : first + SHARD_UTTERANCES]
        writer.write(ShardKey(0, number), [*items(some, dim, getattr(torch, meta.dtype))])
    writer.close()


def items(
    names: list[str], dim: int, dtype: torch.dtype
) -> Iterator[tuple[Utterance, dict[str, torch.Tensor]]]:
    """Utterances, each with the same numbers whatever the format."""
    for name in names:
        generator = torch.Generator().manual_seed(int(name[-6:]))
        frames = int(torch.randint(MIN_FRAMES, MAX_FRAMES, (), generator=generator))
        x = torch.rand(frames, dim, generator=generator).half().to(dtype)
        utterance = Utterance(id=name, source=f"{name}.wav", seconds=frames / 50)
        yield utterance, {LAYER: x}


def open_store(folder: Path, _: list[str]) -> Read:
    store = auricle.open(folder)
    return lambda name: total(store[name].numpy())


def open_npy(folder: Path, _: list[str]) -> Read:
    return lambda name: total(np.load(folder / "data" / f"{name}.npy"))


def open_kaldi(folder: Path, _: list[str]) -> Read:
    import kaldiio

    arrays = kaldiio.load_scp(str(folder / "feats.scp"))
    return lambda name: total(arrays[name])


def open_hdf5(folder: Path, _: list[str]) -> Read:
    import h5py

    files = {f"shards/{path.name}": h5py.File(path) for path in (folder / "shards").iterdir()}
    table = auricle.open(folder).to_pandas()
    shards = dict(zip(table["id"], table["shard"], strict=True))
    return lambda name: total(files[shards[name]][name][:])


def open_arrow(folder: Path, _: list[str]) -> Read:
    import datasets

    rows = datasets.load_from_disk(str(folder)).with_format("numpy", dtype=np.float16)
    numbers = {name: number for number, name in enumerate(rows.with_format(None)["id"][:])}
    return lambda name: total(rows[numbers[name]][LAYER])


def total(x: Any) -> float:
    """Touches every number: exclusive or of the bits, which costs next to nothing."""
    return float(np.bitwise_xor.reduce(np.ascontiguousarray(x).reshape(-1).view(np.uint64)))


WAYS: dict[str, tuple[str, Callable[[Path, list[str]], Read]]] = {
    "store": ("store", open_store),
    "npy": ("npy", open_npy),
    "npy opened": ("npy", open_store),
    "kaldi": ("kaldi", open_kaldi),
    "hdf5": ("hdf5", open_hdf5),
    "arrow": ("arrow", open_arrow),
}
"""Each way: the format that it reads, and what opens it."""

FEWER = {"arrow": 10}
"""By how much fewer utterances a way reads in a round."""


def check(readers: dict[str, Read], names: list[str]) -> None:
    """Raise SystemExit where ways of the same type of values do not read the same."""
    sums = {way: [read(name) for name in names] for way, read in readers.items() if way != "kaldi"}
    if len({tuple(each) for each in sums.values()}) > 1:
        raise SystemExit(f"what is read is not the same: {sums}")


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def table(figures: dict[str, Any]) -> str:
    """The figures as a table in Markdown."""
    lines = ["| way | microseconds an utterance | opening, ms | MiB |", "|---|---|---|---|"]
    for way, found in figures["ways"].items():
        row = (found["microseconds"], found["open_milliseconds"], found["mib"])
        lines.append(f"| {way} | {' | '.join(map(str, row))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
