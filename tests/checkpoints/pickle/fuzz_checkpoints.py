"""A fuzzer of the checkpoint reader, a program of its own: python fuzz_checkpoints.py [SECONDS [SEED]].

Valid checkpoints of every protocol and container are changed at random: bytes, slices, whole
opcodes, and streams that would run code spliced in. Each must load or raise an error of the
library, in bounded time and memory, and must import, call and write nothing: hooks of the
interpreter watch over that. The process can take so little memory that a bomb ends it.
"""

from __future__ import annotations

import argparse
import codecs
import collections
import contextlib
import enum
import io
import pathlib
import pickletools
import random
import resource
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import auricle
from auricle.catalogue.family import FAMILIES
from auricle.checkpoints.pickle.unpickle import as_mapping, read_legacy_checkpoint

MEMORY_BYTES = 2**30
"""What the process may take beyond what it has when fuzzing starts."""
MAX_CASE_SECONDS = 5.0
WATCHED = ("import", "exec", "pickle.find_class", "subprocess.Popen", "ctypes.dlopen", "socket.")
"""Beginnings of the names of events that reading a checkpoint must not cause; `os.` but for some."""
HARMLESS = ("os.listdir", "os.scandir")
EXTREMES = (0, 1, 2, 127, 128, 255)
NAMES = (
    *(b"cos\nsystem\n", b"cposix\nsystem\n", b"cbuiltins\neval\n", b"c__builtin__\nexec\n"),
    *(b"csubprocess\nPopen\n", b"cpathlib\nPath\n", b"ctorch\nload\n", b"ccopyreg\n__newobj__\n"),
    *(b"cbuiltins\ngetattr\n", b"ccopyreg\n_reconstructor\n", b"cbuiltins\nobject\n", b"ca\nB\n"),
    *(b"cnumpy.core.multiarray\nscalar\n", b"c_codecs\nencode\n", b"ca.b\nrun\n"),
)
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


class Colour(enum.Enum):
    """A member of it pickles by a call of its class."""

    RED = "red"


class Options(dict[str, int]):
    """A dict with attributes."""


class Meter:
    """An object with attributes."""


def content() -> dict[str, Any]:
    """What a checkpoint may hold: every kind of value that the reader knows."""
    meter, options = Meter(), Options(a=1)
    meter.__dict__.update(value=0.5, path=pathlib.PurePosixPath("/a/b"))
    options.extra = [1]  # type: ignore[attr-defined]
    shared = torch.arange(6.0)
    return {
        "model": collections.OrderedDict(
            w=shared.reshape(2, 3), part=shared[2:], n=torch.tensor(3)
        ),
        "args": argparse.Namespace(lr=0.1, layers="[(8, 10, 5)]", flags=[True, None]),
        "meters": [meter, options, Colour.RED, collections.Counter("aab"), collections.deque([1])],
        "numpy": [np.float64(0.5), np.arange(3), np.str_("text"), np.random.RandomState(0)],
        "plain": [(1, 2.5), {3}, frozenset([4]), b"bytes", "téxt", 2**70, 1 + 2j, bytearray(b"x")],
        "torch": [torch.float16, torch.device("cpu"), torch.Size([2]), torch.nn.Linear(2, 1)],
    }


def apc() -> dict[str, Any]:
    """A checkpoint that loads, so that what follows the reader is met too."""
    audio = {"feat_type": "fbank", "feat_dim": 8, "frame_length": 25, "frame_shift": 10}
    paras = {"num_layers": 1, "hidden_size": 4, "dropout": 0.0, "residual": True}
    weights = torch.nn.GRU(8, 4).state_dict()
    names = {key: f"rnn_layers.0.{key}" for key in weights}
    return {
        "config": {"data": {"audio": audio}, "model": {"method": "apc", "paras": paras}},
        "model": {names[key]: weight for key, weight in weights.items()},
        "optimizer": {"state": torch.zeros(50)},
    }


def seeds() -> Iterator[bytes]:
    for value in (content(), apc()):
        for protocol in range(2, 6):
            for is_zip in (True, False):
                file = io.BytesIO()
                torch.save(
                    value,
                    file,
                    pickle_protocol=protocol,
                    _use_new_zipfile_serialization=is_zip,
                )
                yield file.getvalue()


