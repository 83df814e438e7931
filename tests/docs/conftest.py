"""A folder with all that the pages name: speech, corpora, recipes, and models in place of downloads."""

from __future__ import annotations

import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import msgspec
import pytest
import soundfile
import torch

import auricle
from auricle import optional
from auricle.audio.files import read_audio
from auricle.audio.inputs import sample_paths
from auricle.catalogue import search
from auricle.catalogue.family import find_family
from auricle.catalogue.record import Record
from auricle.checkpoints.checkpoint import Checkpoint
from auricle.hub import conversions, load
from auricle.hub.cache import Stamp, Wanted, cache_folder, embedded_path, url_folder
from auricle.hub.location import is_converted

ROOT = Path(__file__).parents[2]
SAMPLE_RATE = 16_000

STEPS = 2
"""Updates of every training that a page starts."""
NARROWER = 8
"""How many times narrower than published the stand-ins of large models are; they are as deep."""
HUBERT_SIZE = 768
"""Features of a frame of HuBERT Base."""
TIMEOUT_SECONDS = 300
"""For one page; most take a second, on machines that are busy several times that."""
COMMIT = "89abcdef" * 5
"""Of every repository that a page names."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The tests of several pages run beside each other."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def time_limit() -> Iterator[None]:
    """Ends a page that waits for ever, as for a port or for a key."""

    def end(*_: object) -> None:
        raise TimeoutError(f"still running after {TIMEOUT_SECONDS} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(TIMEOUT_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a reader is in, with a cache of its own and no network."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("AURICLE_OFFLINE", "PIP_NO_INDEX", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("AURICLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    _copy_of_the_repository(folder)
    _audio(folder)
    _probing_corpora(folder)
    return folder


def _copy_of_the_repository(folder: Path) -> None:
    """What the pages name of the repository, with trainings cut short."""
    for name in ("recipes", "examples", "src/auricle/audio/speech"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name in ("src/auricle/pretrained", "docs/models/training"):
        (folder / name).mkdir(parents=True)
    for name in ("states.ckpt", "states-1000000.ckpt"):
        shutil.copy(ROOT / "tests/golden/cases/tera/checkpoint.ckpt", folder / name)
    for path in (folder / "recipes").rglob("*.toml"):
        _edit(path, r"^steps = \d+", f"steps = {STEPS}")
        _edit(path, r"^batch_seconds = \d+", "batch_seconds = 4")
    _edit(folder / "examples/fine_tune_words.py", r"(\"--steps\", .*default=)\d+", rf"\g<1>{STEPS}")


def _edit(path: Path, pattern: str, new: str) -> None:
    text, num_found = re.subn(pattern, new, path.read_text(), flags=re.MULTILINE)
    assert num_found == 1, f"{path} has {num_found} times {pattern}"
    path.write_text(text)


def _audio(folder: Path) -> None:
    """Speech of some seconds, in files and folders of the names that the pages use."""
    low, high = (read_audio(path) for path in sample_paths())
    _write(folder / "speech.wav", low)
    for index, name in enumerate(("talk.wav", "b.flac", "1089/134686/1089-134686-0000.flac")):
        start = index * SAMPLE_RATE
        _write(folder / "corpus" / name, high[start : start + 2 * SAMPLE_RATE])
    (folder / "list.csv").write_text("id,path\ntalk,corpus/talk.wav\n")
    for name in ("LibriSpeech/train-clean-100", "train", "corpora/librispeech/train"):
        for index in range(4):
            start = index * 2 * SAMPLE_RATE
            _write(folder / name / f"{index}.flac", high[start : start + 2 * SAMPLE_RATE])


def _write(path: Path, samples: torch.Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.numpy(), SAMPLE_RATE)


def _probing_corpora(folder: Path) -> None:
    """A corpus for each probing task, in `corpora/` and also in the folder itself."""
    speech = folder / "corpora" / "librispeech"
    manifest, phones = ["path\tspeaker\tsplit"], ["path\tphone\tstart_frame_10ms\tframes"]
    for index in range(4):
        name = f"train/{index}.flac"
        manifest.append(f"{name}\t{'ab'[index % 2]}\tspeakers")
        phones += [f"{name}\t{phone}\t{40 * k}\t40" for k, phone in enumerate(("AA", "S"))]
    (speech / "manifest.tsv").write_text("\n".join(manifest) + "\n")
    (speech / "phones.tsv").write_text("\n".join(phones) + "\n")
    shutil.copytree(speech, folder / "librispeech")
    words = ROOT / "tests/data/words"
    header, *rows = (words / "manifest.tsv").read_text().splitlines()
    kept = [row for row in rows if row.split("\t")[3] in ("one", "two")]
    for copy in (folder / "corpora/arabic_words", folder / "tests/data/words"):
        for name in (row.partition("\t")[0] for row in kept):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(words / name, copy / name)
        (copy / "manifest.tsv").write_text("\n".join([header, *kept]) + "\n")


@pytest.fixture
def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that puts into the cache every model that a text names and would download.

    It is asked anew for each block, as the network would be.

    Those of the catalogue are of the published depth, with random weights; a URL or a repository
    gives a small encoder of the package.
    """
    del folder  # which has set the cache
    published = [record for record in map(search.find, auricle.list_models()) if record.urls]

    def put(text: str) -> None:
        words = set(re.findall(r"\w+", text))
        for record in published:
            if words.intersection((record.name, *record.aliases)) and not is_converted(record):
                _put_conversion(record)
        if "import datasets" in text:
            import datasets

            monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache_folder() / "datasets")
        if "km.bin" in text:
            _put_centroids(Path("km.bin"))
        for url in re.findall(r"\b(?:https?|hf)://[\w./@-]+", text):
            _put_file(url)

    return put


