"""Audio of a program as inputs: pairs, loaders, tables, Lhotse cuts, data sets; lists of paths."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import lhotse
import numpy as np
import pandas
import pytest
import soundfile
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import auricle
from auricle.errors import AudioError, AuricleError, OutputError
from auricle.extraction.extract import Silence
from auricle.models.base import Encoder

IDS = ["s/one", "s/two", "three"]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return auricle.load("apc_mini", device="cpu")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder of the test's own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.fixture
def wavs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(4000 + 700 * index, generator=generator) / 4
        for index, name in enumerate(IDS)
    }


@pytest.fixture
def files(wavs: dict[str, Tensor], tmp_path: Path) -> dict[str, Path]:
    """The same waveforms as files."""
    paths = {name: tmp_path / "corpus" / f"{name}.wav" for name in wavs}
    for name, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, wavs[name].numpy(), 16_000, subtype="FLOAT")
    return paths


@pytest.fixture
def holds(encoder: Encoder, wavs: dict[str, Tensor], tmp_path: Path) -> Callable[..., bool]:
    """Whether a store has the representations of the waveforms; options are its own."""

    def check(inputs: Any, **options: Any) -> bool:
        out = tmp_path / "out"
        summary = auricle.extract(inputs, out, model=encoder, **options)
        store = auricle.open_store(out)
        with torch.no_grad():
            expected = dict(zip(wavs, encoder([*wavs.values()]), strict=True))
        assert summary.num_failed == 0
        return store.ids == sorted(wavs) and all(
            torch.allclose(store.get(name), expected[name], atol=1e-5) for name in store
        )

    return check


def batches(wavs: dict[str, Tensor]) -> DataLoader[Any]:
    examples = [{"id": name, "waveform": wav} for name, wav in wavs.items()]
    return DataLoader(examples, batch_size=2, collate_fn=auricle.collate)  # type: ignore[arg-type]


FORMS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "pairs": lambda wavs: [*wavs.items()],
    "arrays": lambda wavs: [(name, wav.numpy()) for name, wav in wavs.items()],
    "with rates": lambda wavs: [(name, (wav, 16_000)) for name, wav in wavs.items()],
    "dict": lambda wavs: wavs,
    "generator": lambda wavs: (pair for pair in wavs.items()),
    "loader of pairs": lambda wavs: DataLoader([*wavs.items()], 2, collate_fn=list),  # type: ignore[arg-type]
    "loader of collate": batches,
}


@pytest.mark.parametrize("form", FORMS)
def test_waveforms_of_a_program(
    form: str, wavs: dict[str, Tensor], holds: Callable[..., bool]
) -> None:
    assert holds(FORMS[form](wavs))
    assert not list(Path(tempfile.gettempdir()).iterdir())


def test_rows_of_a_data_set(
    wavs: dict[str, Tensor], files: dict[str, Path], holds: Callable[..., bool]
) -> None:
    """With bytes of files, and with samples; as a stream too."""
    as_bytes = [{"bytes": path.read_bytes(), "path": None} for path in files.values()]
    rows = datasets.Dataset.from_dict({"id": IDS, "audio": as_bytes})
    assert holds(rows.cast_column("audio", datasets.Audio()))
    assert holds(rows.to_iterable_dataset())
    samples = [{"array": wav.tolist(), "sampling_rate": 16_000} for wav in wavs.values()]
    assert holds(datasets.Dataset.from_dict({"id": IDS, "speech": samples}), refresh=True)


def test_a_stream_does_not_choose_among_files(files: dict[str, Path], tmp_path: Path) -> None:
    paths = [{"bytes": None, "path": str(path)} for path in files.values()]
    stream = datasets.Dataset.from_dict({"audio": paths}).to_iterable_dataset()
    with pytest.raises(AudioError, match="the row holds no audio in its columns audio"):
        auricle.extract(stream, tmp_path / "out", model="fbank")


def test_cuts_are_parts_of_their_files(
    files: dict[str, Path], holds: Callable[..., bool], tmp_path: Path
) -> None:
    """Of those that Lhotse computes, the samples are taken."""
    recordings = [
        lhotse.Recording.from_file(path, recording_id=name) for name, path in files.items()
    ]
    cuts = [recording.to_cut() for recording in recordings]
    named = [cut.with_id(recording.id) for cut, recording in zip(cuts, recordings, strict=True)]
    whole = named[2].pad(0.1).truncate(duration=named[2].duration).with_id(IDS[2])
    assert holds(lhotse.CutSet.from_cuts(named))
    frame = auricle.open_store(tmp_path / "out").to_pandas().set_index("id")
    assert frame.loc["s/two", "source"] == str(files["s/two"])
    mixed = lhotse.CutSet.from_cuts([*named[:2], whole])
    assert holds(mixed, refresh=True)


def test_a_table_and_lists_of_paths(
    files: dict[str, Path],
    holds: Callable[..., bool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = [str(path.relative_to(tmp_path)) for path in files.values()]
    assert holds(pandas.DataFrame({"id": IDS, "path": relative}))
    listed = tmp_path / "corpus" / "files.txt"
    listed.write_text("s/one.wav\n\ns/two.wav\r\n" + str(files["three"]))
    assert holds(listed)
    monkeypatch.chdir(tmp_path / "corpus")
    monkeypatch.setattr("sys.stdin", io.StringIO("s/one.wav\n./s/two.wav\nthree.wav\n"))
    assert holds("-")


def test_a_run_goes_on_and_notices_other_audio(
    encoder: Encoder, wavs: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After an interruption, with more waveforms, and with another one under an id."""

    def interrupted() -> Iterator[tuple[str, Tensor]]:
        yield IDS[0], wavs[IDS[0]]
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        auricle.extract(interrupted(), out, model=encoder)
    assert not list(Path(tempfile.gettempdir()).iterdir())
    assert auricle.extract([*wavs.items()][:2], out, model=encoder).num_encoded == 2
    again = auricle.extract(wavs, out, model=encoder)
    assert (again.num_before, again.num_encoded) == (2, 1)
    assert not auricle.extract([(IDS[0], wavs[IDS[0]])], out, model=encoder).num_encoded
    assert not caplog.records  # waveforms that are not passed again are no lost files
    with pytest.raises(OutputError, match="holds other audio under 1 id"):
        auricle.extract({IDS[1]: wavs[IDS[0]]}, out, model=encoder)


