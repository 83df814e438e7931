"""Streams that would run code: each must be refused, and must leave no trace."""

from __future__ import annotations

import contextlib
import copyreg
import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from auricle.checkpoints.pickle.unpickle import read_legacy_checkpoint
from auricle.errors import CheckpointError

PROTO = b"\x80\x02"
EXTENSION_CODE = 201


def text(value: str) -> bytes:
    content = value.encode()
    return b"X" + len(content).to_bytes(4, "little") + content


def name(module: str, qualname: str) -> bytes:
    return f"c{module}\n{qualname}\n".encode()


def stack_name(module: str, qualname: str) -> bytes:
    return text(module) + text(qualname) + b"\x93"


def call(function: bytes, *args: bytes) -> bytes:
    return function + b"(" + b"".join(args) + b"tR"


def touch(marker: Path) -> bytes:
    return text(f"touch '{marker}'")


def source(marker: Path) -> bytes:
    return text(f"open({str(marker)!r}, 'w').close()")


def system(marker: Path) -> bytes:
    return call(name("os", "system"), touch(marker))


def namespace(state: bytes) -> bytes:
    return name("argparse", "Namespace") + b")\x81" + state + b"b"


def malicious_file(marker: Path) -> bytes:
    """The bytes of a second pickle, on disk, that a loader named by the first would open."""
    path = marker.with_suffix(".inner")
    path.write_bytes(PROTO + system(marker) + b".")
    return text(str(path))


os_module = call(name("builtins", "__import__"), text("os"))

EXECUTED: dict[str, Callable[[Path], bytes]] = {
    "reduce os.system": system,
    "reduce posix.system": lambda m: call(name("posix", "system"), touch(m)),
    "reduce subprocess": lambda m: call(
        name("subprocess", "call"), b"(" + text("touch") + text(str(m)) + b"l"
    ),
    "inst": lambda m: b"(" + touch(m) + b"ios\nsystem\n",
    "obj": lambda m: b"(" + name("os", "system") + touch(m) + b"o",
    "stack global": lambda m: call(b"\x80\x04" + stack_name("os", "system"), touch(m)),
    "dotted stack global": lambda m: call(
        b"\x80\x04" + stack_name("argparse", "_os.system"), touch(m)
    ),
    "eval": lambda m: call(name("builtins", "eval"), source(m)),
    "exec": lambda m: call(name("__builtin__", "exec"), source(m)),
    "compile": lambda m: call(
        name("builtins", "exec"),
        call(name("builtins", "compile"), source(m), text("x"), text("exec")),
    ),
    "import and getattr": lambda m: call(
        call(name("builtins", "getattr"), os_module, text("system")), touch(m)
    ),
    "attrgetter": lambda m: call(
        call(call(name("operator", "attrgetter"), text("system")), os_module), touch(m)
    ),
    "getitem": lambda m: call(
        call(name("operator", "getitem"), name("os", "__dict__"), text("system")), touch(m)
    ),
    "partial": lambda m: call(call(name("functools", "partial"), name("os", "system"), touch(m))),
    "map": lambda m: call(
        name("builtins", "list"),
        call(name("builtins", "map"), name("builtins", "eval"), b"(" + source(m) + b"l"),
    ),
    "build with setstate": lambda m: (
        namespace(b"}" + text("__setstate__") + name("os", "system") + b"s") + touch(m) + b"b"
    ),
    "extension registry": lambda m: b"\x82" + bytes([EXTENSION_CODE]) + touch(m) + b"\x85R",
    "in ordered dict arguments": lambda m: call(
        name("collections", "OrderedDict"), b"((" + text("a") + system(m) + b"ll"
    ),
    "in namespace state": lambda m: namespace(b"}" + text("a") + system(m) + b"s"),
    "as a dict key": lambda m: b"}" + system(m) + b"Ns",
    "dropped": lambda m: system(m) + b"0N",
    "in a persistent id": lambda m: b"(" + text("storage") + system(m) + b"NNNtQ",
    "numpy.load": lambda m: call(name("numpy", "load"), malicious_file(m), b"N", b"\x88"),
    "pickle.loads": lambda m: call(
        name("pickle", "loads"),
        b"C" + bytes([len(PROTO + system(m)) + 1]) + PROTO + system(m) + b".",
    ),
    "os.mkdir": lambda m: call(name("os", "mkdir"), text(str(m))),
    "path": lambda m: call(
        b"\x80\x04" + stack_name("pathlib", "Path.touch"),
        call(name("pathlib", "Path"), text(str(m))),
    ),
}
"""Streams that pickle itself runs: the control proves it for each."""

