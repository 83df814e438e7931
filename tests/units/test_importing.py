from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import auricle
from auricle.errors import AuricleError, CheckpointError, LayerError
from auricle.models.base import Encoder
from auricle.units.codebook import Units, known_sha256
from auricle.units.importing import import_units, read_centroids

DATA = Path(__file__).parents[1] / "data" / "kmeans"
FRAMES = torch.from_numpy(np.load(DATA / "frames.npy"))
CENTROIDS = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


def wide(num_clusters: int = 4, dim: int = 192) -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((num_clusters, dim)).astype(np.float32)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return auricle.load("tera_mini", device="cpu")


@pytest.mark.parametrize("name", ["old-mini", "old-kmeans", "new-mini", "new-kmeans"])
def test_units_are_those_that_scikit_learn_predicts(name: str) -> None:
    centroids = read_centroids(DATA / f"{name}.bin")
    assert centroids.shape == (1, 5, 6)
    expected = np.load(DATA / f"{name}.npy")
    assert len(set(expected.tolist())) == 5
    assert Units(centroids=centroids, layer="a").assign(FRAMES).tolist() == expected.tolist()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_scikit_learn_that_is_installed_predicts_the_same(
    seed: int, dtype: str, tmp_path: Path
) -> None:
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(seed)
    num_clusters, dim = int(rng.integers(2, 40)), int(rng.integers(1, 50))
    x = (rng.standard_normal((500, dim)) * 5 + rng.standard_normal(dim) * 20).astype(np.float32)
    model: Any = KMeans(num_clusters, n_init=1, max_iter=5, random_state=seed)
    model.fit(x.astype(dtype))
    joblib.dump(model, tmp_path / "km.bin")
    units = Units(centroids=read_centroids(tmp_path / "km.bin"), layer="a")
    assert units.centroids[0].numpy().tobytes() == model.cluster_centers_.astype("f4").tobytes()
    codes, predicted = units.assign(torch.from_numpy(x)).numpy(), model.predict(x.astype(dtype))
    distances = np.linalg.norm(
        x[:, None].astype("f8") - units.centroids[0].double().numpy(), axis=2
    )
    rows = np.arange(len(x))
    is_tie = np.isclose(distances[rows, codes], distances[rows, predicted], rtol=1e-6)
    assert is_tie.all()
    assert (codes == predicted).mean() > 0.99


WRITERS: dict[str, Callable[[Path], object]] = {
    "npy": lambda path: np.save(path.with_suffix(".npy"), CENTROIDS),
    "npy of float64": lambda path: np.save(path.with_suffix(".npy"), CENTROIDS.astype("f8")),
    "npy in columns": lambda path: np.save(path.with_suffix(".npy"), np.asfortranarray(CENTROIDS)),
    "npz": lambda path: np.savez_compressed(path.with_suffix(".npz"), c=CENTROIDS, n=np.arange(3)),
    "pt": lambda path: torch.save(torch.from_numpy(CENTROIDS), path),
    "old pt": lambda path: torch.save(
        {"c": torch.from_numpy(CENTROIDS)}, path, _use_new_zipfile_serialization=False
    ),
    "pt of a dict": lambda path: torch.save(
        {"a": {"cluster_centers_": CENTROIDS}, "other": torch.ones(2, 2)}, path
    ),
    "pickle 0": lambda path: path.write_bytes(pickle.dumps(CENTROIDS, 0)),
    "pickle 5": lambda path: path.write_bytes(pickle.dumps(CENTROIDS, 5)),
    "pickle of big-endian": lambda path: path.write_bytes(pickle.dumps(CENTROIDS.astype(">f4"))),
}


@pytest.mark.parametrize("kind", list(WRITERS))
def test_bare_centroids_are_read(kind: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path / "km.pt")
    (path,) = tmp_path.iterdir()
    assert read_centroids(path)[0].numpy().tobytes() == CENTROIDS.tobytes()


def test_safetensors_and_stacks_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    stack = torch.randn(3, 4, 6)
    save_file({"codebooks": stack}, tmp_path / "x.safetensors")
    assert read_centroids(tmp_path / "x.safetensors").equal(stack)


