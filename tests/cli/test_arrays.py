from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from auricle.cli.arrays import write_npy, write_safetensors
from auricle.errors import OutputError

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("array", [ARRAY, ARRAY.T, ARRAY[:, ::2], ARRAY[:0]])
def test_npy_holds_the_array(tmp_path: Path, array: np.ndarray) -> None:
    write_npy(tmp_path / "sub" / "a.npy", array)
    read = np.load(tmp_path / "sub" / "a.npy", allow_pickle=False)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, array)


def test_safetensors_holds_arrays_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    stack = np.stack([ARRAY, ARRAY + 1])
    write_safetensors(path, {"x": stack[0], "y": stack[1].T}, {"model": "m"})
    with safe_open(path, framework="np") as file:
        assert file.metadata() == {"model": "m"}
        np.testing.assert_array_equal(file.get_tensor("x"), ARRAY)
        np.testing.assert_array_equal(file.get_tensor("y"), ARRAY.T + 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_keeps_its_reason_npy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_path = Path.open
    monkeypatch.setattr(Path, "open", lambda _, mode: open_path(Path("/dev/full"), mode))
    with pytest.raises(OutputError, match="No space left") as refusal:
        write_npy(tmp_path / "a.npy", ARRAY)
    assert getattr(refusal.value.__cause__, "errno", None) == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "number", "message"),
    [
        ("I/O error: No space left on device (os error 28)", errno.ENOSPC, "No space left"),
        ("header too large", None, "header too large"),
    ],
)
def test_a_full_disk_keeps_its_reason_safetensors(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    number: int | None,
    message: str,
) -> None:
    def fail(*_: object) -> None:
        raise SafetensorError(text)

    monkeypatch.setattr(safetensors.numpy, "save_file", fail)
    with pytest.raises(OutputError, match=message) as refusal:
        write_safetensors(tmp_path / "a.safetensors", {"x": ARRAY}, {})
    assert getattr(refusal.value.__cause__, "errno", None) == number
    assert list(tmp_path.iterdir()) == []