def split(data: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    """The pickle of a checkpoint's content, and what puts another one into its place."""
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        (name,) = (name for name in members if name.endswith("/data.pkl"))

        def zipped(inner: bytes) -> bytes:
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w") as archive:
                for member, held in {**members, name: inner}.items():
                    archive.writestr(member, held)
            return file.getvalue()

        return members[name], zipped
    stream = io.BytesIO(data)
    for _ in range(3):
        list(pickletools.genops(stream))
    start = stream.tell()
    list(pickletools.genops(stream))
    end = stream.tell()
    return data[start:end], lambda inner: data[:start] + inner + data[end:]


def attack(marker: Path, rng: random.Random) -> bytes:
    """Opcodes that would make the marker if they were run, or that call what they should not."""
    text = f"touch '{marker}'".encode()
    argument = b"X" + len(text).to_bytes(4, "little") + text
    name = rng.choice(NAMES)
    return rng.choice(
        (
            name + b"(" + argument + b"tR",
            name + b"(" + argument + b"t\x81",
            name + b"(" + argument + b"t}\x92",
            b"(" + argument + b"i" + name[1:],
            b"(" + name + argument + b"o",
            name + b"}" + argument + b"Nsb",
            name + rng.choice(NAMES) + rng.choice(NAMES) + b"N\x87R",
            name + b"0",
        )
    )


def changed(data: bytes, rng: random.Random, marker: Path, others: list[bytes]) -> bytes:
    """Data with one to four changes."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.randint(1, 40))
        other = rng.choice(others)
        cut = rng.randrange(len(other))
        piece = rng.choice(
            (
                bytes([rng.choice(EXTREMES)]),
                rng.randbytes(rng.randint(1, 8)),
                rng.choice(OPCODES) * rng.choice((1, 1, 1, 500)),
                attack(marker, rng),
                other[cut : cut + rng.randint(1, 200)],
                data[at:end] * rng.choice((0, 2, 2, 300)),
                (2 ** rng.choice((31, 32, 62, 63)) - 1).to_bytes(8, "little"),
            )
        )
        data = data[:at] + piece + data[end if rng.random() < 0.6 else at :]
        if rng.random() < 0.03:
            data = data[: rng.randrange(1, len(data) + 1)]
        data = data or b"."
    return data


def by_opcodes(inner: bytes, rng: random.Random, marker: Path) -> bytes:
    """A pickle with attacks and opcodes put between its own, or some of its own left out."""
    with contextlib.suppress(Exception):
        places = [position or 0 for _, _, position in pickletools.genops(inner)]
        for _ in range(rng.randint(1, 3)):
            index = rng.randrange(len(places) - 1)
            at, end = places[index], places[rng.choice((index, index, index + 1))]
            piece = rng.choice((attack(marker, rng), rng.choice(OPCODES), b"2", b"h\x00", b""))
            inner = inner[:at] + piece + inner[end:]
    return inner


def use(value: Any) -> None:
    """Read every tensor there is, and unfold what may be a configuration."""
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            item.contiguous()
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, (list, tuple)):
            waiting += item
    with contextlib.suppress(auricle.CheckpointError):
        as_mapping(value.get("args") if isinstance(value, dict) else value)


class Watch:
    """Notes events of the interpreter while `on`; a hook can never be taken away again."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: tuple[object, ...]) -> None:
        is_watched = event.startswith(WATCHED)
        if event.startswith("os.") and event not in HARMLESS:
            is_watched = True
        if event == "open" and len(args) > 1 and str(args[1])[:1] not in "rN":
            is_watched = True
        if self.on and is_watched:
            self.seen.append(f"{event} {args!r}"[:200])


def fuzz(seconds: float, seed: int) -> int:
    """Change checkpoints and read them until the time is over; gives how many."""
    known = list(seeds())
    inners = [split(data)[0] for data in known]
    for family in FAMILIES.values():
        if family.stem != "baseline":
            family.config_type()
    with tempfile.TemporaryDirectory() as folder:
        path, marker = Path(folder, "c.pt"), Path(folder, "marker")
        for data in known:  # also imports what is imported late
            path.write_bytes(data)
            use(read_legacy_checkpoint(path))
            with contextlib.suppress(auricle.CheckpointError):
                auricle.load(path)
        for codec in ("utf-32-le", "utf-32-be", "cp437", "raw-unicode-escape"):
            codecs.lookup(codec)  # which imports it
        watch = Watch()
        modules = set(sys.modules)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_BYTES,) * 2)
        end = time.monotonic() + seconds
        count, loaded = 0, 0
        while time.monotonic() < end:
            rng = random.Random(f"{seed}.{count}")
            data = rng.choice(known)
            inner, whole = split(data)
            kind = rng.random()
            if kind < 0.45:
                data = whole(by_opcodes(inner, rng, marker))
            elif kind < 0.85:
                data = whole(changed(inner, rng, marker, inners))
            else:
                data = changed(data, rng, marker, known)
            path.write_bytes(data)
            watch.seen.clear()
            start = time.process_time()
            watch.on = True
            try:
                if count % 4:
                    use(read_legacy_checkpoint(path))
                else:
                    auricle.load(path)
                loaded += 1
            except auricle.CheckpointError:
                pass
            finally:
                watch.on = False
            spent = time.process_time() - start
            assert spent < MAX_CASE_SECONDS, f"case {seed}.{count} took {spent:.1f} s"
            assert not watch.seen, f"case {seed}.{count} caused {watch.seen}"
            assert set(sys.modules) == modules, f"{seed}.{count}: {set(sys.modules) - modules}"
            assert not marker.exists(), f"case {seed}.{count} ran code"
            count += 1
    print(f"{count} checkpoints, {loaded} of them loaded")
    return count


if __name__ == "__main__":
    numbers = [float(number) for number in sys.argv[1:]]
    torch.set_num_threads(1)
    fuzz(numbers[0] if numbers else 60.0, int(numbers[1]) if len(numbers) > 1 else 0)
