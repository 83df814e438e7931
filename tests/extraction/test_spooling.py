from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from auricle.errors import AudioError, OutputError
from auricle.extraction import spooling
from auricle.extraction.spooling import Ahead, StreamedGroup, open_stream

datasets = pytest.importorskip("datasets")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Rows that come instead of those of a named set."""

    def use(**splits: list[dict[str, Any]]) -> None:
        def load(source: str) -> dict[str, Any]:
            return {
                split: datasets.IterableDataset.from_generator(
                    lambda rows: iter(rows), gen_kwargs={"rows": rows}
                )
                for split, rows in splits.items()
            }

        monkeypatch.setattr(spooling, "load_stream", load)

    return use


def row(number: int, contents: bytes | None = b"x", path: str = "a.flac") -> dict[str, Any]:
    return {"id": f"u{number}", "audio": {"bytes": contents, "path": path}}


def groups(spool: Path, text: str = "hf-dataset://name", **options: Any) -> Iterator[StreamedGroup]:
    return open_stream(text).groups(spool, **options)


def test_groups_in_order(tmp_path: Path, serve: Callable[..., None]) -> None:
    serve(train=[row(number, b"%d" % number) for number in range(5)])
    seen = []
    for group in groups(tmp_path, group_rows=2, channel=1):
        assert (group.first_row, group.end_row) == (2 * len(seen), min(2 * len(seen) + 2, 5))
        seen.append([])
        for utterance in group.utterances:
            assert utterance.spooled.endswith(".flac")
            assert (utterance.container, utterance.channel) == ("stream", 1)
            contents = Path(utterance.spooled).read_bytes()
            seen[-1].append((utterance.id, utterance.origin, contents))
        group.remove()
        assert list(tmp_path.iterdir()) == []
    rows = [(f"u{n}", f"name:train:{n}", b"%d" % n) for n in range(5)]
    assert seen == [rows[:2], rows[2:4], rows[4:]]


def test_a_group_ends_at_so_many_bytes_too(tmp_path: Path, serve: Callable[..., None]) -> None:
    serve(train=[row(number, b"x" * 10) for number in range(5)])
    ends = [group.end_row for group in groups(tmp_path, group_bytes=15)]
    assert ends == [2, 4, 5]


def test_a_run_goes_on_with_the_group_it_had_begun(
    tmp_path: Path, serve: Callable[..., None]
) -> None:
    serve(train=[row(number) for number in range(6)])
    (tmp_path / "000000001").mkdir()
    (tmp_path / "000000001/rest.flac").write_bytes(b"left by a run that was killed")
    found = list(groups(tmp_path, group_rows=2, first_row=1, first_end_row=4))
    assert [(group.first_row, group.end_row) for group in found] == [(1, 4), (4, 6)]
    assert [u.member for u in found[0].utterances] == ["train:1", "train:2", "train:3"]
    assert not (tmp_path / "000000001/rest.flac").exists()
    assert list(groups(tmp_path, first_row=6)) == []


def test_the_next_group_comes_while_one_is_used(tmp_path: Path, serve: Callable[..., None]) -> None:
    serve(train=[row(number) for number in range(7)])
    stream = open_stream("hf-dataset://name")
    with Ahead(stream, tmp_path, group_rows=2, first_row=1) as ahead:
        names = []
        for group in ahead:
            names += [utterance.id for utterance in group.utterances]
            assert len(list(tmp_path.iterdir())) <= 2
            group.remove()
    assert names == [f"u{n}" for n in range(1, 7)]


def test_leaving_ends_a_stream_that_never_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless:
        features = None

        def __iter__(self) -> Iterator[dict[str, Any]]:
            return map(row, itertools.count())

    monkeypatch.setattr(spooling, "load_stream", lambda source: {"train": Endless()})
    with Ahead(open_stream("hf-dataset://name"), tmp_path, group_rows=3) as ahead:
        group = next(iter(ahead))
        assert (group.first_row, group.end_row) == (0, 3)
    assert not [t for t in threading.enumerate() if t.name == "auricle-stream"]


def test_what_is_no_data_set_is_not_streamed(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is no data set of Hugging Face"):
        open_stream(str(tmp_path))


def test_no_room_for_rows_is_no_fault_of_theirs(tmp_path: Path, serve: Callable[..., None]) -> None:
    serve(train=[row(0)])
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(OutputError, match="let TMPDIR name a folder"):
        next(groups(tmp_path / "spool"))


def test_rows_without_ids(tmp_path: Path, serve: Callable[..., None]) -> None:
    serve(test=[{"speech": {"bytes": b"x", "path": None}}] * 2)
    (group,) = groups(tmp_path)
    assert [u.id for u in group.utterances] == ["test/000000000", "test/000000001"]
    assert group.utterances[0].spooled.endswith(".audio")


def test_a_split_is_chosen(tmp_path: Path, serve: Callable[..., None]) -> None:
    serve(train=[row(0)], test=[row(1)])
    (group,) = groups(tmp_path, "hf-dataset://name@test")
    assert [u.id for u in group.utterances] == ["u1"]
    for text in ("hf-dataset://name", "hf-dataset://name@dev"):
        with pytest.raises(AudioError, match="choose a split of name by @SPLIT: train, test"):
            next(groups(tmp_path, text))


def test_bad_rows_and_files_of_this_machine(tmp_path: Path, serve: Callable[..., None]) -> None:
    (tmp_path / "secret.wav").write_bytes(b"secret")
    paths = [
        f"{tmp_path}/secret.wav",
        f"file://{tmp_path}/secret.wav",
        f"x::local://{tmp_path}",
        "",
    ]
    rows = [row(number, None, path) for number, path in enumerate(paths)]
    serve(train=[*rows, {**row(4), "id": "../x"}, {"id": "u5", "audio": None}, row(6)])
    (group,) = groups(tmp_path / "spool")
    assert [u.id for u in group.utterances] == ["u6"]
    assert [(p.line, p.id) for p in group.problems] == [
        (1, "u0"),
        (2, "u1"),
        (3, "u2"),
        (4, "u3"),
        (5, "../x"),
        (6, "u5"),
    ]
    assert len(list(group.folder.iterdir())) == 1


def test_a_row_that_names_a_url(tmp_path: Path, serve: Callable[..., None]) -> None:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://far/a.flac", "wb") as file:
        file.write(b"from afar")
    serve(train=[row(0, None, "memory://far/a.flac"), row(1, None, "memory://far/gone.flac")])
    (group,) = groups(tmp_path)
    assert Path(group.utterances[0].spooled).read_bytes() == b"from afar"
    assert [p.id for p in group.problems] == ["u1"]


def test_a_stream_that_breaks_says_where_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        features = None

        def __iter__(self) -> Iterator[dict[str, Any]]:
            yield row(0)
            yield row(1)
            raise ConnectionResetError("reset")

    monkeypatch.setattr(spooling, "load_stream", lambda source: {"train": Broken()})
    stream = groups(tmp_path, group_rows=2)
    assert len(next(stream).utterances) == 2
    with pytest.raises(AudioError, match="broke off at row 2 of train .*same command again"):
        next(stream)
    with (
        Ahead(open_stream("hf-dataset://name"), tmp_path, group_rows=2) as ahead,
        pytest.raises(AudioError, match="broke off at row 2"),
    ):
        list(ahead)
