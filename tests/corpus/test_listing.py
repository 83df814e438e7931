from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from auricle.corpus import listing as listing_module
from auricle.corpus.listing import list_utterances
from auricle.errors import AudioError

Touch = Callable[..., list[Path]]


def ids(*inputs: Path | str, input_format: str | None = None) -> list[str]:
    listing = list_utterances([str(item) for item in inputs], input_format=input_format)
    assert listing.problems == []
    return [utterance.id for utterance in listing.utterances]


def test_an_input_is_what_it_looks_like(
    tmp_path: Path, touch: Touch, make_tar: Callable[..., Path]
) -> None:
    touch("in/a.wav")
    folder = tmp_path / "in"
    (folder / "fairseq.tsv").write_text(f"{folder}\na.wav\t5\n")
    (folder / "table.tsv").write_text("split\tpath\tid\ntrain\ta.wav\tof-tsv\n")
    (folder / "table.CSV").write_text("id,path\nof-csv,a.wav\n")
    (folder / "table.tsv.gz").write_bytes(gzip.compress(b"id\tpath\nof-tsv-gz\ta.wav\n"))
    (folder / "table.jsonl").write_text(json.dumps({"id": "of-jsonl", "path": "a.wav"}))
    packed = json.dumps({"id": "of-gz", "audio_filepath": "a.wav"}).encode()
    (folder / "table.json.gz").write_bytes(gzip.compress(packed))
    parquet.write_table(pa.table({"id": ["of-parquet"], "path": ["a.wav"]}), folder / "x.parquet")
    touch("kaldi/b.wav")
    (tmp_path / "kaldi/wav.scp").write_text("of-kaldi b.wav\n")
    make_tar("x-0.tar", [("of-tar.wav", b"x")])
    assert ids(folder) == ["a"]
    assert ids(folder / "*.wav") == ["a"]
    assert ids(folder / "fairseq.tsv") == ["a"]
    assert ids(folder / "table.tsv") == ["of-tsv"]
    assert ids(folder / "table.tsv.gz") == ["of-tsv-gz"]
    assert ids(folder / "table.CSV") == ["of-csv"]
    assert ids(folder / "table.jsonl") == ["of-jsonl"]
    assert ids(folder / "table.json.gz") == ["of-gz"]
    assert ids(folder / "*.parquet") == ["of-parquet"]
    assert ids(tmp_path / "kaldi") == ids(tmp_path / "k*/wav.scp") == ["of-kaldi"]
    assert ids(f"{tmp_path}/x-{{0..0}}.tar") == ["of-tar"]
    (tmp_path / "shards").mkdir()
    (tmp_path / "x-0.tar").rename(tmp_path / "shards/x-0.tar")
    assert ids(tmp_path / "shards") == ["of-tar"]
    assert ids(folder / "table.tsv", tmp_path / "shards") == ["of-tsv", "of-tar"]


def test_lhotse_is_no_table(tmp_path: Path, touch: Touch) -> None:
    pytest.importorskip("lhotse")
    touch("a.wav")
    source = {"type": "file", "channels": [0], "source": "a.wav"}
    cells = {
        "id": "cut",
        "start": 0.5,
        "duration": 1.0,
        "channel": 0,
        "type": "MonoCut",
        "recording": {
            "id": "r",
            "sources": [source],
            "sampling_rate": 16_000,
            "num_samples": 32_000,
            "duration": 2.0,
        },
    }
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cells) + "\n")
    assert ids(tmp_path / "cuts.jsonl") == ["cut"]


def test_a_format_overrides_the_looks(tmp_path: Path, touch: Touch) -> None:
    touch("a.tsv", "b.wav")
    (tmp_path / "list.txt").write_text(".\nb.wav\t3\n")
    assert ids(tmp_path / "a.tsv", input_format="audio") == ["a"]
    assert ids(tmp_path / "list.txt", input_format="fairseq") == ["b"]
    with pytest.raises(AudioError, match="expected one of audio, fairseq, table"):
        ids(tmp_path, input_format="mp3")


