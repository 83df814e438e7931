from __future__ import annotations

import gzip
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from auricle.audio import ffmpeg
from auricle.errors import AudioError
from auricle.extraction.inputs import archives
from auricle.extraction.inputs.archives import ArchiveIndexes, list_archives
from auricle.extraction.inputs.records import Scope

MakeTar = Callable[..., Path]


def test_audio_members_are_utterances(make_tar: MakeTar) -> None:
    path = make_tar(
        "x.tar",
        [
            ("0001.flac", b"one"),
            ("0001.json", b"{}"),
            ("./s/ä b.1.WAV", b"two"),
            (f"{'long' * 30}/{'name' * 30}.wav", b"three"),
            ("._0001.flac", b"not audio"),
        ],
    )
    listing = list_archives(str(path), Scope(channel=1))
    assert [(u.id, u.member, u.container, u.source, u.channel) for u in listing.utterances] == [
        ("0001", "0001.flac", "tar", str(path), 1),
        ("s/ä b.1", "./s/ä b.1.WAV", "tar", str(path), 1),
        (f"{'long' * 30}/{'name' * 30}", f"{'long' * 30}/{'name' * 30}.wav", "tar", str(path), 1),
    ]
    assert listing.problems == []


def test_ranges_patterns_and_folders(tmp_path: Path, make_tar: MakeTar) -> None:
    make_tar("x-000.tar", [("a.wav", b"a")])
    make_tar("x-001.tar", [("b.wav", b"b")])
    for text in (f"{tmp_path}/x-{{000..001}}.tar", f"{tmp_path}/*.tar", str(tmp_path)):
        assert [u.id for u in list_archives(text, Scope()).utterances] == ["a", "b"]
    listing = list_archives(f"{tmp_path}/x-{{001..002}}.tar", Scope())
    assert [u.id for u in listing.utterances] == ["b"]
    assert [(p.kind, p.source) for p in listing.problems] == [("missing", f"{tmp_path}/x-002.tar")]


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = "/etc/hostname"
    return info


def test_unsafe_members_are_problems(make_tar: MakeTar) -> None:
    path = make_tar(
        "x.tar",
        [
            ("/etc/a.wav", b"1"),
            ("../a.wav", b"2"),
            ("s/../../a.wav", b"3"),
            (link("b.wav", tarfile.SYMTYPE), b""),
            (link("c.wav", tarfile.LNKTYPE), b""),
            (link("d.wav", tarfile.FIFOTYPE), b""),
            ("e\n.wav", b"4"),
            ("good.wav", b"5"),
        ],
    )
    listing = list_archives(str(path), Scope())
    assert [u.id for u in listing.utterances] == ["good"]
    assert [p.kind for p in listing.problems] == ["escape"] * 3 + ["unreadable"] * 4
    assert "'/etc/a.wav'" in listing.problems[0].reason


def test_a_root_holds_for_archives(tmp_path: Path, make_tar: MakeTar) -> None:
    path = make_tar("x.tar", [("a.wav", b"a")])
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.tar").symlink_to(path)
    listing = list_archives(str(tmp_path / "in/x.tar"), Scope(root=tmp_path / "in"))
    assert [p.kind for p in listing.problems] == ["escape"]
    assert listing.utterances == []


def test_a_cut_archive_keeps_what_is_whole(make_tar: MakeTar) -> None:
    path = make_tar("x.tar", [("a.wav", b"a" * 600), ("b.wav", b"b" * 600), ("c.wav", b"c")])
    os.truncate(path, 512 + 1024 + 512 + 600)  # within the padding of the second one
    listing = list_archives(str(path), Scope())
    assert [u.id for u in listing.utterances] == ["a", "b"]
    assert "cut short" in listing.problems[0].reason
    os.truncate(path, 512 + 1024 + 512 + 599)
    listing = list_archives(str(path), Scope())
    assert [u.id for u in listing.utterances] == ["a"]
    assert "ends within it" in listing.problems[0].reason
    indexes = ArchiveIndexes()
    assert indexes.place(str(path), "a.wav") == (512, 600)
    with pytest.raises(AudioError, match="no readable member 'b.wav'"):
        indexes.place(str(path), "b.wav")
    os.truncate(path, 300)
    with pytest.raises(AudioError, match="as a tar archive"):
        indexes.place(str(path), "a.wav")


def test_a_damaged_header_is_no_end(make_tar: MakeTar) -> None:
    path = make_tar("x.tar", [("a.wav", b"a"), ("b.wav", b"b"), ("c.wav", b"c")])
    contents = bytearray(path.read_bytes())
    contents[1024 + 10] ^= 1
    path.write_bytes(contents)
    listing = list_archives(str(path), Scope())
    assert [u.id for u in listing.utterances] == ["a"]
    assert [p.kind for p in listing.problems] == ["unreadable"]
    assert "damaged header at byte 1024" in listing.problems[0].reason