class Interrupting(Silence):
    """Ends a run once the first batch is encoded."""

    def advance(self, seconds: float) -> None:
        """Stop."""
        raise KeyboardInterrupt


def test_the_plan_of_a_stopped_run_is_gone_on_with(
    encoder: Encoder, wavs: dict[str, Tensor], tmp_path: Path
) -> None:
    """The same waveforms lie in the same files again."""
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        auricle.extract(wavs, out, model=encoder, batch_seconds=0.1, progress=Interrupting())
    summary = auricle.extract(iter(wavs.items()), out, model=encoder, batch_seconds=0.1)
    assert summary.num_before + summary.num_encoded == 3
    assert summary.num_before > 0
    assert len(list((out / "plans").iterdir())) == 1


def test_what_cannot_be_encoded_is_a_failure(
    encoder: Encoder, wavs: dict[str, Tensor], tmp_path: Path
) -> None:
    pairs = [("nan", torch.full((9000,), torch.nan)), ("/", wavs["three"]), *wavs.items()]
    summary = auricle.extract(pairs, tmp_path / "out", model=encoder)
    assert (summary.num_encoded, summary.num_failed) == (3, 2)
    errors = (tmp_path / "out" / "errors.jsonl").read_text()
    assert "NaN" in errors
    assert "absolute path" in errors


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ([("a", np.zeros(9000, "f4")), ("a", np.zeros(9000, "f4"))], {}, "'a' comes twice"),
        ([("a", np.zeros(9000, "f4")), "b.wav"], {}, "got str among the waveforms; inputs are"),
        (DataLoader([torch.zeros(9000)]), {}, "a batch of the DataLoader is Tensor; inputs are"),
        ({"a": np.zeros(9000, "f4")}, {"streaming": True}, "leave streaming= and engine= out"),
        ({"a": np.zeros(9000, "f4")}, {"root": "/"}, "got root='/'"),
        (pandas.DataFrame({"audio": [np.zeros(9000)]}), {}, "column of paths holds ndarray: pass"),
    ],
)
def test_other_forms_are_refused(
    inputs: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(AuricleError, match=message):
        auricle.extract(inputs, tmp_path / "out", model="fbank", **options)
