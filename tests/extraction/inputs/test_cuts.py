from __future__ import annotations

import copy
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auricle.errors import MissingExtraError
from auricle.extraction.inputs.cuts import is_cut, list_cuts
from auricle.extraction.inputs.records import Listing, Scope

lhotse = pytest.importorskip("lhotse")

Touch = Callable[..., list[Path]]


def recording(source: str, kind: str = "file", num_channels: int = 1) -> Any:
    channels = list(range(num_channels))
    return lhotse.Recording(
        id="r",
        sources=[lhotse.AudioSource(type=kind, channels=channels, source=source)],
        sampling_rate=16_000,
        num_samples=160_000,
        duration=10.0,
    )


def cut(name: str, source: str = "a.wav", start: float = 0.5, **options: Any) -> Any:
    channel = options.pop("channel", 0)
    duration = options.pop("duration", 3.25)
    return lhotse.MonoCut(
        id=name,
        start=start,
        duration=duration,
        channel=channel,
        recording=recording(source, **options),
    )


def listed(path: Path, cuts: list[Any]) -> Listing:
    lines = [json.dumps(item if isinstance(item, dict) else item.to_dict()) for item in cuts]
    data = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return list_cuts(str(path), Scope())


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_cuts_of_files(tmp_path: Path, touch: Touch, name: str) -> None:
    touch("s/a.wav", "b.wav")
    listing = listed(
        tmp_path / name,
        [
            cut("ö-1", "s/a.wav"),
            cut("two", str(tmp_path / "b.wav"), channel=1, num_channels=2),
            cut("whole", "b.wav", start=0.0, duration=10.0),
        ],
    )
    assert [(u.id, u.source, u.start, u.seconds, u.channel) for u in listing.utterances] == [
        ("ö-1", str(tmp_path / "s/a.wav"), 0.5, 3.25, 0),
        ("two", str(tmp_path / "b.wav"), 0.5, 3.25, 1),
        ("whole", str(tmp_path / "b.wav"), 0.0, None, 0),
    ]
    assert listing.known_seconds == {"whole": 10.0}
    assert listing.problems == []


def test_a_set_as_lhotse_writes_it(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav")
    path = tmp_path / "cuts.jsonl.gz"
    lhotse.CutSet.from_cuts([cut("x"), cut("y", start=1.0)]).to_file(path)
    assert [u.id for u in list_cuts(str(path), Scope()).utterances] == ["x", "y"]


def broken() -> dict[str, Any]:
    cells: dict[str, Any] = copy.deepcopy(cut("bad").to_dict())
    del cells["recording"]["sources"]
    return cells


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (lambda: cut("x").mix(cut("y")), "got a MixedCut"),
        (lambda: cut("x").pad(duration=5.0), "got a MixedCut"),
        (lambda: cut("x").perturb_speed(1.1), "its `transforms`"),
        (lambda: cut("x").resample(8_000), "its `transforms`"),
        (lambda: cut("x", "sox a.wav |", kind="command"), "type 'command'"),
        (lambda: cut("x", "https://example.org/a.wav", kind="url"), "type 'url'"),
        (lambda: cut("x", channel=3), "has the channel 3"),
        (lambda: cut("x", "gone.wav"), "No such file"),
        (lambda: cut("x", "../out.wav"), "outside of"),
        (lambda: cut("../x"), "part '..'"),
        (lambda: lhotse.MonoCut(id="x", start=0.0, duration=1.0, channel=0), "no recording"),
        (broken, "Lhotse cannot read the cut"),
        (lambda: {"id": "x"}, "expected a MonoCut"),
        (list, "expected a JSON object"),
    ],
)
def test_cuts_that_are_refused(
    tmp_path: Path, touch: Touch, item: Callable[[], Any], reason: str
) -> None:
    touch("in/a.wav", "out.wav")
    value = item()
    wrong = value if isinstance(value, dict | list) else value.to_dict()
    path = tmp_path / "in/cuts.jsonl"
    path.write_text(json.dumps(cut("good").to_dict()) + "\n" + json.dumps(wrong) + "\n")
    listing = list_cuts(str(path), Scope())
    assert [u.id for u in listing.utterances] == ["good"]
    (problem,) = listing.problems
    assert problem.line == 2
    assert reason in problem.reason


def test_cuts_are_told_by_their_type() -> None:
    assert is_cut(cut("x").to_dict())
    assert not is_cut({"path": "a.wav"})


def test_without_lhotse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lhotse.serialization", None)
    with pytest.raises(MissingExtraError, match="pip install lhotse"):
        list_cuts(str(tmp_path / "cuts.jsonl"), Scope())
