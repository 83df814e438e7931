from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from auricle.errors import AudioError
from auricle.extraction.inputs import streams
from auricle.extraction.inputs.streams import StreamedGroup, stream_groups

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

        monkeypatch.setattr(streams, "load_stream", load)

    return use


def row(number: int, contents: bytes | None = b"x", path: str = "a.flac") -> dict[str, Any]:
    return {"id": f"u{number}", "audio": {"bytes": contents, "path": path}}


def groups(spool: Path, text: str = "name", **options: Any) -> Iterator[StreamedGroup]:
    return stream_groups(text, spool_folder=spool, **options)


def test_groups_in_order(tmp_path: Path, serve: Callable[..., None]) -> None:
    serve(train=[row(number, b"%d" % number) for number in range(5)])
    seen = []
    for group in groups(tmp_path, group_rows=2, channel=1):
        for utterance, origin in zip(group.utterances, group.origins, strict=True):
            seen.append((group.number, utterance.id, origin, Path(utterance.source).read_bytes()))
            assert utterance.source.endswith(".flac")
            assert (utterance.container, utterance.channel) == ("file", 1)
        group.remove()
        assert list(tmp_path.iterdir()) == []
    assert seen == [(n // 2, f"u{n}", f"train:{n}", b"%d" % n) for n in range(5)]


def test_a_run_goes_on_with_the_group_it_had_begun(
    tmp_path: Path, serve: Callable[..., None]
) -> None:
    serve(train=[row(number) for number in range(6)])
    whole = [group.utterances for group in groups(tmp_path, group_rows=2)]
    (tmp_path / "00000001/rest.flac").write_bytes(b"left by a run that was killed")
    again = list(groups(tmp_path, group_rows=2, first_group=1))
    assert [group.utterances for group in again] == whole[1:]
    assert [group.origins[0] for group in again] == ["train:2", "train:4"]
    assert not (tmp_path / "00000001/rest.flac").exists()


def test_rows_without_ids(tmp_path: Path, serve: Callable[..., None]) -> None:
    serve(test=[{"speech": {"bytes": b"x", "path": None}}] * 2)
    (group,) = groups(tmp_path)
    assert [u.id for u in group.utterances] == ["test/000000000", "test/000000001"]
    assert group.utterances[0].source.endswith(".audio")


def test_a_split_is_chosen(tmp_path: Path, serve: Callable[..., None]) -> None:
    serve(train=[row(0)], test=[row(1)])
    (group,) = groups(tmp_path, "name@test")
    assert [u.id for u in group.utterances] == ["u1"]
    for text in ("name", "name@dev"):
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
    assert Path(group.utterances[0].source).read_bytes() == b"from afar"
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

    monkeypatch.setattr(streams, "load_stream", lambda source: {"train": Broken()})
    stream = groups(tmp_path, group_rows=2)
    assert len(next(stream).utterances) == 2
    with pytest.raises(AudioError, match="go on with first_group=1"):
        next(stream)
