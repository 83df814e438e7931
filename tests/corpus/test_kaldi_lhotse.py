from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auricle.corpus.kaldi_lhotse import list_kaldi
from auricle.corpus.utterance import Scope
from auricle.errors import AudioError

Touch = Callable[..., list[Path]]


def write(folder: Path, **files: str) -> str:
    for name, text in files.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(text, encoding="utf-8")
    return str(folder)


def test_recordings(tmp_path: Path, touch: Touch) -> None:
    touch("a b.wav", "far/c.wav")
    folder = write(
        tmp_path, wav_scp=f"ä a b.wav\nrec-2\t{tmp_path}/far/c.wav\n", utt2dur="ä 1.25\nrec-2 3\n"
    )
    for text in (folder, f"{folder}/wav.scp"):
        listing = list_kaldi(text, Scope())
        assert [(u.id, u.source, u.seconds) for u in listing.utterances] == [
            ("ä", f"{tmp_path}/a b.wav", None),
            ("rec-2", f"{tmp_path}/far/c.wav", None),
        ]
        assert listing.known_seconds == {"ä": 1.25, "rec-2": 3.0}


def test_segments_and_channels(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav", "b.wav")
    folder = write(
        tmp_path,
        wav_scp="ra a.wav\nrb b.wav\n",
        segments="u1 ra 0.5 2\nu2 ra 2 -1\nu3 rb 0 1.5\nu4 rb 0 1 0\n",
        reco2file_and_channel="rb call B\n",
        utt2dur="u1 1.5\n",
    )
    listing = list_kaldi(folder, Scope())
    assert [(u.id, u.start, u.seconds, u.channel) for u in listing.utterances] == [
        ("u1", 0.5, 1.5, None),
        ("u2", 2.0, None, None),
        ("u3", 0.0, 1.5, 1),
        ("u4", 0.0, 1.0, 0),
    ]
    assert listing.problems == []


def test_another_script_has_no_segments(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav")
    write(tmp_path, segments="u1 r 0 1\n")
    (tmp_path / "other.scp").write_text("r a.wav\n")
    assert [u.id for u in list_kaldi(str(tmp_path / "other.scp"), Scope()).utterances] == ["r"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("sox a.wav -t wav - tempo 2 |", "'tempo 2' changes the audio"),
        ("gunzip -c a.wav.gz |", "'gunzip' is none of flac, sox"),
        ("flac -c -d -s a.wav; touch ran |", "';' is for a shell"),
        ("touch ran |", "commands are never run"),
        ("| touch ran", "commands are never run"),
        ("-", "standard input"),
        ("wav.ark:123", "wav-copy"),
        ("wav.ark:123[0:5]", "wav-copy"),
        ("", "no path"),
        ("gone.wav", "No such file"),
        ("../out.wav", "outside of"),
        ("link.wav", "outside of"),
    ],
)
def test_sources_that_are_no_files(
    tmp_path: Path, touch: Touch, source: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch("data/a.wav", "out.wav")
    (tmp_path / "data/link.wav").symlink_to(tmp_path / "out.wav")
    monkeypatch.chdir(tmp_path)
    listing = list_kaldi(write(tmp_path / "data", wav_scp=f"bad {source}\ngood a.wav\n"), Scope())
    assert [u.id for u in listing.utterances] == ["good"]
    (problem,) = listing.problems
    assert (problem.id, problem.line) == ("bad", 1)
    assert reason in problem.reason
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("segment", "reason"),
    [
        ("u r 0", "got 3 words"),
        ("u x 0 1", "no recording 'x'"),
        ("u pipe 0 1", "commands are never run"),
        ("u r 2 1", "not after the start"),
        ("u r a 1", "the start is 'a'"),
        ("u r 0 1 A", "the channel is 'A'"),
    ],
)
def test_segments_that_do_not_hold(tmp_path: Path, touch: Touch, segment: str, reason: str) -> None:
    touch("a.wav")
    folder = write(
        tmp_path, wav_scp="r a.wav\npipe touch a.wav |\n", segments=f"\n{segment}\ngood r 0 1\n"
    )
    listing = list_kaldi(folder, Scope())
    assert [u.id for u in listing.utterances] == ["good"]
    (problem,) = listing.problems
    assert (problem.id, problem.line, problem.manifest) == ("u", 2, f"{tmp_path}/segments")
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "cannot read .*wav.scp"),
        ({"wav_scp": "r a.wav\nr b.wav\n"}, "line 2: the id 'r' stands there twice"),
        ({"wav_scp": "r a.wav\n", "reco2file_and_channel": "r x C\n"}, "expected: recording file"),
        ({"wav_scp": "r a.wav\n", "utt2dur": "r long\n"}, "line 1: the duration is 'long'"),
    ],
)
def test_folders_that_do_not_hold(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        list_kaldi(write(tmp_path, **files), Scope())


def test_a_root_holds_for_absolute_paths(tmp_path: Path, touch: Touch) -> None:
    touch("in/a.wav", "out.wav")
    folder = write(tmp_path / "in", wav_scp=f"a {tmp_path}/in/a.wav\nb {tmp_path}/out.wav\n")
    listing = list_kaldi(folder, Scope(root=tmp_path / "in"))
    assert [u.id for u in listing.utterances] == ["a"]
    assert [p.kind for p in listing.problems] == ["escape"]


def record(path: Path, num_channels: int = 1, rate: int = 8_000) -> None:
    """Three seconds."""
    soundfile.write(path, np.zeros((3 * rate, num_channels)), rate)


def test_a_side_is_taken_of_files_with_several_channels(tmp_path: Path) -> None:
    for name, num_channels in (("call-A", 1), ("call-B", 1), ("both", 2)):
        record(tmp_path / f"{name}.wav", num_channels)
    scp = "call-A call-A.wav\ncall-B call-B.wav\nboth-A both.wav\nboth-B both.wav\n"
    sides = "call-A call A\ncall-B call B\nboth-A both A\nboth-B both B\n"
    sph = "pipe-A sph2pipe -f wav -p -c 2 both.wav |\n"
    folder = write(tmp_path, wav_scp=scp + sph, reco2file_and_channel=f"{sides}pipe-A both A\n")
    expected = {"call-A": 0, "call-B": 0, "both-A": 0, "both-B": 1, "pipe-A": 1}
    listing = list_kaldi(folder, Scope(channel=1))
    assert {u.id: u.channel for u in listing.utterances} == expected
    write(tmp_path, segments="".join(f"{name}-0 {name} 0 1\n" for name in expected))
    listing = list_kaldi(folder, Scope(channel=1))
    assert {u.id.removesuffix("-0"): u.channel for u in listing.utterances} == expected


def test_segments_end_with_their_recording(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    segments = "u1 a 1 3.3\nu2 a 1 3.6\nu3 a 1 -1\nu4 a 2.9 3.39\n"
    listing = list_kaldi(write(tmp_path, wav_scp="a a.wav\n", segments=segments), Scope())
    assert [(u.id, u.start, u.seconds) for u in listing.utterances] == [
        ("u1", 1.0, 2.0),
        ("u2", 1.0, 2.6),  # which reading refuses
        ("u3", 1.0, None),
        ("u4", 2.9, pytest.approx(0.1)),
    ]


def test_commands_that_only_decode_stand_for_their_files(tmp_path: Path, touch: Touch) -> None:
    touch("a.flac", "b c.sph")
    record(tmp_path / "c.wav")
    scp = """u1 flac -c -d -s a.flac |
u2 sph2pipe -f wav -p -c 2 "b c.sph" |
u3 sox c.wav -r 8000 -c 1 -t wav - |
u4 sox c.wav -r 16k -t wav - |
u5 ffmpeg -i c.wav -f wav -ac 2 - |
"""
    listing = list_kaldi(write(tmp_path, wav_scp=scp), Scope())
    assert [(u.id, u.source, u.channel) for u in listing.utterances] == [
        ("u1", f"{tmp_path}/a.flac", None),
        ("u2", f"{tmp_path}/b c.sph", 1),
        ("u3", f"{tmp_path}/c.wav", None),
    ]
    assert [p.id for p in listing.problems] == ["u4", "u5"]
    assert "change the rate, from 8000 to 16000 Hz; commands" in listing.problems[0].reason
    assert "the number of channels, from 1 to 2" in listing.problems[1].reason
    segments = list_kaldi(write(tmp_path, segments="s1 u4 0 1\ns2 u3 0 1\n"), Scope())
    assert [u.id for u in segments.utterances] == ["s2"]
    assert "from 8000 to 16000 Hz" in segments.problems[0].reason


def test_labels_are_speakers_and_texts(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav", "b.wav")
    folder = write(
        tmp_path, wav_scp="a a.wav\nb b.wav\n", utt2spk="a x\n", text="a so it is\nb no\n"
    )
    listing = list_kaldi(folder, Scope(with_labels=True))
    assert [one.labels for one in listing.utterances] == [
        {"speaker": "x", "text": "so it is"},
        {"text": "no"},
    ]
    assert not list_kaldi(folder, Scope()).utterances[0].labels
