"""The minis: in the package, whole, small, licensed, and what they say they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import auricle
from auricle.catalogue.family import RECORDS
from auricle.catalogue.record import DEFAULT_MODEL
from auricle.errors import ChecksumError
from auricle.files.atomic import file_sha256
from auricle.files.safetensors import read_native
from auricle.hub import cache as cache_module
from auricle.hub.cache import embedded_path, whole_embedded_path

MINIS = [record for record in RECORDS if record.embedded]
MAX_BYTES = 4_000_000
MAX_TOTAL_BYTES = 40_000_000


@pytest.fixture(params=MINIS, ids=lambda record: record.name)
def record(request: pytest.FixtureRequest) -> auricle.catalogue.record.Record:
    return request.param


def test_the_folder_holds_the_embedded_models_and_nothing_else() -> None:
    paths = {embedded_path(record) for record in MINIS}
    (folder,) = {path.parent for path in paths}
    assert set(folder.iterdir()) == paths
    sizes = [path.stat().st_size for path in paths]
    assert max(sizes) <= MAX_BYTES
    assert sum(sizes) <= MAX_TOTAL_BYTES


def test_each_is_the_one_on_record(record: auricle.catalogue.record.Record) -> None:
    path = whole_embedded_path(record)
    assert file_sha256(path) == record.sha256
    native = read_native(path)
    assert native.family == record.family
    assert native.provenance.name == record.name
    assert native.provenance.training_data == record.training_data
    assert native.provenance.licence == "CC BY 4.0"
    assert record.licence is not None
    assert record.licence.startswith("CC BY 4.0")
    assert "Panayotov" in record.licence
    assert {"recipe", "steps", "audio", "code_version"} <= set(native.extra)
    assert {weight.dtype for weight in native.weights.values()} <= {torch.float16, torch.int64}


def test_each_works_offline_and_the_batch_does_not_matter(
    record: auricle.catalogue.record.Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AURICLE_OFFLINE", "1")
    encoder = auricle.load(record.name)
    assert encoder.info.name == record.name
    assert encoder.info.sha256 == record.sha256
    assert {weight.dtype for weight in encoder.parameters()} == {torch.float32}
    generator = torch.Generator().manual_seed(1)
    wavs = [0.1 * torch.randn(length, generator=generator) for length in (16_000, 23_456)]
    with torch.inference_mode():
        batched = encoder(wavs)
        alone = [encoder([wav])[0] for wav in wavs]
    for one, other in zip(alone, batched, strict=True):
        assert one.std() > 0
        torch.testing.assert_close(other, one, rtol=0, atol=1e-4 * float(one.std()))


def test_a_changed_or_missing_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = next(record for record in MINIS if record.name == DEFAULT_MODEL)
    path = tmp_path / "changed.safetensors"
    shutil.copyfile(embedded_path(record), path)
    monkeypatch.setattr(cache_module, "embedded_path", lambda _: path)
    auricle.load(record.name)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ChecksumError, match="install auricle again"):
        auricle.load(record.name)
    path.unlink()
    with pytest.raises(ChecksumError, match="no such file"):
        auricle.load(record.name)