REFUSED: dict[str, Callable[[Path], bytes]] = {
    "newobj popen": lambda m: name("subprocess", "Popen") + b"(" + touch(m) + b"t\x81",
    "newobj_ex popen": lambda m: (
        name("subprocess", "Popen") + b"(" + touch(m) + b"t}" + text("shell") + b"\x88s\x92"
    ),
    "build with reduce": lambda m: namespace(
        b"}" + text("__reduce__") + b"(" + name("os", "system") + touch(m) + b"ts"
    ),
    "unused name": lambda m: name("os", "system") + b"0N",
    "unused stack name": lambda m: stack_name("os", "system") + b"0N",
    "torch.load": lambda m: call(name("torch", "load"), malicious_file(m)),
    "torch load from bytes": lambda m: call(name("torch.storage", "_load_from_bytes"), b"C\x01."),
    "torch.jit.load": lambda m: call(name("torch.jit", "load"), malicious_file(m)),
    "typing evaluation": lambda m: call(name("typing", "ForwardRef"), source(m)),
    "name inside omegaconf": lambda m: call(stack_name("omegaconf", "os.system"), touch(m)),
    "getitem on a list": lambda m: call(name("operator", "getitem"), b"(Nl", b"I0\n"),
    "reconstructor": lambda m: call(
        name("copyreg", "_reconstructor"),
        name("subprocess", "Popen"),
        name("builtins", "object"),
        b"N",
    ),
    "newobj helper": lambda m: call(name("copyreg", "__newobj__"), name("subprocess", "Popen")),
    "newobj_ex helper": lambda m: call(
        name("copyreg", "__newobj_ex__"), name("subprocess", "Popen"), b"(" + touch(m) + b"t", b"}"
    ),
    "helper of the helper": lambda m: call(
        name("copyreg", "__newobj__"), name("copyreg", "_reconstructor"), name("evil", "Evil")
    ),
    "defaultdict factory": lambda m: call(name("collections", "defaultdict"), name("os", "getcwd")),
    "codec": lambda m: call(name("_codecs", "decode"), text("a"), text("rot13")),
    "similar package": lambda m: call(name("omegaconf_evil", "run"), touch(m)),
    "similar optimiser": lambda m: call(name("torch.optimizer", "run"), touch(m)),
    "fairseq task": lambda m: call(name("fairseq.tasks", "setup_task"), touch(m)),
    "complex type": lambda m: call(name("builtins", "type"), touch(m)),
}


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "marker"


@pytest.fixture(autouse=True)
def extension() -> Iterator[None]:
    copyreg.add_extension("os", "system", EXTENSION_CODE)
    yield
    copyreg.remove_extension("os", "system", EXTENSION_CODE)


class TrustingUnpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        return pid


def in_zip(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
    return path


def in_stream(path: Path, content: bytes, *, place: int = 3) -> Path:
    parts = [
        pickle.dumps(0x1950A86A20F9469CFC6C, 2),
        pickle.dumps(1001, 2),
        pickle.dumps({"little_endian": True}, 2),
        pickle.dumps({}, 2),
        pickle.dumps([], 2),
    ]
    parts[place] = content
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("attack", EXECUTED)
def test_control_runs_under_pickle(attack: str, marker: Path) -> None:
    content = PROTO + EXECUTED[attack](marker) + b"."
    # whatever it raises, it raises after the damage is done
    with contextlib.suppress(TypeError, AttributeError, ValueError):
        TrustingUnpickler(io.BytesIO(content)).load()
    assert marker.exists()


@pytest.mark.parametrize("attack", EXECUTED | REFUSED)
@pytest.mark.parametrize("container", [in_zip, in_stream])
def test_attack_is_refused_and_inert(
    attack: str, container: Callable[[Path, bytes], Path], marker: Path
) -> None:
    content = PROTO + (EXECUTED | REFUSED)[attack](marker) + b"."
    path = container(marker.with_name("checkpoint.pt"), content)
    with pytest.raises(CheckpointError, match=r"refused: .*sandbox") as caught:
        read_legacy_checkpoint(path)
    assert not marker.exists()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("place", range(5))
def test_attack_in_any_pickle_of_a_stream(place: int, marker: Path) -> None:
    path = in_stream(marker.with_name("c.pt"), PROTO + system(marker) + b".", place=place)
    with pytest.raises(CheckpointError, match=r"would call 'os\.system'"):
        read_legacy_checkpoint(path)
    assert not marker.exists()


def test_attack_after_the_first_pickle_of_another_file(marker: Path) -> None:
    path = marker.with_name("c.pt")
    path.write_bytes(PROTO + system(marker) + b".")
    with pytest.raises(CheckpointError, match=r"would call 'os\.system'"):
        read_legacy_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "qualname"),
    [
        ("omegaconf.dictconfig", "DictConfig"),
        ("optimizers", "Lamb"),
        ("fairseq.dataclass.constants", "DDP_BACKEND_CHOICES"),
        ("pathlib", "PosixPath"),
        ("torch", "device"),
    ],
)
def test_listed_classes_become_records(module: str, qualname: str, tmp_path: Path) -> None:
    content = PROTO + call(name(module, qualname), text("x")) + b"."
    record: Any = read_legacy_checkpoint(in_zip(tmp_path / "c.pt", content))
    assert record.type_name == f"{module}.{qualname}"
    assert record.args == ("x",)
    assert record.state is None
