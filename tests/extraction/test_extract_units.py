"""Units in an extraction: those of `encoder.units`, in every format, kept and refused as layers are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

import auricle
from auricle.audio.inputs import sample_paths
from auricle.errors import AuricleError, OutputError
from auricle.extraction.record import units_sha256
from auricle.models.base import Encoder
from auricle.units.codebook import Units, known_sha256
from extraction.conftest import Stopping

MODEL, LAYER = "tera_mini", "layer_2"
NUM_CLUSTERS = 12
IDS = ("a", "b", "c/d")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return auricle.load(MODEL, device="cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples, rate = soundfile.read(sample_paths()[0], dtype="float32")
    folder = tmp_path_factory.mktemp("corpus")
    for index, name in enumerate(IDS):
        path = folder / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples[8000 * index :][: 16_000 + 5000 * index], rate)
    return folder


@pytest.fixture(scope="module")
def units(encoder: Encoder) -> Units:
    """Frames of speech as centroids, some twice: there are ties."""
    with torch.inference_mode():
        (frames,) = encoder([sample_paths()[0]], LAYER)
    chosen = frames[:: len(frames) // NUM_CLUSTERS][:NUM_CLUSTERS].clone()
    chosen[-1] = chosen[0]
    return Units(
        centroids=chosen[None],
        layer=LAYER,
        model=MODEL,
        family=encoder.family,
        weights_digest=known_sha256(encoder),
    )


def expected(encoder: Encoder, corpus: Path, units: Units) -> dict[str, Tensor]:
    """Units of each utterance by itself."""
    with torch.inference_mode():
        return {name: encoder.units([corpus / f"{name}.wav"], units)[0] for name in IDS}


@pytest.mark.parametrize(
    ("form", "batch_seconds"),
    [("store", 0.5), *((form, 100.0) for form in ("store", "npy", "webdataset", "hdf5", "arrow"))],
)
def test_every_format_keeps_integers(
    encoder: Encoder, corpus: Path, units: Units, tmp_path: Path, form: str, batch_seconds: float
) -> None:
    units.save(tmp_path / "units.safetensors")
    auricle.extract(
        corpus,
        tmp_path / "out",
        units=tmp_path / "units.safetensors",
        output_format=form,
        batch_seconds=batch_seconds,
    )
    store = auricle.open(tmp_path / "out")
    for name, codes in expected(encoder, corpus, units).items():
        assert store[name].dtype == torch.int16
        assert store[name].equal(codes.to(torch.int16).unsqueeze(1))
    assert len(store[IDS[0]].unique()) > 3
    assert store.meta.selection.units_sha256 == units_sha256(units)
    assert (store.meta.model, store.meta.selection.layers) == (MODEL, (LAYER,))
    assert store.verify() == []


def test_kaldi_has_no_integers(corpus: Path, units: Units, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"kaldi has no int16.*copy-int-vector"):
        auricle.extract(corpus, tmp_path / "out", units=units, output_format="kaldi")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("num_stages", [1, 2])
def test_runs_of_equal_units_come_with_their_durations(
    encoder: Encoder, corpus: Path, units: Units, tmp_path: Path, num_stages: int
) -> None:
    stages = torch.cat([units.centroids, units.centroids.flip(1) / 9])[:num_stages]
    stack = dataclasses.replace(units, centroids=stages)
    out = tmp_path / "out"
    auricle.extract(corpus, out, units=stack, deduplicate=True, output_format="text")
    store = auricle.open(out)
    assert store.layers == ("units", "durations")
    codes = expected(encoder, corpus, stack)
    lines = dict(line.split(" ", 1) for line in (out / "units.txt").read_text().splitlines())
    durations = dict(
        line.split(" ", 1) for line in (out / "durations.txt").read_text().splitlines()
    )
    assert [*lines] == [*durations] == sorted(IDS)
    for name in IDS:
        found, counts = store.get(name, layer="units"), store.get(name, layer="durations")[:, 0]
        assert (found[1:] != found[:-1]).any(dim=1).all()
        whole = found.repeat_interleave(counts, dim=0)
        assert whole.equal(codes[name].view(len(whole), num_stages))
        assert len(found) < len(whole)
        assert lines[name] == " ".join(",".join(map(str, row)) for row in found.tolist())
        assert durations[name] == " ".join(map(str, counts.tolist()))


def test_more_entries_than_16_bits_hold_take_32(encoder: Encoder, units: Units) -> None:
    from auricle.extraction.selection import Selection

    def dtype(num_clusters: int) -> str:
        many = torch.zeros(1, num_clusters, units.dim)
        return Selection.of_units(encoder, dataclasses.replace(units, centroids=many)).kept_dtype

    assert (dtype(2**15), dtype(2**15 + 1)) == ("int16", "int32")


def test_text_is_in_the_order_of_the_list(corpus: Path, units: Units, tmp_path: Path) -> None:
    rows = [f"{name},{corpus / name}.wav\n" for name in ("b", "c/d", "a")]
    (tmp_path / "list.csv").write_text(f"id,path\n{''.join(rows)}")
    options: dict[str, Any] = {"units": units, "output_format": "text", "batch_seconds": 1.0}
    auricle.extract(tmp_path / "list.csv", tmp_path / "out", **options)
    lines = (tmp_path / "out/units.txt").read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == ["b", "c/d", "a"]
    (tmp_path / "list.csv").write_text(f"id,path\n{''.join(rows[::-1])}")
    auricle.extract(tmp_path / "list.csv", tmp_path / "out", **options)
    assert (tmp_path / "out/units.txt").read_text().splitlines() == lines[::-1]


def test_a_run_that_was_stopped_goes_on_and_gives_the_same_bytes(
    corpus: Path, units: Units, tmp_path: Path
) -> None:
    """Stopped after each batch of its only shard."""
    options: dict[str, Any] = {"units": units, "output_format": "text", "batch_seconds": 0.5}
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    auricle.extract(corpus, undisturbed, **options)
    for num_kept in range(len(IDS)):
        assert len(list((out / "partial").glob("*/[!.]*"))) == num_kept
        with pytest.raises(KeyboardInterrupt):
            auricle.extract(corpus, out, **options, progress=Stopping(1))
        assert not (out / "units.txt").exists()
    auricle.extract(corpus, out, **options)
    shards = [path.relative_to(undisturbed) for path in (undisturbed / "shards").iterdir()]
    for name in (Path("units.txt"), *shards):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes()


def test_a_run_with_other_units_is_refused(corpus: Path, units: Units, tmp_path: Path) -> None:
    auricle.extract(corpus, tmp_path / "out", units=units)
    moved = dataclasses.replace(units, centroids=units.centroids + 0.01)
    with pytest.raises(OutputError, match=r"selection\.units_sha256"):
        auricle.extract(corpus, tmp_path / "out", units=moved)
    with pytest.raises(OutputError, match=r"selection\.deduplicate"):
        auricle.extract(corpus, tmp_path / "out", units=units, deduplicate=True)
    with pytest.raises(OutputError, match=r"selection\.units_sha256"):
        auricle.extract(corpus, tmp_path / "out", model=MODEL, layers=LAYER)
    assert auricle.extract(corpus, tmp_path / "out", units=units).num_before == len(IDS)


def test_the_encoder_may_lie_elsewhere_and_is_the_same(
    encoder: Encoder, corpus: Path, units: Units, tmp_path: Path
) -> None:
    encoder.save(tmp_path / "same.safetensors")
    auricle.extract(corpus, tmp_path / "out", units=units, model=tmp_path / "same.safetensors")
    for name, codes in expected(encoder, corpus, units).items():
        assert auricle.open(tmp_path / "out")[name][:, 0].equal(codes.short())
    other = auricle.load(MODEL, device="cpu")
    with torch.no_grad():
        next(other.parameters()).view(-1)[3] += 1e-3
    other.save(tmp_path / "other.safetensors")
    options: dict[str, Any] = {"units": units, "model": tmp_path / "other.safetensors"}
    with pytest.raises(AuricleError, match="fitted with other weights"):
        auricle.extract(corpus, tmp_path / "others", **options)
    with pytest.raises(AuricleError, match="of tera_mini"):
        auricle.extract(corpus, tmp_path / "others", units=units, model="apc_mini")
    assert not (tmp_path / "others").exists()
    auricle.extract(corpus, tmp_path / "others", **options, check_weights=False)
    assert len(auricle.open(tmp_path / "others")) == len(IDS)


def test_windows_have_units_of_their_frames(
    encoder: Encoder, corpus: Path, units: Units, tmp_path: Path
) -> None:
    windows = {"window_seconds": 0.6, "overlap_seconds": 0.2}
    auricle.extract(corpus, tmp_path / "out", units=units, **windows)
    with torch.inference_mode():
        (frames,) = auricle.encode_windows(encoder, [corpus / "b.wav"], LAYER, **windows)
    assert auricle.open(tmp_path / "out")["b"][:, 0].equal(units.assign(frames).short())


@pytest.mark.usefixtures("forked_workers")
def test_several_processes_give_the_same(
    encoder: Encoder, corpus: Path, units: Units, tmp_path: Path
) -> None:
    options = {"devices": ["cpu", "cpu"], "shard_bytes": 1, "batch_seconds": 1.0}
    auricle.extract(corpus, tmp_path / "out", units=units, **options)
    store = auricle.open(tmp_path / "out")
    for name, codes in expected(encoder, corpus, units).items():
        assert store[name][:, 0].equal(codes.short())


def test_a_dry_run_says_what_is_written(corpus: Path, units: Units, tmp_path: Path) -> None:
    forecast = auricle.extract(corpus, tmp_path / "out", units=units, dry_run=True)
    summary = auricle.extract(corpus, tmp_path / "out", units=units)
    assert (forecast.num_frames, forecast.num_bytes) == (summary.num_frames, summary.num_bytes)
    assert summary.num_bytes == 2 * summary.num_frames
