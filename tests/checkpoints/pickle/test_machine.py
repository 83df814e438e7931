from __future__ import annotations

import argparse
import collections
import io
import pickle
import struct
import tracemalloc
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest

from auricle.checkpoints.pickle.machine import PickleStream, read_pickle
from auricle.checkpoints.pickle.names import CheckpointNames
from auricle.checkpoints.pickle.tensors import StorageRef
from auricle.checkpoints.pickle.values import InertName, InertRecord
from auricle.errors import CheckpointError


class NoStorages:
    def storage(self, ref: StorageRef) -> Any:
        raise AssertionError("no tensor expected")


def read(content: bytes) -> Any:
    stream = PickleStream(io.BytesIO(content), len(content))
    return read_pickle(stream, CheckpointNames(NoStorages(), len(content)))


def int_op(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


PLAIN = {
    "none": None,
    "flags": [True, False],
    "ints": (0, 1, -1, 255, 256, 65_535, 65_536, -(2**31), 2**31, 2**70),
    "floats": [0.0, -1.5, 1e300, float("inf")],
    "text": ["", "plain", "línea\n'\"\\", "語", "x" * 300],
    "bytes": [b"", b"ab\x00\xff", b"y" * 300],
    "nested": {"a": [{"b": ()}, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]},
    1: "int key",
    -1.5: "float key",
    None: "none key",
    b"k": "bytes key",
    ("tuple", 1): "tuple key",
}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_read_as_python_reads_them(protocol: int) -> None:
    shared = [1]
    value = {**PLAIN, "shared": [shared, shared]}
    result = read(pickle.dumps(value, protocol))
    assert result == value
    assert list(result) == list(value)
    assert result["shared"][0] is result["shared"][1]


@pytest.mark.parametrize("protocol", range(6))
def test_objects_become_plain_values_and_records(protocol: int) -> None:
    value = {
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "default": collections.defaultdict(list, x=[1]),
        "set": {7},
        "frozen": frozenset([8]),
        "array": bytearray(b"\x00\xfe"),
        "namespace": argparse.Namespace(lr=0.5, layers=[1, 2]),
        "path": PurePosixPath("/a/b"),
        "ellipsis": ...,
        "type": dict,
        "complex": 1 + 2j,
    }
    result = read(pickle.dumps(value, protocol))
    assert result["ordered"] == {"b": 1, "a": 2}
    assert list(result["ordered"]) == ["b", "a"]
    assert result["default"] == {"x": [1]}
    assert result["set"] == [7]
    assert result["frozen"] == (8,)
    assert result["array"] == b"\x00\xfe"
    assert isinstance(result["namespace"], InertRecord)
    assert result["namespace"].type_name == "argparse.Namespace"
    assert result["namespace"].state == {"lr": 0.5, "layers": [1, 2]}
    assert result["path"].args[-2:] == ("a", "b")
    assert isinstance(result["ellipsis"], InertName)
    assert result["type"].type_name == "builtins.dict"
    assert result["complex"].args == (1.0, 2.0)


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize(
    "scalar",
    [
        np.float64(1.25),
        np.float32(-2.5),
        np.float16(0.5),
        np.int64(-(2**40)),
        np.uint8(200),
        np.bool_(True),
        np.dtype(">i4").type(5),
    ],
)
def test_numpy_scalars_become_python_numbers(scalar: Any, protocol: int) -> None:
    result = read(pickle.dumps(scalar, protocol))
    assert type(result) is type(scalar.item())
    assert result == scalar.item()


def test_big_endian_numpy_scalar() -> None:
    content = (
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x02\x00\x00\x00i4I0\nI1\ntR"
        b"(I3\nX\x01\x00\x00\x00>NNNI-1\nI-1\nI0\ntbC\x04\x00\x00\x01\x02tR."
    )
    assert read(content) == 258


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_text_becomes_text(protocol: int) -> None:
    assert read(pickle.dumps(np.str_("añb"), protocol)) == "añb"
    assert read(pickle.dumps(np.bytes_(b"ab"), protocol)) == b"ab"
    big = np.array("é", dtype=">U3")[()]
    assert read(pickle.dumps(big, protocol)) == "é"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        np.arange(3, dtype="f4"),
        np.array(["a", "bc"]),
        np.array([None, {"a": 1}]),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.complex64(1 + 2j),
        np.datetime64("2020-01-01", "D"),
        np.dtype("f4"),
        np.random.default_rng(0),
        np.random.RandomState(0),
    ],
)
def test_other_values_of_numpy_become_records(value: Any, protocol: int) -> None:
    assert isinstance(read(pickle.dumps([value], protocol))[0], InertRecord)


