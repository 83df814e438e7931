from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from auricle.files.safetensors import (
    ALIGNMENT_BYTES,
    TYPE_NAMES,
    aligned_first,
    raw_bytes,
    write_safetensors,
)


def arrays() -> dict[str, Tensor]:
    dtypes = [getattr(torch, name) for name in TYPE_NAMES]
    made = {str(dtype): torch.arange(6).view(2, 3).to(dtype) for dtype in dtypes}
    return {**made, "turned": torch.arange(6.0).view(2, 3).T, "one ☃": torch.tensor(7.0)}


def test_safetensors_reads_every_type(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    offsets = write_safetensors(path, arrays(), {"b": "2", "a": "☃"})
    content = path.read_bytes()
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"a": "☃", "b": "2"}
        assert set(file.keys()) == set(arrays())
        for (name, x), offset in zip(arrays().items(), offsets, strict=True):
            read = file.get_tensor(name)
            assert read.dtype == x.dtype
            assert torch.equal(read, x)
            expected = raw_bytes(x).tobytes()
            assert content[offset : offset + len(expected)] == expected
    assert offsets[0] % ALIGNMENT_BYTES == 0


def test_what_would_put_others_out_of_place_comes_last() -> None:
    sizes = {"b": 16, "odd": 3, "a": 32, "bytes": 64}
    made = {name: torch.zeros(size) for name, size in sizes.items()}
    made["bytes"] = made["bytes"].to(torch.uint8)
    made["odd bytes"] = torch.zeros(5, dtype=torch.uint8)
    assert list(aligned_first(made)) == ["a", "b", "bytes", "odd", "odd bytes"]


def test_a_type_that_the_format_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a is of type torch.complex64, expected float64"):
        write_safetensors(tmp_path / "x", {"a": torch.zeros(1, dtype=torch.complex64)}, {})
