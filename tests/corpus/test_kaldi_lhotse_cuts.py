from __future__ import annotations

import copy
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from auricle.corpus.kaldi_lhotse import is_lhotse, list_cuts
from auricle.corpus.reading import read_utterance
from auricle.corpus.utterance import Listing, Scope
from auricle.errors import AudioError, MissingExtraError

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


def supervision(name: str, start: float = 0.5, channel: Any = 0) -> Any:
    return lhotse.SupervisionSegment(
        id=name, recording_id="r", start=start, duration=1.25, channel=channel
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


def stereo(channels: list[int], num_channels: int = 2) -> Any:
    return lhotse.MultiCut(
        id="x",
        start=0.5,
        duration=1.0,
        channel=channels,
        recording=recording("a.wav", num_channels=num_channels),
    )


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
        (lambda: cut("x", "https://example.org/a.wav", kind="url"), "type 'url'"),
        (lambda: cut("x", channel=3), "has the channel 3"),
        (lambda: cut("x", "gone.wav"), "No such file"),
        (lambda: cut("x", "../out.wav"), "outside of"),
        (lambda: cut("../x"), "part '..'"),
        (lambda: lhotse.MonoCut(id="x", start=0.0, duration=1.0, channel=0), "no recording"),
        (broken, "Lhotse cannot read it"),
        (lambda: {"id": "x", "type": "Note"}, "expected a MonoCut"),
        (lambda: cut("x", "sox a.wav -t wav - tempo 2 |", kind="command"), "never run"),
        (lambda: stereo([0, 1], num_channels=3), "choose one of them by --channel"),
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


def test_manifests_are_recognised_by_their_fields() -> None:
    assert is_lhotse(cut("x").to_dict())
    assert is_lhotse(recording("a.wav").to_dict())
    assert is_lhotse(supervision("s").to_dict())
    assert not is_lhotse({"path": "a.wav"})
    nemo = {"id": "x", "recording_id": "r", "start": 0, "duration": 1, "audio_filepath": "a.wav"}
    assert not is_lhotse(nemo)


def test_without_lhotse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lhotse.serialization", None)
    with pytest.raises(MissingExtraError, match="pip install lhotse"):
        list_cuts(str(tmp_path / "cuts.jsonl"), Scope())


@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_a_cut_has_the_samples_that_lhotse_reads(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    noise = np.random.default_rng(0).uniform(-1, 1, (3 * rate, 2)).astype(np.float32)
    soundfile.write(path, noise, rate, subtype="FLOAT")
    audio = lhotse.Recording.from_file(path)
    rng = np.random.default_rng(1)
    starts = [*rng.uniform(0, 1.5, 20), 0.5 + 0.5 / rate, 0.25, 0.123]
    seconds = [*rng.uniform(0.01, 1.4, 20), 1 + 0.5 / rate, 0.5 + 0.4 / rate, 0.777]
    cuts = [
        lhotse.MonoCut(id=f"{n}", start=s, duration=d, channel=n % 2, recording=audio)
        for n, (s, d) in enumerate(zip(starts, seconds, strict=True))
    ]
    listing = listed(tmp_path / "cuts.jsonl", cuts)
    for utterance, one in zip(listing.utterances, cuts, strict=True):
        samples = read_utterance(utterance, sample_rate=rate).numpy()
        assert len(samples) == one.num_samples
        assert np.array_equal(samples, one.load_audio()[0])


def test_recordings_are_whole_files(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav", "b.wav")
    two = recording("b.wav", num_channels=2)
    two.id = "r2"
    listing = listed(tmp_path / "recordings.jsonl", [recording("a.wav"), two])
    assert [(u.id, u.source, u.seconds, u.channel) for u in listing.utterances] == [
        ("r", f"{tmp_path}/a.wav", None, 0),
        ("r2", f"{tmp_path}/b.wav", None, None),
    ]
    assert listing.known_seconds == {"r": 10.0, "r2": 10.0}


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_supervisions_with_their_recordings(tmp_path: Path, touch: Touch, suffix: str) -> None:
    touch("a.wav")
    listed(tmp_path / f"x_recordings_dev{suffix}", [recording("a.wav", num_channels=2)])
    items = [supervision("s"), supervision("t", 1.0, [0, 1]), supervision("u", 1.0, 1)]
    lost = supervision("v")
    lost.recording_id = "gone"
    listing = listed(tmp_path / f"x_supervisions_dev{suffix}", [*items, lost])
    assert [(u.id, u.start, u.seconds, u.channel) for u in listing.utterances] == [
        ("s", 0.5, 1.25, 0),
        ("t", 1.0, 1.25, None),
        ("u", 1.0, 1.25, 1),
    ]
    assert "no recording 'gone'" in listing.problems[0].reason


def test_supervisions_alone(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"put x_recordings.jsonl.gz beside it, or pass cuts"):
        listed(tmp_path / "x_supervisions.jsonl", [supervision("s")])


def test_cuts_of_all_channels(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav")
    path = tmp_path / "cuts.jsonl"
    assert [u.channel for u in listed(path, [stereo([0, 1])]).utterances] == [None]
    assert [u.channel for u in listed(path, [stereo([1])]).utterances] == [1]
    path.write_text(json.dumps(stereo([0, 2], num_channels=3).to_dict()))
    (utterance,) = list_cuts(str(path), Scope(channel=2)).utterances
    assert utterance.channel == 2


def test_a_command_that_only_decodes(tmp_path: Path, touch: Touch) -> None:
    touch("a.sph")
    command = "sph2pipe -f wav -p -c 2 a.sph |"
    (utterance,) = listed(tmp_path / "c.jsonl", [cut("x", command, kind="command")]).utterances
    assert (utterance.source, utterance.channel) == (f"{tmp_path}/a.sph", 1)


def test_supervisions_whose_name_leads_to_no_recordings(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"put x_recordings.jsonl.gz \(as x_supervisions.jsonl.gz"):
        listed(tmp_path / "sups.jsonl", [supervision("s")])


def test_labels_are_those_of_a_supervision(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav")
    said = supervision("s")
    said.speaker, said.text, said.custom = "x", "so", {"word": "so"}
    one, none = cut("one"), cut("none")
    one.supervisions = [said]
    path = tmp_path / "cuts.jsonl"
    path.write_text("\n".join(json.dumps(item.to_dict()) for item in (one, none)))
    listing = list_cuts(str(path), Scope(with_labels=True))
    assert [one.labels for one in listing.utterances] == [
        {"speaker": "x", "text": "so", "word": "so"},
        {},
    ]