def test_a_numpy_array_keeps_shape_and_bytes() -> None:
    array = read(pickle.dumps(np.arange(3, dtype="f4"), 2))
    assert array.type_name == "numpy.ndarray"
    assert array.state[1] == (3,)
    assert array.state[4] == np.arange(3, dtype="f4").tobytes()


def test_python_2_spellings() -> None:
    ordered = b"ccollections\nOrderedDict\n((lp1\n(lp2\nS'a'\naI1\naa(lp3\nU\x01baI2\naatR."
    assert read(ordered) == {"a": 1, "b": 2}
    assert read(b"(c__builtin__\nset\n((lI4\natR" + b"L12L\nt.") == ([4], 12)


def test_old_style_instances_become_records() -> None:
    by_inst = read(b"(iargparse\nNamespace\n(dS'x'\nI3\nsb.")
    by_obj = read(b"(cargparse\nNamespace\no}S'x'\nI3\nsb.")
    assert by_inst.state == by_obj.state == {"x": 3}


def test_stack_operations() -> None:
    assert read(b"I1\nI2\n0.") == 1
    assert read(b"I1\n(I2\nI3\n1.") == 1
    assert read(b"I1\n(0.") == 1
    assert read(b"]2I5\na\x86.") == ([5], [5])
    assert read(b"(I1\nI2\nd.") == {1: 2}


