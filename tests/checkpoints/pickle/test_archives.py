from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
import zlib
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from auricle.checkpoints.pickle.archives import array_of, read_pickled_arrays
from auricle.errors import CheckpointError

CENTROIDS = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


def centroids_of(path: Path) -> bytes:
    content = read_pickled_arrays(path)
    assert isinstance(content, dict)
    x = array_of(content["centroids"])
    assert isinstance(x, np.ndarray)
    assert x.shape == (4, 6)
    return x.tobytes()


@pytest.mark.parametrize(
    "compress", [0, *((name, 3) for name in ("zlib", "gzip", "bz2", "lzma", "xz"))]
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_all_forms_of_joblib_are_read(compress: Any, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "km"
    content = {"state": np.random.RandomState(3), "names": np.array(["a", "b"], object)}
    joblib.dump({**content, "centroids": CENTROIDS}, path, compress=compress, protocol=protocol)
    assert centroids_of(path) == CENTROIDS.tobytes()


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def packed(content: bytes, kind: str) -> bytes:
    lz4 = b"\x04\x22\x4d\x18" + content
    return {
        "plain": content,
        "zlib": zlib.compress(content),
        "gzip": gzip.compress(content),
        "bz2": bz2.compress(content),
        "lzma": lzma.compress(content),
        "lz4": lz4,
    }[kind]


@pytest.mark.parametrize("kind", ["plain", "zlib", "gzip", "bz2", "lzma", "lz4"])
def test_a_file_that_would_run_code_is_refused(kind: str, tmp_path: Path) -> None:
    path, touched = tmp_path / "km.bin", tmp_path / "touched"
    content = pickle.dumps({"cluster_centers_": CENTROIDS, "attack": Attack(touched)})
    path.write_bytes(packed(content, kind))
    expected = "joblib.dump" if kind == "lz4" else "refused"
    with pytest.raises(CheckpointError, match=expected):
        read_pickled_arrays(path)
    assert not touched.exists()
    pickle.loads(content)  # it would have
    assert touched.exists()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "km"
    joblib.dump({"cluster_centers_": CENTROIDS}, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 9):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_pickled_arrays(path)
    for content in (zlib.compress(whole)[:-9], gzip.compress(whole)[:-9], b"x\x9c"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            read_pickled_arrays(path)
    with pytest.raises(CheckpointError, match="No such file"):
        read_pickled_arrays(tmp_path / "none")


def test_what_unfolds_beyond_reason_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auricle.checkpoints.pickle.archives.MAX_BYTES", 10_000)
    path = tmp_path / "km"
    joblib.dump({"c": np.zeros((1000, 1000), np.float32)}, path, compress=("gzip", 9))
    with pytest.raises(CheckpointError, match="unfolds to more than 10000"):
        read_pickled_arrays(path)


def test_the_joblib_inside_of_old_scikit_learn_is_read(tmp_path: Path) -> None:
    path = tmp_path / "km"
    joblib.dump({"centroids": CENTROIDS}, path, protocol=2)
    content, place = path.read_bytes(), b"cjoblib.numpy_pickle\n"
    assert content.count(place) == 1
    path.write_bytes(content.replace(place, b"csklearn.externals.joblib.numpy_pickle\n"))
    # The length of the padding before the array is in the file, and need not be right any more.
    assert centroids_of(path) == CENTROIDS.tobytes()
    path.write_bytes(content.replace(b"\nNumpyArrayWrapper\n", b"\nNDArrayWrapper\n"))
    with pytest.raises(CheckpointError, match="before 0.10"):
        read_pickled_arrays(path)
