from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
import torch

from auricle.corpus.utterance import Utterance
from auricle.errors import OutputError, StoreError
from auricle.extraction.writers import FORMAT_NAMES, open_format
from auricle.files.atomic import lock_path
from auricle.store import writer as writing
from auricle.store.folder import LocalFolder
from auricle.store.index import IndexRow, index_schema, read_index, write_part
from auricle.store.layout import ShardKey, StoreMeta, read_meta
from auricle.store.reader import open as open_store
from auricle.store.segments import Segments
from auricle.store.writer import StoreWriter, merge_parts

FIRST, SECOND = ShardKey(0, 0), ShardKey(0, 1)


def test_a_run_that_is_killed_between_shard_and_part_makes_the_shard_anew(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta()
    writer = StoreWriter.begin(tmp_path / "store", open_format(meta))
    writer.write(FIRST, make_items(meta, ["a", "b"]))
    writer.format.write(writer.folder, SECOND, make_items(meta, ["c"]))  # and no part
    (tmp_path / "store" / "shards" / ".half.k3js").write_bytes(b"half")
    again = StoreWriter.begin(tmp_path / "store", open_format(meta))
    assert again.completed() == {FIRST}
    assert list((tmp_path / "store" / "shards").glob(".*"))  # it may be of a run that goes on
    again.reopen()
    assert sorted(again.folder.sizes("shards")) == [
        FIRST.file(".safetensors"),
        SECOND.file(".safetensors"),
    ]
    assert not list((tmp_path / "store" / "shards").glob(".*"))
    again.write(SECOND, make_items(meta, ["c"]))
    (tmp_path / "store" / ".index.parquet.k3js").write_bytes(b"half")
    assert again.completed() == {FIRST, SECOND}
    assert again.close() == 3
    assert not list((tmp_path / "store").glob(".*"))


@pytest.mark.parametrize("form", ["store", "npy", "kaldi", "webdataset", "hdf5", "arrow"])
def test_an_interrupted_store_has_the_same_bytes_as_an_undisturbed_one(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list], form: str
) -> None:
    meta = make_meta({"a": 3, "b": 5}, format=form)
    shards = {FIRST: make_items(meta, ["z", "x"]), SECOND: make_items(meta, ["y"], seed=1)}
    straight = StoreWriter.begin(tmp_path / "straight", open_format(meta))
    for key, items in shards.items():
        straight.write(key, items)
    straight.close()
    disturbed = StoreWriter.begin(tmp_path / "disturbed", open_format(meta))
    disturbed.write(SECOND, shards[SECOND])
    cut = next(iter(read_files(disturbed)))
    (tmp_path / "disturbed" / cut).write_bytes(b"cut")
    disturbed = StoreWriter.begin(tmp_path / "disturbed", open_format(meta))
    assert disturbed.completed() == frozenset()
    for key, items in shards.items():
        disturbed.write(key, items)
    disturbed.close()
    names = {*straight.folder.sizes()} - {"feats.a.scp", "feats.b.scp"}  # they hold the path
    assert names == {*disturbed.folder.sizes()} - {"feats.a.scp", "feats.b.scp"}
    for name in names:
        assert straight.folder.digest(name) == disturbed.folder.digest(name), name
    assert open_store(tmp_path / "disturbed").verify() == []


def read_files(writer: StoreWriter) -> dict[str, int]:
    return {**writer.folder.sizes("shards"), **writer.folder.sizes("data")}