def test_stream_is_left_after_each_pickle() -> None:
    content = pickle.dumps([1], 2) + pickle.dumps("two", 0) + b"rest"
    stream = PickleStream(io.BytesIO(content), len(content))
    names = CheckpointNames(NoStorages(), 100)
    assert read_pickle(stream, names) == [1]
    assert read_pickle(stream, names) == "two"
    assert stream.tell() == len(content) - 4
    assert stream.read() == b"rest"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "malformed"),
        (b"\x80\x02N", "malformed"),
        (b"\xfe.", "malformed"),
        (b"\x80\x09N.", "protocol 9"),
        (b".", "one value"),
        (b"NN.", "one value"),
        (b"(N.", "one value"),
        (b"0.", "ran empty"),
        (b"a.", "empty"),
        (b"t.", "no mark"),
        (b"NNs.", "empty"),
        (b"(NNs.", "empty"),
        (b"](NNu.", "set items"),
        (b"}Na.", "append"),
        (b"}(Nu.", "without a value"),
        (b"(Nd.", "without a value"),
        (b"h\x05.", "memo entry"),
        (b"Np-1\n.", "memo index"),
        (b"Np99999999999999999999\n.", "memo index"),
        (b"q\x00.", "empty"),
        (b"I12x\n.", "malformed"),
        (b"F1.0.0\n.", "malformed"),
        (b"S'abc\n.", "malformed"),
        (b"S'\\d'\n.", "malformed"),
        (b"X\x05\x00\x00\x00ab.", "malformed"),
        (b"X\x01\x00\x00\x00\xff.", "malformed"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "malformed"),
        (b"\x8b\xff\xff\xff\xff.", "malformed"),
        (b"NNR.", "would call"),
        (b"X\x02\x00\x00\x00os)R.", "would call a str"),
        (b"ccollections\nOrderedDict\n]R.", "not a tuple"),
        (b"ccollections\nOrderedDict\n)}\x92N.", "one value"),
        (b"cargparse\nNamespace\n)]\x92.", "keywords of argparse.Namespace not a dict"),
        (b"(o.", "without a class"),
        (b"NN\x93.", "without a name"),
        (b"N}b.", "set the state of a NoneType"),
        (b"cargparse\nNamespace\n}b.", "set the state of 'argparse.Namespace'"),
        (b"cargparse\nNamespace\nNa.", "append to 'argparse.Namespace'"),
        (b"cargparse\nNamespace\nNNs.", "set items of 'argparse.Namespace'"),
        (b"cargparse\nNamespace\n)\x81}b}b.", "set the state"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"\x98.", "READONLY_BUFFER"),
        (b"P7\n.", "persistent id"),
        (b"NQ.", "persistent id"),
        (b"(NNNNNtQ.", "does not describe a torch storage"),
        (b"cbuiltins\nlist\n(NtR.", "container from a NoneType"),
        (b"cbuiltins\ndict\n((NttR.", "not pairs"),
        (b"cbuiltins\nint\n)R.", "would call 'builtins.int'"),
        (b"ccollections\ndefaultdict\n(]tR.", "not a type"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.", "latin-1"),
        (b"c_codecs\nencode\n(X\x02\x00\x00\x00\xc4\x80X\x06\x00\x00\x00latin1tR.", "above 255"),
        (b"coperator\ngetitem\n(](I0\nttR.", "typing name"),
        (b"ctorch._utils\n_rebuild_tensor\n)R.", "0 arguments where 4 to 4"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNNN}U\x04conjI01\nstR.", "conjugate"),
        (b"ctorch._utils\n_rebuild_tensor_v3\n(NNNNNNctorch\nqint8\ntR.", "plain numbers"),
        (b"ctorch._utils\n_rebuild_parameter\n(NI01\nNtR.", "without a tensor"),
        (b"cnumpy.core.multiarray\nscalar\n(NNtR.", "without a dtype"),
        (
            b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02i4tRU\x03abctR.",
            "too few or too many bytes",
        ),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cargparse\nNamespace\ntR.", "not of numpy"),
        (b"ccopyreg\n_reconstructor\n(]cbuiltins\nobject\nNtR.", "that is no class"),
        (b"ccopyreg\n_reconstructor\n(cargparse\nNamespace\nca\nB\n}tR.", "another type"),
        (b"ccopyreg\n__newobj_ex__\n(cargparse\nNamespace\n]}tR.", "that are none"),
        (b"ccopyreg\n__newobj__\n(ccopyreg\n__newobj__\nNtR.", "an instance of 'copyreg.__newobj__'"),
        (b"ctorch._tensor\n_rebuild_from_type_v2\n(NN)NtR.", "something unknown"),
    ],
)  # fmt: skip
def test_malformed_streams_are_refused(content: bytes, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        read(content)


def test_typing_generics_become_records() -> None:
    result = read(b"c_operator\ngetitem\n(ctyping\nTuple\n(c__builtin__\nlong\nttR.")
    assert result.type_name == "typing.Tuple"
    assert result.args[0][0].type_name == "builtins.long"


def test_huge_memo_index_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        assert read(b"Nr" + struct.pack("<I", 2**32 - 1) + b".") is None
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_lied_length_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="malformed"):
            read(b"B" + struct.pack("<I", 2**31 - 1) + b"abc")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_deep_nesting_is_refused() -> None:
    depth = 100_000
    with pytest.raises(CheckpointError, match="nested more than"):
        read(b"]" * depth + b"a" * (depth - 1) + b".")
    with pytest.raises(CheckpointError, match="nested more than"):
        read(b"N" + b"\x85" * depth + b".")
    assert read(b"]" * 100 + b"a" * 99 + b".") != []


def test_memo_doubling_stays_small_in_memory() -> None:
    doubling = b"]q\x00" + b"0](h\x00h\x00eq\x00" * 60 + b"."
    value = read(doubling)
    for _ in range(60):
        assert value[0] is value[1]
        value = value[0]
    assert value == []


