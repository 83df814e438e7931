from __future__ import annotations

import gzip
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from auricle.audio import ffmpeg
from auricle.corpus import reading
from auricle.corpus.folders import expand_braces, expand_files, list_archives, list_audio
from auricle.corpus.reading import ArchiveIndexes
from auricle.corpus.utterance import Scope
from auricle.errors import AudioError

Touch = Callable[..., list[Path]]


def listed(text: Path | str) -> dict[str, str]:
    return {u.id: u.source for u in list_audio(str(text), Scope()).utterances}


def test_a_folder_keeps_its_tree_and_its_audio_alone(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav", "sub/b.FLAC", "sub/deep/c.1.mp3", "notes.txt", ".d.wav", ".e/f.wav")
    assert listed(tmp_path) == {
        "a": str(tmp_path / "a.wav"),
        "sub/b": str(tmp_path / "sub/b.FLAC"),
        "sub/deep/c.1": str(tmp_path / "sub/deep/c.1.mp3"),
    }


def test_a_file_is_taken_whatever_its_suffix(tmp_path: Path, touch: Touch) -> None:
    touch("sub/take.audio")
    assert listed(tmp_path / "sub/take.audio") == {"take": str(tmp_path / "sub/take.audio")}


def test_a_pattern_keeps_the_tree_below_its_fixed_part(tmp_path: Path, touch: Touch) -> None:
    touch("x/one/a.wav", "x/two/a.wav", "x/two/a.txt", "y/a.wav")
    expected = {"one/a": str(tmp_path / "x/one/a.wav"), "two/a": str(tmp_path / "x/two/a.wav")}
    assert listed(tmp_path / "x" / "*" / "a.*") == expected
    assert listed(tmp_path / "x" / "**" / "*.wav") == expected
    assert listed(tmp_path / "x" / "*") == expected


def test_sources_are_absolute(
    tmp_path: Path, touch: Touch, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch("a.wav", "sub/b.wav")
    monkeypatch.chdir(tmp_path)
    assert listed("*.wav") == {"a": str(tmp_path / "a.wav")}
    assert listed("**/*.wav") == {
        "a": str(tmp_path / "a.wav"),
        "sub/b": str(tmp_path / "sub/b.wav"),
    }
    assert listed("a.wav") == {"a": str(tmp_path / "a.wav")}


def test_a_name_with_brackets_that_exists_is_no_pattern(tmp_path: Path, touch: Touch) -> None:
    touch("take[1].wav", "take1.wav", "{a,b}.wav")
    assert list(listed(tmp_path / "take[1].wav")) == ["take[1]"]
    assert list(listed(tmp_path / "{a,b}.wav")) == ["{a,b}"]


def test_unicode_names_are_ids_and_the_channel_is_passed_on(tmp_path: Path, touch: Touch) -> None:
    touch("تسجيل/öß é.wav")
    listing = list_audio(str(tmp_path), Scope(channel=1))
    assert [(u.id, u.channel) for u in listing.utterances] == [("تسجيل/öß é", 1)]


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    listing = list_audio(str(tmp_path / "gone.wav"), Scope())
    assert listing.utterances == []
    assert [(p.kind, p.id) for p in listing.problems] == [("missing", "gone")]


def test_links_leave_a_folder_but_not_a_root(tmp_path: Path, touch: Touch) -> None:
    touch("in/a.wav", "out.wav")
    (tmp_path / "in/b.wav").symlink_to(tmp_path / "out.wav")
    assert list(listed(tmp_path / "in")) == ["a", "b"]
    listing = list_audio(str(tmp_path / "in"), Scope(root=tmp_path / "in"))
    assert [u.id for u in listing.utterances] == ["a"]
    assert [(p.kind, p.id) for p in listing.problems] == [("escape", "b")]


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system takes UTF-8 alone")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")).touch()
    (tmp_path / "a\nb.wav").touch()
    listing = list_audio(str(tmp_path), Scope())
    assert sorted(p.reason.partition(":")[0] for p in listing.problems) == [
        f"the id {'a' + chr(10) + 'b'!r} holds the control character '\\n'",
        f"the name {str(tmp_path)!r}"[:-1] + "/\\udcff.wav' is not UTF-8",
    ]


def test_nothing_found_says_what_was_looked_for(tmp_path: Path, touch: Touch) -> None:
    touch("notes.txt")
    with pytest.raises(AudioError, match=r"holds no audio files; looked for .*\.flac .*\.wav"):
        listed(tmp_path)
    for pattern in ("*.txt", "**/*.flac", "[ab]*"):
        with pytest.raises(AudioError, match="no audio file matches"):
            listed(tmp_path / pattern)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x-{008..011}.tar", ["x-008.tar", "x-009.tar", "x-010.tar", "x-011.tar"]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("{x}.tar", ["{x}.tar"]),
        ("x.tar", ["x.tar"]),
        ("{9..10}", ["9", "10"]),
    ],
)
def test_braces(text: str, expected: list[str]) -> None:
    assert expand_braces(text) == expected


@pytest.mark.parametrize("text", ["{2..1}", "{0..99999999}", "{0..9999}{0..9999}"])
def test_braces_that_are_slips(text: str) -> None:
    with pytest.raises(AudioError, match="upwards|more than"):
        expand_braces(text)


def test_files_of_paths_patterns_and_folders(tmp_path: Path, touch: Touch) -> None:
    touch("b.tar", "s/a.tar", "s/c.csv")
    assert expand_files(str(tmp_path), "*.tar") == [f"{tmp_path}/b.tar", f"{tmp_path}/s/a.tar"]
    assert expand_files(str(tmp_path)) == [str(tmp_path)]
    assert expand_files(f"{tmp_path}/*/*.csv") == [f"{tmp_path}/s/c.csv"]
    assert expand_files("gone.tar") == ["gone.tar"]
    with pytest.raises(AudioError, match="no file matches"):
        expand_files(f"{tmp_path}/*.csv")


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
    audio_members = reading.audio_members
    monkeypatch.setattr(
        reading,
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