def test_a_shard_that_fails_half_way_does_not_count_and_takes_its_old_part_along(
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    make_items: Callable[..., list],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meta = make_meta()
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    writer.write(FIRST, make_items(meta, ["a"]))

    def fail(*arguments: object, **options: object) -> None:
        raise OutputError("disk full")

    monkeypatch.setattr("auricle.store.writer.write_part", fail)
    with pytest.raises(OutputError, match="disk full"):
        # The same size: only the missing part can tell.
        writer.write(FIRST, make_items(meta, ["a"], seed=1))
    assert writer.completed() == frozenset()


def test_utterances_are_discarded_only_once_the_part_is_gone(
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    make_items: Callable[..., list],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meta = make_meta()
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    writer.write(FIRST, make_items(meta, ["a"]))
    removed: list[str] = []
    remove = LocalFolder.remove

    def note(folder: LocalFolder, name: str) -> None:
        removed.append(name)
        remove(folder, name)

    monkeypatch.setattr(LocalFolder, "remove", note)
    assert writer.discard(FIRST, ["a"])
    assert removed[:2] == [FIRST.part, FIRST.file(".safetensors")]
    assert writer.completed() == {FIRST}
    assert open_store(tmp_path).ids == []


def test_a_shard_that_has_changed_does_not_count_once_utterances_are_discarded(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta()
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    writer.write(FIRST, make_items(meta, ["a", "b"]))
    shard = tmp_path / FIRST.file(".safetensors")
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")  # of the size in the part
    assert writer.completed() == {FIRST}
    assert not writer.discard(FIRST, ["a"])
    assert writer.completed() == frozenset()
    assert not (tmp_path / FIRST.part).exists()


def test_a_shard_is_written_beside_its_name_and_moved_there(
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    make_items: Callable[..., list],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A kill in the middle of a write leaves the file of before, or none."""
    for form in FORMAT_NAMES:
        meta = make_meta(format=form)
        writer = StoreWriter.begin(tmp_path / form, open_format(meta))
        written: list[Path] = []
        write_whole = LocalFolder.write_whole

        def note(
            folder: LocalFolder,
            name: str,
            write: Callable[[Path], None],
            write_whole: Any = write_whole,
            written: list[Path] = written,
        ) -> Any:
            def check(temporary: Path) -> None:
                target = folder.path / name
                assert temporary.parent == target.parent
                assert temporary.name.startswith(".")
                write(temporary)
                assert not target.exists()
                written.append(target)

            return write_whole(folder, name, check)

        with monkeypatch.context() as patch:
            patch.setattr(LocalFolder, "write_whole", note)
            writer.write(FIRST, make_items(meta, ["a", "b"]))
        found = {path for path in (tmp_path / form).rglob("*") if path.is_file()}
        assert found == {*written, tmp_path / form / "meta.json"}


def test_no_debris_of_a_kill_survives_the_next_run(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta()
    debris = ["shards/.a.k3js", "parts/.b.k3js", "partial/00000-000000/.c.k3js", ".d.k3js"]

    def leave() -> None:
        for name in debris:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"half")

    def left() -> list[str]:
        return [name for name in debris if (tmp_path / name).exists()]

    writer = StoreWriter.begin(tmp_path, open_format(meta))
    leave()
    writer.reopen()
    assert left() == []
    writer.write(FIRST, make_items(meta, ["a"]))
    Segments(writer.folder, meta).write(FIRST, "plan", 0, [[(Utterance(id="a", source=""), "no")]])
    leave()
    writer.close()
    assert left() == []
    assert not (tmp_path / "partial").exists()
    leave()
    writer.abandon()
    assert [path for path in tmp_path.rglob("*") if path != lock_path(tmp_path)] == []


def test_another_extraction_and_a_foreign_folder_are_refused(
    tmp_path: Path, make_meta: Callable[..., StoreMeta]
) -> None:
    StoreWriter.begin(tmp_path / "store", open_format(make_meta()))
    with pytest.raises(OutputError, match='its model_sha256 is "abab.*this run\'s is "cdcd'):
        StoreWriter.begin(tmp_path / "store", open_format(make_meta(model_sha256="cd" * 32)))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match="not empty and no store: it holds thesis.tex"):
        StoreWriter.begin(tmp_path / "foreign", open_format(make_meta()))


def test_a_store_that_grows_is_open_until_closed_again(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta()
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    writer.write(FIRST, make_items(meta, ["b"]))
    assert not open_store(tmp_path).is_closed
    writer.close()
    later = StoreWriter.begin(tmp_path, open_format(make_meta(library_version="0.2.0")))
    assert open_store(tmp_path).is_closed
    later.reopen()
    later.write(ShardKey(1, 0), make_items(meta, ["a"]))
    assert open_store(tmp_path).ids == ["a", "b"]
    assert not open_store(tmp_path).is_closed
    later.close()
    assert open_store(tmp_path).ids == ["a", "b"]
    found = read_meta(writer.folder)
    assert found is not None
    assert found.closed
    assert found.library_version == "0.1.0"


def test_a_shard_of_which_everything_failed_is_done(
    tmp_path: Path, make_meta: Callable[..., StoreMeta]
) -> None:
    writer = StoreWriter.begin(tmp_path, open_format(make_meta()))
    writer.write(FIRST, [])
    assert writer.completed() == {FIRST}
    assert writer.close() == 0
    assert len(open_store(tmp_path)) == 0


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": torch.ones(2, 3), "b": torch.ones(2, 3)}, "has the layers a, b, but .* keeps a"),
        ({"a": torch.ones(2, 4)}, r"a of u is float32 \(2, 4\), but .* float32 \(frames, 3\)"),
        ({"a": torch.ones(3)}, r"a of u is float32 \(3,\)"),
        ({"a": torch.ones(2, 3).half()}, r"a of u is float16 \(2, 3\)"),
    ],
)
def test_what_the_store_does_not_keep_is_refused_before_anything_is_written(
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    arrays: dict[str, torch.Tensor],
    message: str,
) -> None:
    writer = StoreWriter.begin(tmp_path, open_format(make_meta({"a": 3})))
    with pytest.raises(OutputError, match=message):
        writer.write(FIRST, [(Utterance(id="u", source="u.wav"), arrays)])
    assert list(writer.folder.sizes()) == ["meta.json"]


def test_an_id_that_comes_twice_is_refused(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta(format="npy")
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    with pytest.raises(OutputError, match="'a' comes twice"):
        writer.write(FIRST, make_items(meta, ["a", "a"]))


@pytest.mark.parametrize("form", ["store", "npy", "arrow"])
def test_writes_and_reads_where_fsspec_does(
    make_meta: Callable[..., StoreMeta], make_items: Callable[..., list], form: str
) -> None:
    meta = make_meta(format=form)
    items = make_items(meta, ["a", "b"])
    writer = StoreWriter.begin("memory://bucket/store", open_format(meta))
    pickle.loads(pickle.dumps(writer)).write(FIRST, items)
    assert writer.completed() == {FIRST}
    writer.close()
    store = open_store("memory://bucket/store")
    assert store.is_closed
    for utterance, arrays in items:
        assert torch.equal(store.get(utterance.id), arrays["hidden_12"])
    assert store.verify() == []
    fsspec.filesystem("memory").store.clear()


def test_a_path_that_is_no_text_is_kept_readably(
    tmp_path: Path, make_meta: Callable[..., StoreMeta]
) -> None:
    for form in ("store", "arrow", "webdataset"):
        writer = StoreWriter.begin(tmp_path / form, open_format(make_meta({"a": 1}, format=form)))
        writer.write(FIRST, [(Utterance(id="u", source="x\udce9.wav"), {"a": torch.ones(1, 1)})])
        assert open_store(tmp_path / form).to_pandas()["source"][0] == r"x\udce9.wav"


LAYERS = ("z", "a")


def write_parts(folder: LocalFolder, *, num_parts: int, per_part: int) -> list[str]:
    names = [f"{index:04d}é" for index in range(num_parts * per_part)]
    random.Random(0).shuffle(names)
    for shard in range(num_parts):
        rows = [
            IndexRow(name, layer, f"s{shard}", 0, 1, 1, "float32", "x", 0.0, 1.0, "ab")
            for name in names[shard * per_part : (shard + 1) * per_part]
            for layer in LAYERS
        ]
        write_part(folder, ShardKey(0, shard), rows, {}, library_version="0")
    return sorted(names)


@pytest.mark.parametrize(
    ("run_rows", "block_rows", "group_rows"),
    [(1, 1, 1), (30, 7, 25), (45, 1000, 1000), (10_000, 10_000, 10_000)],
)
def test_any_number_of_runs_gives_the_same_index(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_rows: int,
    block_rows: int,
    group_rows: int,
) -> None:
    monkeypatch.setattr(writing, "ROW_GROUP_ROWS", group_rows)
    folder = LocalFolder(tmp_path)
    names = write_parts(folder, num_parts=9, per_part=11)
    num_rows = merge_parts(folder, run_rows=run_rows, block_rows=block_rows)
    assert num_rows == 9 * 11 * 2
    table = read_index(folder, closed=True)
    assert table["id"].to_pylist() == [name for name in names for _ in LAYERS]
    assert table["layer"].to_pylist() == list(LAYERS) * len(names)
    assert table.equals(read_index(folder, closed=False))


def test_row_groups_stay_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "ROW_GROUP_ROWS", 40)
    folder = LocalFolder(tmp_path)
    write_parts(folder, num_parts=4, per_part=50)
    merge_parts(folder, run_rows=100, block_rows=10)
    metadata = pq.read_metadata(tmp_path / "index.parquet")
    sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert sum(sizes) == 400
    assert max(sizes) <= 80
    assert min(sizes[:-1]) >= 40


def test_no_parts_and_empty_parts_give_an_empty_index(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    assert merge_parts(folder) == 0
    write_part(folder, ShardKey(0, 0), [], {}, library_version="0")
    assert merge_parts(folder) == 0
    assert read_index(folder, closed=True).schema == index_schema()


def test_a_damaged_part_stops_the_merge_and_leaves_the_old_index(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    write_parts(folder, num_parts=2, per_part=3)
    merge_parts(folder)
    before = (tmp_path / "index.parquet").read_bytes()
    (tmp_path / ShardKey(0, 1).part).write_bytes(b"cut")
    with pytest.raises(StoreError, match=r"00000-000001.parquet cannot be read"):
        merge_parts(folder)
    assert (tmp_path / "index.parquet").read_bytes() == before