def test_a_file_named_twice_counts_once(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav")
    assert ids(tmp_path, tmp_path / "a.wav", tmp_path / "*.wav") == ["a"]


@pytest.mark.parametrize(("first", "second"), [("x/a.wav", "x/a.flac"), ("x/a.wav", "y/a.wav")])
def test_an_id_that_comes_twice_names_both_sources(
    tmp_path: Path, touch: Touch, first: str, second: str
) -> None:
    touch(first, second)
    with pytest.raises(AudioError) as refusal:
        ids(tmp_path / first, tmp_path / second)
    assert f"{tmp_path}/{first} (of " in str(refusal.value)
    assert f"{tmp_path}/{second} (of " in str(refusal.value)
    assert "have one id, 'a': give them ids by their whole paths" in str(refusal.value)


def test_an_id_that_whole_paths_do_not_tell_apart(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav", "a.flac")
    with pytest.raises(AudioError, match="a': rename one, choose one kind of file"):
        list_utterances([str(tmp_path)], ids_by_path=True)


def test_ids_that_come_twice_in_lists(
    tmp_path: Path, touch: Touch, make_tar: Callable[..., Path]
) -> None:
    touch("a.wav", "b.wav")
    (tmp_path / "l.csv").write_text("id,path\nx,a.wav\nx,a.wav\ny,b.wav\ny,a.wav\n")
    rows = "have one id, 'x'; 1 more ids come twice: give each row an id of its own there"
    with pytest.raises(AudioError, match=rows):
        ids(tmp_path / "l.csv")
    (tmp_path / "m.csv").write_text("path\na.wav\n")
    with pytest.raises(AudioError, match=r"a.wav \(of .*a.wav\) and .*a.wav \(of .*m.csv\)"):
        ids(tmp_path / "a.wav", tmp_path / "m.csv")
    path = make_tar("x.tar", [("z.wav", b""), ("z.flac", b"")])
    with pytest.raises(AudioError, match=r"x.tar:z.wav .* and .*x.tar:z.flac "):
        ids(path)


def test_problems_of_all_inputs_are_reported(tmp_path: Path, touch: Touch) -> None:
    touch("in/a.wav", "out.wav")
    (tmp_path / "in/l.csv").write_text("path,start\n../out.wav,\na.wav,x\n")
    gone = str(tmp_path / "gone.wav")
    listing = list_utterances([str(tmp_path / "in"), gone, str(tmp_path / "in/l.csv")])
    assert [u.id for u in listing.utterances] == ["a"]
    assert [(p.kind, p.line) for p in listing.problems] == [
        ("missing", None),
        ("escape", 2),
        ("unreadable", 3),
    ]


def test_a_root_and_a_channel_hold_for_all(tmp_path: Path, touch: Touch) -> None:
    touch("in/a.wav", "b.wav")
    listing = list_utterances(
        [str(tmp_path / "in"), str(tmp_path / "b.wav")], root=tmp_path / "in", channel=1
    )
    assert [(u.id, u.channel) for u in listing.utterances] == [("a", 1)]
    assert [p.kind for p in listing.problems] == ["escape"]


@pytest.mark.parametrize(
    ("name", "contents", "reason"),
    [
        ("x.tar.gz", "", "unpack it to .tar"),
        ("x.csv", "path\n", "names no audio"),
        ("x.jsonl", "", "names no audio"),
        ("x.tsv", "", "expected the folder"),
    ],
)
def test_inputs_that_hold_nothing(tmp_path: Path, name: str, contents: str, reason: str) -> None:
    (tmp_path / name).write_text(contents)
    with pytest.raises(AudioError, match=reason):
        ids(tmp_path / name)


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl", "x.parquet", "wav.scp"])
def test_manifests_that_are_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(AudioError, match="cannot read"):
        ids(tmp_path / name)


def test_empty_text_is_not_the_current_folder() -> None:
    with pytest.raises(AudioError, match="empty text"):
        ids("")


def test_a_data_set_goes_to_its_own_lister(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def lister(text: str, scope: object) -> listing_module.Listing:
        seen.append(text)
        return listing_module.Listing(
            problems=[listing_module.Problem(kind="missing", manifest=text, reason="")]
        )

    monkeypatch.setitem(listing_module.LISTERS, "dataset", lister)
    list_utterances(["hf-dataset://owner/name@test"])
    assert seen == ["hf-dataset://owner/name@test"]


def test_a_root_that_is_no_folder(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav")
    with pytest.raises(AudioError, match=r"the root .*gone is no folder that exists; pass root= "):
        list_utterances([str(tmp_path)], root=tmp_path / "gone")