def test_a_list_that_holds_itself_reads() -> None:
    value = read(b"]q\x00h\x00a.")
    assert value[0] is value


def test_endless_copies_are_refused() -> None:
    content = b"](" + b"N" * 1000 + b"eq\x00cbuiltins\nlist\nq\x01" + b"0h\x01h\x00\x85R" * 500
    with pytest.raises(CheckpointError, match="copies"):
        read(content + b".")


@pytest.mark.parametrize(
    "content",
    [
        b"}]Ns.",
        b"}}Ns.",
        b"}(]tNs.",
        b"}((NttNs.",
        b"}" + int_op(2**64 - 1) + b"Ns.",
        b"}(" + b"N" * 17 + b"tNs.",
        b"}X" + struct.pack("<I", 5000) + b"k" * 5000 + b"Ns.",
    ],
)
def test_keys_that_could_collide_are_refused(content: bytes) -> None:
    with pytest.raises(CheckpointError, match="key"):
        read(content)


def test_classes_and_records_may_be_keys() -> None:
    result = read(b"}(ca\nB\nK\x01cargparse\nNamespace\n)\x81K\x02u.")
    assert [(key.type_name, value) for key, value in result.items()] == [
        ("a.B", 1),
        ("argparse.Namespace", 2),
    ]


@pytest.mark.parametrize(
    "copying",
    [
        b"ccopyreg\n__newobj__\n(ca\nB\n"
        + b"N" * 1000
        + b"tq\x000"
        + b"ccopyreg\n__newobj__\nh\x00R" * 500,
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02U9tRB\xe8\x03\0\0"
        + bytes(1000)
        + b"tq\x000"
        + b"cnumpy.core.multiarray\nscalar\nh\x00R" * 500,
    ],
)
def test_endless_copies_by_other_constructors_are_refused(copying: bytes) -> None:
    with pytest.raises(CheckpointError, match="copies"):
        read(copying + b".")


def test_keywords_are_not_copied() -> None:
    many = b"(" + b"N" * 100_000 + b"tq\x000"
    tracemalloc.start()
    try:
        read(many + b"](" + b"ca\nB\nh\x00}U\x01aNs\x92" * 500 + b"e.")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auricle.checkpoints.pickle.names.MAX_NAMES", 3)
    names = [b"ca\nB%d\n" % number for number in range(4)]
    assert len(read(b"(" + b"".join(names[:3] * 9) + b"l.")) == 27
    with pytest.raises(CheckpointError, match="more than 3 names"):
        read(b"(" + b"".join(names) + b"l.")


def test_many_tuple_keys_are_refused() -> None:
    items = b"".join(b"I%d\n\x85N" % index for index in range(1500))
    with pytest.raises(CheckpointError, match="tuple keys"):
        read(b"}(" + items + b"u.")


def test_huge_integers_are_refused() -> None:
    with pytest.raises(CheckpointError, match="bits"):
        read(b"\x8b" + struct.pack("<i", 10_000) + b"\x01" * 10_000 + b".")
    with pytest.raises(CheckpointError, match="malformed"):
        read(b"I" + b"1" * 100_000 + b"\n.")
    with pytest.raises(CheckpointError, match=r"bits|malformed"):
        read(b"I" + b"1" * 4000 + b"\n.")


def test_opcodes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auricle.checkpoints.pickle.machine.MAX_OPCODES", 100)
    assert read(b"N0" * 49 + b"N.") is None
    with pytest.raises(CheckpointError, match="opcodes"):
        read(b"N0" * 50 + b"N.")


def test_long_names_are_refused() -> None:
    with pytest.raises(CheckpointError, match="beyond reason"):
        read(b"ctyping." + b"a" * 300 + b"\nAny\n.")


def test_records_show_no_more_than_their_type() -> None:
    record = read(b"cargparse\nNamespace\n)\x81q\x00}U\x01ah\x00sb.")
    assert record.state["a"] is record
    assert repr(record) == "InertRecord(type_name='argparse.Namespace')"