@pytest.mark.parametrize("name", ["flat", "map"])
def test_flat_indexes_of_faiss_are_read(name: str) -> None:
    assert read_centroids(DATA / f"{name}.faiss")[0].equal(FRAMES[:5])


def edited(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


def test_other_indexes_of_faiss_are_refused(tmp_path: Path) -> None:
    flat, mapped = ((DATA / f"{name}.faiss").read_bytes() for name in ("flat", "map"))
    path = tmp_path / "x.faiss"
    metric = 4 + 29
    cases = {
        "kind b'IwFl'": edited(flat, 0, b"IwFl"),
        "inner product": edited(edited(flat, 0, b"IxFI"), metric, b"\0"),
        "metric 2": edited(edited(flat, 0, b"IxFl"), metric, b"\2"),
        "expected 6 x 6": edited(flat, 8, struct.pack("<q", 6)),
        "cut short": flat[:-1],
        "ids do not count": edited(mapped, len(mapped) - 8, struct.pack("<q", 9)),
    }
    for message, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            read_centroids(path)
    x = np.frombuffer(flat, np.float32, 30, len(flat) - 120).reshape(5, 6)
    even = x / np.linalg.norm(x, axis=1, keepdims=True)
    path.write_bytes(edited(cases["inner product"], len(flat) - 120, even.tobytes()))
    assert read_centroids(path)[0].numpy().tobytes() == even.tobytes()


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_arrays_of_objects_do_not_run_code(tmp_path: Path) -> None:
    path, touched = tmp_path / "km.npy", tmp_path / "touched"
    attack = np.array([[Attack(touched)]], object)
    np.save(path, attack, allow_pickle=True)
    with pytest.raises(CheckpointError, match="expected one of numbers"):
        read_centroids(path)
    joblib.dump(attack, path)
    with pytest.raises(CheckpointError, match="refused"):
        read_centroids(path)
    assert not touched.exists()


def test_one_array_of_several_is_chosen_by_key(tmp_path: Path) -> None:
    path = tmp_path / "km.npz"
    np.savez(path, a=CENTROIDS, b=CENTROIDS + 1)
    with pytest.raises(CheckpointError, match="found 'a', 'b'; choose"):
        read_centroids(path)
    assert read_centroids(path, key="b")[0].numpy().tobytes() == (CENTROIDS + 1).tobytes()
    with pytest.raises(CheckpointError, match="array 'c' of centroids"):
        read_centroids(path, key="c")
    np.savez(path, a=CENTROIDS * np.nan)
    with pytest.raises(CheckpointError, match="NaN"):
        read_centroids(path)
    np.savez(path, a=np.full_like(CENTROIDS, 1e300, dtype=np.float64))
    with pytest.raises(CheckpointError, match="beyond float32"):
        read_centroids(path)
    np.savez(path, a=np.arange(9))
    with pytest.raises(CheckpointError, match="of floats, found none; name the file"):
        read_centroids(path)


def test_estimators_that_predict_otherwise_are_refused(tmp_path: Path) -> None:
    from sklearn.cluster import AffinityPropagation

    model: Any = AffinityPropagation(random_state=0).fit(FRAMES.numpy())
    joblib.dump(model, tmp_path / "km.bin")
    with pytest.raises(CheckpointError, match="AffinityPropagation, whose units may not"):
        read_centroids(tmp_path / "km.bin")


def test_units_know_their_encoder_and_layer(encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "km.npy"
    np.save(path, wide())
    units = import_units(path, "tera_mini", layer=2, normalization="l2")
    assert (units.layer, units.model, units.family) == ("layer_2", "tera_mini", "tera")
    assert units.weights_digest == known_sha256(encoder)
    assert units.normalization == "l2"
    assert units.source == "read from km.npy"
    assert import_units(path, encoder, layer="layer_2").centroids.equal(units.centroids)
    with pytest.raises(LayerError):
        import_units(path, encoder, layer="layer_77")
    with pytest.raises(AuricleError, match="standard|none or l2"):
        import_units(path, encoder, layer=2, normalization="standard")
    np.save(path, wide().T)
    with pytest.raises(AuricleError, match="may be transposed"):
        import_units(path, encoder, layer=2)
    units.save(tmp_path / "u.safetensors")
    with pytest.raises(CheckpointError, match="already"):
        import_units(tmp_path / "u.safetensors", encoder, layer=2)
