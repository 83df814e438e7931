"""Units from files of others: k-means of scikit-learn, bare centroids, flat indexes of faiss.

Nothing in a file is executed. A file has centroids alone: the layer that they belong to is given
by whoever has it.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auricle.checkpoints.pickle.archives import array_of, read_pickled_arrays
from auricle.checkpoints.pickle.unpickle import read_legacy_checkpoint
from auricle.checkpoints.pickle.values import InertRecord
from auricle.errors import AuricleError, CheckpointError
from auricle.hub.load import load
from auricle.info import FinalNorm
from auricle.units.codebook import FORMAT_KEY, Normalization, Units, known_sha256

if TYPE_CHECKING:
    from auricle.models.base import Encoder

CENTERS = "cluster_centers_"
"""Attribute of scikit-learn's estimators that holds the centroids."""

ESTIMATORS = ("KMeans", "MiniBatchKMeans")
"""Those whose `predict` is the nearest centroid."""

MAX_DEPTH = 4
"""Containers inside one another that are searched for centroids."""

MAX_BYTES = 2**30
"""Bytes of an array in an archive."""

MAX_NAMES = 10
"""Names that a message lists."""

NORM_TOLERANCE = 1e-3
"""Relative difference of norms up to which the largest product is the nearest centroid."""

_TORCH_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
"""The magic number of files of torch before 1.6, as a pickle holds it."""

_FLAT = (b"IxF2", b"IxFI", b"IxFl")
"""Fourcc of faiss's flat indexes (faiss/impl/index_write.cpp)."""
_MAPS = (b"IxMp", b"IxM2")
_INDEXES = (b"Ix", b"Iw", b"IB", b"Ib", b"IH", b"IN")
"""First letters of indexes of any kind; a pickle that begins with I has a digit next."""
_METRICS = {0: "inner product", 1: "L2"}
_METRIC_ADVICE = "expected L2, or the inner product of vectors of one norm"
_FAISS_HEADER = struct.Struct("<iqqqBi")
"""D, vectors, two constants, whether it is trained, metric."""
_COUNT = struct.Struct("<Q")


def import_units(
    path: str | Path,
    model: str | Encoder,
    *,
    layer: int | str,
    key: str | None = None,
    final_norm: FinalNorm = "keep",
    normalization: Normalization = "none",
    checkpoint: str | None = None,
) -> Units:
    """Read units that other software made.

    Args:
        path: A joblib or pickle file of scikit-learn's KMeans or MiniBatchKMeans (1.0 and later;
            fairseq's and textless's `km.bin`); `.npy`, `.npz`, `.pt` or `.safetensors` with
            centroids (V, D), or (R, V, D) of a residual stack; a flat index of faiss.
        model: The encoder whose frames the centroids are of, or what `auricle.load` takes for it.
        layer: Its layer, by index or name, or a tap such as `"layer_9.pre_residual"`. No file has
            it.
        key: Which array, where the file has several: names with dots between them.
        final_norm: The layers' final norm when the centroids were fitted, as in a call of the
            encoder.
        normalization: `"l2"` where frames were divided by their norm first.
        checkpoint: As `auricle.load` takes it, with a named model.

    Raises:
        CheckpointError: The file would run code, is damaged, or has no centroids or several.
        LayerError: The encoder has no such layer.
        AuricleError: The layer is of another width than the centroids.
    """
    path = Path(path)
    if normalization == "standard":
        raise AuricleError("centroids of others have no mean and scale: use none or l2")
    centroids = read_centroids(path, key=key)
    encoder = load(model, checkpoint=checkpoint, device="cpu") if isinstance(model, str) else model
    name = model if isinstance(model, str) else encoder.provenance.name
    info = encoder.layer_info(layer)
    encoder.check_final_norm(final_norm)
    if centroids.shape[2] != info.dim:
        turned = " (they may be transposed)" if centroids.shape[1] == info.dim else ""
        raise AuricleError(
            f"{path} has centroids of {centroids.shape[2]} features{turned}, but {info.name} of "
            f"{encoder.info.name} has {info.dim}: name the model and the layer they were fitted on"
        )
    return Units(
        centroids=centroids,
        layer=info.name,
        model=name,
        checkpoint=checkpoint,
        family=encoder.family,
        weights_digest=known_sha256(encoder),
        checkpoint_digest=encoder.provenance.sha256,
        final_norm=final_norm,
        normalization=normalization,
        version=import_module("auricle").__version__,
        source=f"read from {path.name}",
    )


def read_centroids(path: Path, *, key: str | None = None) -> Tensor:
    """Read centroids (R, V, D), float32, from a file of another library.

    Raises:
        CheckpointError: As `import_units`.
    """
    content = _content(path)
    found = dict(_arrays(content, ""))
    if key is not None:
        chosen = {name: x for name, x in found.items() if name == key}
    else:
        chosen = {name: x for name, x in found.items() if name.split(".")[-1] == CENTERS} or found
    if len(chosen) != 1:
        names = ", ".join(repr(name) for name in list(found)[:MAX_NAMES]) or "none"
        asked = "one array" if key is None else f"the array {key!r}"
        advice = "choose one by key= (--key)" if found else "name the file that holds them"
        raise CheckpointError(
            f"{path}: expected {asked} of centroids (V, D) of floats, found {names}; {advice}"
        )
    (x,) = chosen.values()
    with np.errstate(over="ignore"):
        centroids = torch.as_tensor(np.array(x, np.float32))
    if not centroids.isfinite().all():
        raise CheckpointError(
            f"{path}: the centroids hold NaN, infinity or numbers beyond float32; fetch it again, "
            "or fit them on finite frames"
        )
    return centroids if centroids.dim() == 3 else centroids.unsqueeze(0)


