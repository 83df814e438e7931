from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from auricle.catalogue.search import find
from auricle.hub import cache as cache_module
from auricle.hub.cache import (
    CONVERTER_VERSION,
    Conversion,
    Stamp,
    cached_path,
    embedded_path,
    write_note,
)
from auricle.hub.location import (
    Availability,
    availabilities,
    availability,
    is_converted,
    known_num_bytes,
)


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("name", "expected", "works_offline"),
    [
        ("fbank", Availability.NOT_NEEDED, True),
        ("apc_mini", Availability.EMBEDDED, True),
        ("tera", Availability.DOWNLOAD, False),
        ("hubert", Availability.DOWNLOAD, False),
        ("cpc_2018", Availability.NEVER_PUBLISHED, False),
    ],
)
def test_with_an_empty_cache(name: str, expected: Availability, works_offline: bool) -> None:
    assert availability(find(name)) is expected
    assert expected.works_offline is works_offline


def test_a_file_in_the_cache_counts_with_its_configuration() -> None:
    tera, pase = find("tera"), find("pase_plus")
    put(cached_path(tera))
    assert availability(tera) is Availability.CACHED
    assert Availability.CACHED.works_offline
    assert availability(tera, look_into_cache=False) is Availability.DOWNLOAD
    put(cached_path(pase))
    assert availability(pase) is Availability.DOWNLOAD
    put(cached_path(pase).with_suffix(".cfg"))
    assert availability(pase) is Availability.CACHED


def test_a_repository_counts_once_its_weights_are_there(cache: Path) -> None:
    commit = cache / "huggingface" / "models--facebook--hubert-base-ls960" / "snapshots" / "c0ffee"
    put(commit / "config.json")
    assert availability(find("hubert")) is Availability.DOWNLOAD
    put(commit / "pytorch_model.bin")
    assert availability(find("hubert")) is Availability.CACHED
    assert availability(find("hubert_large")) is Availability.DOWNLOAD


def test_a_conversion_does_without_the_original(cache: Path) -> None:
    file = Stamp(path="converted/tera_960hr-0.safetensors", num_bytes=1, mtime_ns=0, sha256="0")
    note = Conversion(label="tera_960hr", sources=(file,), file=file)
    put(file.full_path)
    write_note(dataclasses.replace(note, converter_version=CONVERTER_VERSION - 1))
    assert availability(find("tera")) is Availability.DOWNLOAD
    write_note(note)
    assert availability(find("tera")) is Availability.CACHED
    assert availability(find("apc")) is Availability.DOWNLOAD
    file.full_path.unlink()
    assert availability(find("tera")) is Availability.DOWNLOAD


def test_notes_are_read_once_for_many_records(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tera_960hr", "apc_360hr"):
        file = Stamp(path=f"converted/{name}-0.safetensors", num_bytes=1, mtime_ns=0, sha256="0")
        put(file.full_path)
        write_note(Conversion(label=name, sources=(file,), file=file))
    read: list[Path] = []
    read_note = cache_module.read_note

    def count(path: Path) -> Conversion | None:
        read.append(path)
        return read_note(path)

    monkeypatch.setattr(cache_module, "read_note", count)
    records = [find(name) for name in ("hubert", "tera", "apc", "apc_mini", "npc_960hr")]
    cached, embedded, absent = Availability.CACHED, Availability.EMBEDDED, Availability.DOWNLOAD
    assert availabilities(records) == [absent, cached, cached, embedded, absent]
    assert len(read) == len(set(read)) == 2
    assert is_converted(records[1])
    read.clear()
    assert availabilities([find("fbank"), find("apc_mini")])[1] is embedded
    assert availabilities(records, look_into_cache=False)[1] is absent
    assert read == []


def test_sizes_are_the_files_or_those_on_record() -> None:
    mini = find("apc_mini")
    assert known_num_bytes(mini) == embedded_path(mini).stat().st_size
    assert known_num_bytes(find("tera")) is None
    assert known_num_bytes(msgspec.structs.replace(find("tera"), num_bytes=7)) == 7