def _put_conversion(record: Record) -> None:
    """Leave in the cache what the first load of a published model does."""
    family = find_family(record.family)
    config = family.preset(record.size)
    encoder = auricle.build(msgspec.convert(_narrow(msgspec.to_builtins(config)), type(config)))
    checkpoint = Checkpoint(
        family=family.stem,
        config=encoder.config,
        weights=encoder.state_dict(),
        provenance=encoder.provenance,
    )
    digest = record.sha256 or (record.sha256_prefix or "").ljust(64, "0")
    source = Stamp(path=f"checkpoints/{record.name}", num_bytes=1, mtime_ns=0, sha256=digest)

    def convert(wanted: Wanted, *_: object, **__: object) -> Checkpoint:
        wanted.path.parent.mkdir(parents=True, exist_ok=True)
        conversions._keep(wanted, (source,), checkpoint)
        return checkpoint

    with mock.patch.object(load, "load_once_converted", convert):
        auricle.load(record.name)


def _put_centroids(path: Path) -> None:
    """Leave a k-means on a layer of the stand-in of HuBERT Base, as joblib writes it."""
    import joblib
    from sklearn.cluster import MiniBatchKMeans

    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(200, HUBERT_SIZE // NARROWER, generator=generator).numpy()
    joblib.dump(MiniBatchKMeans(5, random_state=0, n_init=1).fit(frames), path)


def _narrow(part: Any) -> Any:
    """A configuration, as plain values, with its Transformer and its convolutions narrower."""
    if not isinstance(part, dict):
        return part
    narrow = {key: _narrow(value) for key, value in part.items()}
    if "ffn_size" in narrow:
        narrow.update({key: narrow[key] // NARROWER for key in ("hidden_size", "ffn_size")})
    if "layers" in narrow:
        narrow["layers"] = [(dim // NARROWER, *window) for dim, *window in narrow["layers"]]
    return narrow


def _put_file(url: str) -> None:
    """Leave in the cache what a download of a URL or of a repository does."""
    weights = embedded_path(search.find("apc_mini"))
    scheme, _, place = url.partition("://")
    if scheme != "hf":
        path = url_folder(url) / place.rpartition("/")[2]
    else:
        owner, name, *file = place.split("/")
        name, _, revision = name.partition("@")
        cache = cache_folder() / "huggingface" / f"models--{owner}--{name}"
        (cache / "refs").mkdir(parents=True, exist_ok=True)
        (cache / "refs" / (revision or "main")).write_text(COMMIT)
        path = cache / "snapshots" / COMMIT / ("/".join(file) or "model.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights, path)


@pytest.fixture
def undrawn_pictures(
    monkeypatch: pytest.MonkeyPatch, undrawn_curves: None, not_laid_out: None
) -> None:
    """Pictures are neither laid out nor rendered: their files are empty."""
    for module in ("plotting.figures", "probing.report"):
        monkeypatch.setattr(f"auricle.{module}.save_figure", lambda _, path: Path(path).touch())


@pytest.fixture
def snippets(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module that the Python of a page runs in; what it imports of plug-ins is forgotten."""
    before, path, finders = set(sys.modules), list(sys.path), list(sys.meta_path)
    module = ModuleType("snippets")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    optional.plug_ins.cache_clear()
    yield module
    sys.path[:], sys.meta_path[:] = path, finders
    optional.plug_ins.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("auricle_") or name.split(".")[0] == "s3prl":
            del sys.modules[name]
