from __future__ import annotations

from pathlib import Path

import pytest

from auricle.corpus.utterance import Segment, Utterance
from auricle.errors import AuricleError
from auricle.probing.items import (
    COLUMNS,
    PhoneItem,
    check_items,
    items_of,
    read_item_task,
    read_items,
    write_items,
)

HEADER = " ".join(COLUMNS)


def utterance(*labels: tuple[str, float, float]) -> Utterance:
    segments = tuple(Segment(label=label, start=start, end=end) for label, start, end in labels)
    return Utterance(id="a/b", source="b.wav", labels={"speaker": "s 1"}, segments=segments)


SPOKEN = utterance(
    ("SIL", 0.0, 0.2),
    ("K", 0.2, 0.3),
    ("AE", 0.3, 0.4004),
    ("T", 0.4, 0.5),
    ("S", 0.6, 0.7),
    ("sp", 0.7, 0.9),
)


def test_phones_have_their_neighbours_as_context_and_pauses_as_sil() -> None:
    items = list(items_of(SPOKEN))
    assert [(one.previous, one.phone, one.following) for one in items] == [
        ("SIL", "K", "AE"),
        ("K", "AE", "T"),
        ("AE", "T", "SIL"),  # then nothing is labelled for 0.1 s
        ("SIL", "S", "SIL"),
    ]
    assert [(one.onset, one.offset) for one in items][:2] == [(0.2, 0.3), (0.3, 0.4004)]
    assert {(one.file, one.speaker) for one in items} == {("b", "s_1")}


def test_triphones_last_over_both_neighbours_and_touch_no_pause() -> None:
    (item,) = items_of(SPOKEN, triphones=True)
    assert (item.phone, item.onset, item.offset) == ("AE", 0.2, 0.5)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "x.item"
    items = list(items_of(SPOKEN))
    write_items(path, items)
    assert path.read_text().splitlines()[:2] == [HEADER, "b 0.2 0.3 K SIL AE s_1"]
    assert read_items(path) == items


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "x.item"
    path.write_text(
        "speaker #file extra onset offset next-phone prev-phone #phone\n84 f 7 0.5 1 N P X\n\n"
    )
    assert read_items(path) == [
        PhoneItem(
            file="f", onset=0.5, offset=1.0, phone="X", previous="P", following="N", speaker="84"
        )
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks #file, onset.*it has none"),
        (f"{HEADER}\n\n", "no items below its header"),
        (HEADER.replace("speaker", "talker") + "\n", "lacks speaker; it has #file onset"),
        (f"{HEADER}\nf 0 1 A B C s\nf 0 1 A B C\n", "line 3: got 6 fields, the header has 7"),
        (f"{HEADER}\nf zero 1 A B C s\n", "line 2: could not convert.*'zero'"),
        (f"{HEADER}\nf 1.5 1.5 A B C s\n", "line 2: got the offset 1.5, which is not after .* 1.5"),
        (f"{HEADER}\nf 2 1 A B C s\n", "line 2: got the offset 1, which is not after .* 2"),
        (f"{HEADER}\nf -1 1 A B C s\n", "line 2: got an item from -1 to 1 s"),
        (f"{HEADER}\nf 0 nan A B C s\n", "line 2: got an item from 0 to nan s"),
    ],
)
def test_wrong_item_files_name_the_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.item"
    path.write_text(text)
    with pytest.raises(AuricleError, match=message):
        read_items(path)


def test_missing_files_and_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(AuricleError, match="cannot open .*none.item"):
        read_items(tmp_path / "none.item")
    (tmp_path / "x.item").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AuricleError, match="no text in UTF-8"):
        read_items(tmp_path / "x.item")


def test_items_find_their_utterances_by_id_or_its_last_part(tmp_path: Path) -> None:
    for name in ("s/one.wav", "t/two.wav", "t/three.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    items = tmp_path / "x.item"
    rows = ["t/two 0 1 A B C s", "one 0 1 A B C s", "t/two 1 2 D B C s"]
    items.write_text("\n".join([HEADER, *rows]))
    task = read_item_task(tmp_path, items)
    assert [Path(one.source).name for one in task.utterances] == ["two.wav", "one.wav"]
    assert [[item.phone for item in of_one] for of_one in task.items] == [["A", "D"], ["A"]]
    assert (task.source, task.span) == ("x.item", "item file")
    items.write_text("\n".join([HEADER, *rows, "four 0 1 A B C s"]))
    with pytest.raises(
        AuricleError, match=r"items of 1 file\(s\) .* first of them 'four'; .*s/one"
    ):
        read_item_task(tmp_path, items)
    (tmp_path / "t/one.wav").touch()
    items.write_text("\n".join([HEADER, *rows]))
    with pytest.raises(AuricleError, match="by 'one' either 's/one' or 't/one'; write the whole"):
        read_item_task(tmp_path, items)
    with pytest.raises(AuricleError, match="leave out --triphone"):
        read_item_task(tmp_path, items, triphones=True)


def test_a_corpus_with_phones_gives_items_without_a_file(librispeech: Path) -> None:
    task = read_item_task(librispeech)
    assert (task.source, task.span, len(task.utterances)) == ("phones.tsv", "phone", 6)
    assert [item.phone for item in task.items[0]] == list("ABCBA")
    assert [item.speaker for item in task.items[2]] == ["1"] * 5
    assert len(read_item_task(librispeech, triphones=True).items[0]) == 3


def test_pauses_alone_are_nothing_to_compare(librispeech: Path) -> None:
    table = librispeech / "phones.tsv"
    header, *rows = table.read_text().splitlines()
    silent = [
        "\t".join([path, "SIL", *rest]) for path, _, *rest in (row.split("\t") for row in rows)
    ]
    table.write_text("\n".join([header, *silent]) + "\n")
    with pytest.raises(AuricleError, match="no phones but pauses"):
        read_item_task(librispeech)


def test_times_in_milliseconds_are_noticed() -> None:
    (item,) = items_of(SPOKEN, triphones=True)
    check_items([item], 0.4)
    with pytest.raises(AuricleError, match="items of b reach 0.5 s, but it ends at -0.6 s"):
        check_items([item], -0.6)