def _content(path: Path) -> object:
    """The content of a file, by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
            file.seek(0)
            if head.startswith(b"\x93NUMPY"):
                return _read_npy(file, path.stat().st_size)
            if head[:2] in _INDEXES:
                return _read_faiss(file, path.stat().st_size)
            if head.startswith(b"PK\x03\x04") and not _is_of_torch(file):
                file.seek(0)
                return _read_npz(file)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError, zipfile.BadZipFile, struct.error) as error:
        raise CheckpointError(f"{path}: {error}; fetch it again if it is damaged") from error
    if head[8:9] == b"{":
        return _read_safetensors(path)
    if head.startswith(b"PK\x03\x04") or _TORCH_MAGIC in head:
        return read_legacy_checkpoint(path)
    return read_pickled_arrays(path)


def _arrays(value: object, name: str, depth: int = 0) -> Iterator[tuple[str, NDArray[Any]]]:
    """Arrays of numbers, (V, D) or (R, V, D), in a content, by names with dots between them."""
    value = array_of(value)
    if isinstance(value, Tensor) and value.is_floating_point():
        value = value.detach().float().numpy()
    if isinstance(value, np.ndarray):
        if value.ndim in (2, 3) and value.dtype.kind == "f" and value.size:
            yield name, value
        return
    if depth >= MAX_DEPTH:
        return
    if isinstance(value, InertRecord):
        last = value.type_name.rpartition(".")[2]
        if isinstance(value.state, dict) and CENTERS in value.state and last not in ESTIMATORS:
            raise CheckpointError(
                f"centroids of a {value.type_name}, whose units may not be those of the nearest "
                f"one; expected {' or '.join(ESTIMATORS)}"
            )
        items = value.state if isinstance(value.state, dict) else {}
    else:
        items = value if isinstance(value, dict) else {}
    for key, item in items.items():
        if isinstance(key, str | int):
            yield from _arrays(item, f"{name}.{key}" if name else str(key), depth + 1)


def _read_npy(file: IO[bytes], max_bytes: int) -> NDArray[Any]:
    """The array of a `.npy` file, whose header cannot ask for more memory than it has bytes."""
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"an array of version {version} of the format of NumPy")
    shape, is_fortran, dtype = readers[version](file)
    if dtype.hasobject or dtype.kind not in "fiub":
        raise ValueError(f"an array of {dtype}, expected one of numbers")
    count = math.prod(shape) * dtype.itemsize
    data = file.read(count) if count <= max_bytes else b""
    if len(data) != count:
        raise ValueError(f"cut short: an array of shape {shape} has less than {count} bytes")
    flat = np.frombuffer(data, dtype)
    return flat.reshape(shape[::-1]).T if is_fortran else flat.reshape(shape)


def _is_of_torch(file: BinaryIO) -> bool:
    names = zipfile.ZipFile(file).namelist()
    return any(name.split("/")[-1] == "data.pkl" for name in names)


def _read_npz(file: BinaryIO) -> dict[str, NDArray[Any]]:
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                with archive.open(member) as stream:
                    array = _read_npy(stream, MAX_BYTES)
                arrays[member.filename.removesuffix(".npy")] = array
    return arrays


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            if FORMAT_KEY in (file.metadata() or {}):
                raise CheckpointError(
                    f"{path} has units of this library already: auricle.load_units reads it"
                )
            names = [*file.keys()]
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: {error}; fetch it again if it is damaged") from error


def _read_faiss(file: BinaryIO, max_bytes: int) -> NDArray[np.float32]:
    """Vectors (V, D) of a flat index, in the order of their ids."""

    def take(layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(file.read(layout.size))

    def vector(itemsize: int) -> bytes:
        count = take(_COUNT)[0] * itemsize
        data = file.read(count) if count <= max_bytes else b""
        if len(data) != count:
            raise ValueError("an index of faiss that is cut short")
        return data

    code = file.read(4)
    is_map = code in _MAPS
    if is_map:
        take(_FAISS_HEADER)
        code = file.read(4)
    if code not in _FLAT:
        raise ValueError(f"an index of faiss of kind {code!r}, expected a flat one")
    dim, num_vectors, *_, metric_code = take(_FAISS_HEADER)
    metric = _METRICS.get(metric_code)
    if metric is None:
        raise ValueError(f"an index of faiss by its metric {metric_code}, {_METRIC_ADVICE}")
    x = np.frombuffer(vector(4), np.float32)
    if dim <= 0 or len(x) != num_vectors * dim:
        raise ValueError(f"an index of faiss with {len(x)} numbers, expected {num_vectors} x {dim}")
    x = x.reshape(num_vectors, dim)
    if is_map:
        ids = np.frombuffer(vector(8), np.int64)
        if sorted(ids.tolist()) != list(range(num_vectors)):
            raise ValueError("an index of faiss whose ids do not count its vectors from 0")
        x = x[np.argsort(ids)]
    norms = np.linalg.norm(x, axis=1)
    is_even = norms.max() - norms.min() <= NORM_TOLERANCE * norms.max()
    if metric != "L2" and not is_even:
        raise ValueError(f"an index of faiss by {metric}, {_METRIC_ADVICE}")
    return x
