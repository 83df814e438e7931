from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
import soundfile
import torch

import auricle
from auricle.audio.inputs import sample_paths
from auricle.errors import AudioError, AuricleError, MissingExtraError, OutputError


@dataclasses.dataclass
class Heard:
    seconds: float = 0.0
    advanced: float = 0.0
    measured: tuple[int, int] = (0, 0)
    reasons: list[str] = dataclasses.field(default_factory=list)

    def start(self, seconds: float, num_utterances: int) -> None:
        self.seconds = seconds

    def measure(self, num_done: int, num_all: int) -> None:
        self.measured = (num_done, num_all)

    def advance(self, seconds: float) -> None:
        self.advanced += seconds

    def fail(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    samples, rate = soundfile.read(sample_paths()[0], dtype="float32")
    folder = tmp_path / "corpus"
    folder.mkdir()
    for index in range(4):
        soundfile.write(folder / f"u{index}.wav", samples[: 6000 + 1000 * index], rate)
    return folder


def test_a_corpus_becomes_a_store(folder: Path, tmp_path: Path) -> None:
    heard = Heard()
    summary = auricle.extract(folder, tmp_path / "out", model="apc_mini", progress=heard)
    assert (summary.num_encoded, summary.num_failed) == (4, 0)
    assert heard.advanced == pytest.approx(heard.seconds) == pytest.approx(summary.seconds)
    assert heard.reasons == []
    assert heard.measured == (4, 4)
    encoder = auricle.load("apc_mini")
    store = auricle.open(tmp_path / "out")
    for index in range(4):
        with torch.inference_mode():
            (expected,) = encoder([folder / f"u{index}.wav"])
        torch.testing.assert_close(store[f"u{index}"], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("output_format", ["store", "npy"])
def test_the_summary_counts_the_frames_and_bytes_that_were_written(
    folder: Path, tmp_path: Path, output_format: str
) -> None:
    def extracted(**options: Any) -> tuple[int, int]:
        summary = auricle.extract(
            folder,
            tmp_path / "out",
            model="apc_mini",
            layers=[0, 1],
            dtype="float16",
            output_format=output_format,
            **options,
        )
        return summary.num_frames, summary.num_bytes

    expected = extracted(dry_run=True)
    assert extracted() == expected
    store = auricle.open(tmp_path / "out")
    arrays = [[store.get(name, layer=layer) for name in store.ids] for layer in store.layers]
    assert expected == (sum(map(len, arrays[0])), sum(x.nbytes for row in arrays for x in row))
    assert extracted() == (0, 0)


def test_an_encoder_that_is_loaded_is_taken_as_it_is(folder: Path, tmp_path: Path) -> None:
    encoder = auricle.load("apc_mini")
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(0.5)
    paths = [folder / "u0.wav", str(folder / "u1.wav")]
    summary = auricle.extract(paths, tmp_path / "out", model=encoder, layers=[0], dtype="float16")
    assert summary.num_encoded == 2
    with torch.inference_mode():
        (expected,) = encoder([folder / "u0.wav"], layer=0)
    got = auricle.open(tmp_path / "out")["u0"]
    torch.testing.assert_close(got.float(), expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(AuricleError, match="model_sha256"):
        auricle.extract(paths, tmp_path / "out", model="apc_mini", layers=[0], dtype="float16")


def test_an_encoder_that_is_loaded_stays_in_its_process(folder: Path, tmp_path: Path) -> None:
    encoder = auricle.load("fbank")
    with pytest.raises(AuricleError, match="pass the name"):
        auricle.extract(folder, tmp_path / "out", model=encoder, devices=["cpu", "cpu"])
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("forked_workers")
def test_a_checkpoint_by_a_relative_path_reaches_other_processes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    auricle.load("apc_mini").save("own.safetensors")
    summary = auricle.extract(
        folder,
        "out",
        model="own.safetensors",
        devices=["cpu", "cpu"],
        shard_bytes=1,
        num_workers=0,
    )
    assert summary.num_encoded == 4
    assert len(auricle.open("out")) == 4


def test_inputs_of_which_nothing_can_be_used(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="gone.wav"):
        auricle.extract(tmp_path / "gone.wav", tmp_path / "out", model="fbank")
    assert not (tmp_path / "out").exists()


def test_a_root_keeps_audio_below_it(folder: Path, tmp_path: Path) -> None:
    (folder / "list.csv").write_text(f"path\n{tmp_path / 'corpus' / 'u0.wav'}\n/u1.wav\n")
    summary = auricle.extract(folder / "list.csv", tmp_path / "out", model="fbank", root=folder)
    assert (summary.num_encoded, summary.num_failed) == (1, 1)


def test_a_data_set_is_read_as_a_stream(folder: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [
        {"id": path.stem, "audio": {"bytes": path.read_bytes(), "path": path.name}}
        for path in sorted(folder.iterdir())
    ]
    table = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio(decode=False))
    saved = tmp_path / "set"
    table.save_to_disk(saved)
    heard = Heard()
    summary = auricle.extract(
        f"hf-dataset://{saved}", tmp_path / "out", streaming=True, progress=heard
    )
    assert (summary.num_encoded, summary.num_failed) == (4, 0)
    assert heard.seconds is None
    store = auricle.open(tmp_path / "out")
    assert list(store.ids) == ["u0", "u1", "u2", "u3"]
    assert store.to_pandas()["source"][2] == f"{saved}:train:2"
    assert auricle.extract(saved, tmp_path / "out", streaming=True).num_before == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "is no data set of Hugging Face"),
        ({"root": "."}, "leave input_format= .* and root= .* out"),
        ({"input_format": "audio"}, "leave input_format= .* and root= .* out"),
        ({"engine": "ray"}, 'pass engine="local"'),
        ({"dry_run": True}, "leave dry_run=True .* or streaming=True"),
    ],
)
def test_what_is_not_streamed(
    folder: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(AuricleError, match=message):
        auricle.extract(folder, tmp_path / "out", streaming=True, **options)
    assert not (tmp_path / "out").exists()


def test_an_encoder_in_training_mode_is_refused(folder: Path, tmp_path: Path) -> None:
    encoder = auricle.load("apc_mini").train()
    with pytest.raises(AuricleError, match=r"encoder.eval\(\)"):
        auricle.extract(folder, tmp_path / "out", model=encoder)
    assert not (tmp_path / "out").exists()


def test_one_layer_one_device_and_a_type_of_torch(folder: Path, tmp_path: Path) -> None:
    auricle.extract(
        folder, tmp_path / "a", model="apc_mini", layers=1, devices="cpu", dtype=torch.float16
    )
    auricle.extract(folder, tmp_path / "b", model="apc_mini", layers="rnn_2", dtype="float16")
    store, other = auricle.open(tmp_path / "a"), auricle.open(tmp_path / "b")
    assert store.layers == other.layers == ("rnn_2",)
    assert torch.equal(store["u0"], other["u0"])
    assert store["u0"].dtype == torch.float16
    with pytest.raises(AuricleError, match=r"float16, bfloat16, but is torch\.int8"):
        auricle.extract(folder, tmp_path / "c", model="apc_mini", dtype=torch.int8)


def test_what_failed_is_not_counted_as_encoded(folder: Path, tmp_path: Path) -> None:
    (folder / "list.csv").write_text("path,start,duration\nu0.wav,0,0.2\nu1.wav,0,1000\n")
    summary = auricle.extract(folder / "list.csv", tmp_path / "out", model="fbank")
    assert (summary.num_encoded, summary.num_failed) == (1, 1)
    assert summary.seconds == pytest.approx(0.2)


def test_another_channel_into_the_same_store_is_refused(folder: Path, tmp_path: Path) -> None:
    auricle.extract(folder, tmp_path / "out", model="fbank", channel=0)
    with pytest.raises(AuricleError, match="its channel is 0, this run's is null"):
        auricle.extract(folder, tmp_path / "out", model="fbank")


def test_what_differs_is_named_as_it_was_asked_for(folder: Path, tmp_path: Path) -> None:
    auricle.extract(folder, tmp_path / "out", model="fbank")
    with pytest.raises(AuricleError, match=r'selection\.pool is null, this run\'s is "mean"'):
        auricle.extract(folder, tmp_path / "out", model="fbank", pool="mean")


GOLDEN = Path(__file__).parents[1] / "golden" / "cases"
LARGE = GOLDEN / "hf_wav2vec2_large_lv60" / "hf"


@pytest.mark.parametrize("output_format", ["store", "npy", "kaldi", "webdataset", "hdf5", "arrow"])
def test_taps_are_layers_of_a_store(folder: Path, tmp_path: Path, output_format: str) -> None:
    names = ["layer_1.pre_residual", "layer_1"]
    encoder = auricle.load(GOLDEN / "hf_hubert_base" / "hf")
    auricle.extract(
        folder, tmp_path / "out", model=encoder, layers=names, output_format=output_format
    )
    store = auricle.open(tmp_path / "out")
    with torch.inference_mode():
        (expected,) = encoder.layers([folder / "u0.wav"], names)
    assert list(store.meta.selection.layers) == names
    for name in names:
        kept = torch.as_tensor(store.get("u0", layer=name))
        torch.testing.assert_close(kept, expected[name], rtol=0, atol=1e-3)


def test_the_final_norm_of_a_store_is_recorded_and_settled(folder: Path, tmp_path: Path) -> None:
    encoder = auricle.load(LARGE)
    options: dict[str, Any] = {"model": encoder, "window_seconds": 0.4, "overlap_seconds": 0.1}
    auricle.extract(folder, tmp_path / "out", final_norm="strip", **options)
    store = auricle.open(tmp_path / "out")
    assert store.meta.selection.final_norm == "strip"
    for name, seconds in (("u0", 10.0), ("u3", 0.4)):
        with torch.inference_mode():
            (expected,) = auricle.encode_windows(
                encoder,
                [folder / f"{name}.wav"],
                window_seconds=seconds,
                overlap_seconds=0.1,
                final_norm="strip",
            )
        torch.testing.assert_close(store[name], expected, rtol=0, atol=1e-4)
    for other in ("keep", "each"):
        message = f'selection.final_norm is "strip", this run\'s is "{other}"'
        with pytest.raises(AuricleError, match=message):
            auricle.extract(folder, tmp_path / "out", final_norm=other, **options)  # type: ignore[arg-type]
    assert auricle.extract(folder, tmp_path / "out", final_norm="strip", **options).num_before == 4


def test_stores_of_earlier_versions_kept_the_final_norm(folder: Path, tmp_path: Path) -> None:
    auricle.extract(folder, tmp_path / "out", model=LARGE)
    path = tmp_path / "out" / "meta.json"
    meta = json.loads(path.read_text())
    assert meta["selection"].pop("final_norm") == "keep"
    path.write_text(json.dumps(meta))
    assert auricle.extract(folder, tmp_path / "out", model=LARGE).num_before == 4
    with pytest.raises(AuricleError, match="final_norm"):
        auricle.extract(folder, tmp_path / "out", model=LARGE, final_norm="each")


def test_a_changed_configuration_is_recorded_and_settled(folder: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "out", {"features": {"cmvn": False}}
    assert auricle.extract(folder, out, model="apc_mini", config=config).num_encoded == 4
    assert json.loads((out / "meta.json").read_text())["config"] == config
    with torch.inference_mode():
        (expected,) = auricle.load("apc_mini", config=config)([folder / "u0.wav"])
    torch.testing.assert_close(auricle.open(out)["u0"], expected, rtol=0, atol=1e-5)
    again = auricle.extract(folder, out, model="apc_mini", config=config)
    assert (again.num_encoded, again.num_before) == (0, 4)
    with pytest.raises(OutputError, match=r"its config is .*false}}, this run\'s is null"):
        auricle.extract(folder, out, model="apc_mini")
    with pytest.raises(OutputError, match="its config is"):
        auricle.extract(folder, out, model=auricle.load("apc_mini", device="cpu"))


def test_stores_of_earlier_versions_recorded_no_changes(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    auricle.extract(folder, out, model="fbank", config={"cmvn": True})
    meta = json.loads((out / "meta.json").read_text())
    assert meta.pop("config") == {"features": {"cmvn": True}}
    (out / "meta.json").write_text(json.dumps(meta))
    assert auricle.extract(folder, out, model="fbank", config={"cmvn": True}).num_encoded == 0
    with pytest.raises(OutputError, match="another extraction"):
        auricle.extract(folder, out, model="fbank")


def test_waveforms_are_no_inputs(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="but got Tensor; waveforms are pairs"):
        auricle.extract([torch.zeros(16_000)], tmp_path, model="fbank")  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (pandas.DataFrame({"path": ["a.wav"]}), r"no audio to extract: .*cannot find .*a\.wav"),
        ({"a": ["a.wav"]}, "no audio to extract: .*a: got a list"),
        (7, "one or a list of them, but got int"),
        (None, "got NoneType"),
    ],
)
def test_what_names_no_files_is_refused_by_its_kind(
    inputs: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(AudioError, match=message):
        auricle.extract(inputs, tmp_path / "out")


def test_ray_is_missed_before_anything_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    out = tmp_path / "out"
    with pytest.raises(MissingExtraError, match="needs ray"):
        auricle.extract(str(folder), str(out), model="fbank", engine="ray")
    assert not out.exists()