def test_what_is_no_archive(tmp_path: Path, make_tar: MakeTar) -> None:
    packed = tmp_path / "packed.tar"
    packed.write_bytes(gzip.compress(make_tar("x.tar", [("a.wav", b"a")]).read_bytes()))
    with pytest.raises(AudioError, match="must be unpacked"):
        list_archives(str(packed), Scope())
    with pytest.raises(AudioError, match="no file matches"):
        list_archives(f"{tmp_path}/y*.tar", Scope())


def test_members_are_found_again(make_tar: MakeTar) -> None:
    path = str(make_tar("x.tar", [("a.wav", b"first"), ("b.wav", b"second"), ("c.txt", b"")]))
    indexes = ArchiveIndexes()
    for member, contents in (("b.wav", b"second"), ("a.wav", b"first")):
        offset, num_bytes = indexes.place(path, member)
        assert Path(path).read_bytes()[offset : offset + num_bytes] == contents
    with pytest.raises(AudioError, match="no readable member 'c.txt'"):
        indexes.place(path, "c.txt")
    with pytest.raises(AudioError, match="cannot open"):
        indexes.place("gone.tar", "a.wav")


def test_each_archive_is_indexed_once_and_few_are_kept(
    make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    audio_members = archives.audio_members
    monkeypatch.setattr(
        archives,
        "audio_members",
        lambda path: (read.append(Path(path).name), audio_members(path))[1],
    )
    paths = [str(make_tar(f"{n}.tar", [("a.wav", b"a"), ("b.wav", b"b")])) for n in range(3)]
    indexes = ArchiveIndexes(max_members=4)
    for place in (0, 1, 0, 1, 0, 2, 0, 1):
        indexes.place(paths[place], "a.wav")
        assert indexes.num_members <= 4
    assert read == ["0.tar", "1.tar", "2.tar", "1.tar"]


def test_an_archive_that_has_changed_is_read_again(make_tar: MakeTar) -> None:
    indexes = ArchiveIndexes()
    path = str(make_tar("x.tar", [("a.wav", b"a")]))
    first = indexes.place(path, "a.wav")
    make_tar("x.tar", [("z.wav", b"z" * 2_000), ("a.wav", b"aa")])
    assert indexes.place(path, "a.wav") == (first[0] + 512 + 2048, 2)


def test_two_members_of_one_name(make_tar: MakeTar) -> None:
    path = str(make_tar("x.tar", [("a.wav", b"a"), ("a.wav", b"b")]))
    with pytest.raises(AudioError, match="two members of one name"):
        ArchiveIndexes().place(path, "a.wav")


def test_videos_are_passed_over_beside_audio_of_the_same_name(
    make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("a.wav", "a.mp4", "b.mp4", "c.txt")
    path = str(make_tar("x.tar", [(name, b"contents") for name in names]))
    monkeypatch.setattr(ffmpeg, "is_installed", lambda: True)
    assert [u.member for u in list_archives(path, Scope()).utterances] == ["a.wav", "b.mp4"]
    monkeypatch.setattr(ffmpeg, "is_installed", lambda: False)
    assert [u.member for u in list_archives(path, Scope()).utterances] == ["a.wav"]
    assert caplog.messages[1:] == [
        f"{path}: passed over 1 files (1 .mp4): audio of the same name lies beside these",
        f"{path}: passed over 1 files (1 .mp4): libsndfile does not read these; {ffmpeg.INSTALL}",
    ]


def test_compressed_archives_in_a_folder_are_problems(tmp_path: Path, make_tar: MakeTar) -> None:
    make_tar("x-000.tar", [("a.wav", b"a")])
    for name in ("x-001.tar.gz", "x-002.TGZ", "x.txt", "._x-001.tar.gz"):
        (tmp_path / name).touch()
    listing = list_archives(str(tmp_path), Scope())
    assert [u.id for u in listing.utterances] == ["a"]
    assert [p.source for p in listing.problems] == [
        f"{tmp_path}/x-001.tar.gz",
        f"{tmp_path}/x-002.TGZ",
    ]
    assert "is compressed" in listing.problems[0].reason


def test_archives_one_after_the_other(make_tar: MakeTar, tmp_path: Path) -> None:
    parts = [make_tar(f"{name}.tar", [(f"{name}.wav", name.encode() * 9)]) for name in "abc"]
    path = tmp_path / "all.tar"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    listing = list_archives(str(path), Scope())
    assert [u.id for u in listing.utterances] == ["a", "b", "c"]
    assert listing.problems == []
    offset, num_bytes = ArchiveIndexes().place(str(path), "c.wav")
    assert path.read_bytes()[offset : offset + num_bytes] == b"c" * 9
    path.write_bytes(parts[0].read_bytes() + b"junk" * 300)
    assert "damaged header at byte" in list_archives(str(path), Scope()).problems[0].reason


def test_an_archive_without_an_end_is_said(
    make_tar: MakeTar, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_tar("x.tar", [("a.wav", b"a" * 512), ("b.wav", b"b" * 512)])
    list_archives(str(path), Scope())
    assert not caplog.messages
    path.write_bytes(path.read_bytes()[:1024])
    assert [u.id for u in list_archives(str(path), Scope()).utterances] == ["a"]
    assert "x.tar: no zeros mark its end" in caplog.messages[0]
