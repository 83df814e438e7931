from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import auricle
from auricle.extraction import extract as api
from auricle.extraction.run import Summary
from auricle.extraction.worker import Stages
from auricle.models.base import Encoder
from auricle.models.npc import Npc, NpcConfig
from cli.conftest import extract_as

SaveWave = Callable[..., Path]


def alone(encoder: Encoder, path: Path, layer: int | str | None = None) -> np.ndarray:
    """What the encoder gives for the file alone."""
    with torch.inference_mode():
        return encoder([path], layer=layer)[0].numpy()


def errors_in(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]


def test_a_tree_of_files_in_batches(
    save_wave: SaveWave, tmp_path: Path, tera_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {
        name: save_wave(f"in/{name}.wav", num_samples)
        for name, num_samples in (("a", 4000), ("sub/b", 9000), ("sub/c", 2500), ("d", 3999))
    }
    out = tmp_path / "out"
    options = ["--model", tera_checkpoint, "--batch-seconds", "0.6", "--out", out]
    assert extract_as(tmp_path / "in", *options) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    first, second, third = captured.out.splitlines()
    assert first == f"wrote 4 of 4 utterances to {out}"
    assert second.startswith("1.2 s of audio in ")
    assert "x real time" in second
    assert "bottleneck:" in second
    assert third.startswith("read them in Python: auricle.open(")
    store = auricle.open(out)
    assert list(store.ids) == sorted(paths)
    encoder = auricle.load(tera_checkpoint)
    for name, path in paths.items():
        expected = alone(encoder, path)
        got = store[name].numpy()
        assert got.dtype == np.float32
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= 1e-4 * expected.std()
    assert store.meta.model == str(tera_checkpoint)
    assert store.meta.family == "tera"
    assert store.meta.layers[0].hop_samples == 160


def test_the_same_command_again_does_what_is_new(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_wave("in/a.wav", 4000)
    command = [tmp_path / "in", "--model", "fbank", "--out", tmp_path / "out"]
    assert extract_as(*command) == 0
    save_wave("in/b.wav", 5000)
    capsys.readouterr()
    assert extract_as(*command) == 0
    assert "wrote 1 of 1 utterances" in (text := capsys.readouterr().out)
    assert "1 already present" in text
    assert extract_as(*command) == 0
    assert f"no new utterances for {tmp_path / 'out'}; 2 already present" in capsys.readouterr().out
    assert list(auricle.open(tmp_path / "out").ids) == ["a", "b"]


@pytest.mark.parametrize("layer", ["1", "-2", "input"])
def test_one_layer(save_wave: SaveWave, tmp_path: Path, tera_checkpoint: Path, layer: str) -> None:
    path = save_wave("a.wav")
    options = ["--model", "tera", "--checkpoint", tera_checkpoint, "--layer", layer]
    assert extract_as(path, *options, "--out", tmp_path / "o") == 0
    number = layer if layer == "input" else int(layer)
    expected = alone(auricle.load(tera_checkpoint), path, number)
    np.testing.assert_allclose(auricle.open(tmp_path / "o")["a"], expected, atol=1e-5)


@pytest.mark.parametrize("layer", ["all", "input,1,layer_2,-1"])
def test_several_layers(
    save_wave: SaveWave, tmp_path: Path, tera_checkpoint: Path, layer: str
) -> None:
    path = save_wave("a.wav")
    command = [path, "--model", tera_checkpoint, "--layer", layer, "--out", tmp_path / "o"]
    assert extract_as(*command) == 0
    encoder = auricle.load(tera_checkpoint)
    with torch.inference_mode():
        (expected,) = encoder.layers([path])
    got = auricle.open(tmp_path / "o")["a"]
    assert list(got) == list(encoder.info.layers)
    for name, layer_expected in expected.items():
        np.testing.assert_allclose(got[name], layer_expected, atol=1e-5)


def test_layers_of_different_widths(save_wave: SaveWave, tmp_path: Path) -> None:
    path = save_wave("a.wav")
    checkpoint = tmp_path / "npc.safetensors"
    config = NpcConfig(num_blocks=1, hidden_size=8, bottleneck_dim=4, codebooks=())
    Npc(config).eval().save(checkpoint)
    out = tmp_path / "o"
    command = [path, "--model", checkpoint, "--layer", "all", "--format", "npy", "--out", out]
    assert extract_as(*command) == 0
    assert np.load(out / "data" / "bottleneck" / "a.npy").shape[1] == 4
    assert np.load(out / "data" / "block_1" / "a.npy").shape[1] == 8


def test_a_weighted_sum_pooled_in_halves(
    save_wave: SaveWave, tmp_path: Path, tera_checkpoint: Path
) -> None:
    path = save_wave("a.wav")
    options = ["--layer", "0,2", "--weights", "0.25,-2", "--pool", "meanstd", "--dtype", "float16"]
    command = [path, "--model", tera_checkpoint, *options, "--out", tmp_path / "o"]
    assert extract_as(*command) == 0
    encoder = auricle.load(tera_checkpoint)
    total = 0.25 * alone(encoder, path, 0) - 2 * alone(encoder, path, 2)
    got = auricle.open(tmp_path / "o")["a"]
    assert got.dtype == torch.float16
    expected = np.concatenate([total.mean(0), total.std(0)])[None]
    np.testing.assert_allclose(got.float(), expected, atol=2e-3)


def test_codes(save_wave: SaveWave, tmp_path: Path) -> None:
    path = save_wave("a.wav")
    out = tmp_path / "o"
    assert extract_as(path, "--model", "vq_apc_mini", "--codes", "--out", out) == 0
    with torch.inference_mode():
        (expected,) = auricle.load("vq_apc_mini").codes([path])
    assert torch.equal(auricle.open(out)["a"], expected)
    assert auricle.open(out).meta.dtype == "int64"


def test_long_audio_in_windows(save_wave: SaveWave, tmp_path: Path, tera_checkpoint: Path) -> None:
    path = save_wave("a.wav", 48_000)
    command = [path, "--model", tera_checkpoint, "--out", tmp_path / "o"]
    windows = ["--window-seconds", "1", "--overlap-seconds", "0.25"]
    assert extract_as(*command, *windows) == 0
    with torch.inference_mode():
        (expected,) = auricle.encode_windows(
            auricle.load(tera_checkpoint), [path], window_seconds=1, overlap_seconds=0.25
        )
    assert torch.equal(auricle.open(tmp_path / "o")["a"], expected)
    assert auricle.open(tmp_path / "o").meta.selection.window_seconds == 1
    assert extract_as(*command) == 1  # whole is another extraction


def test_a_channel_can_be_chosen(save_wave: SaveWave, tmp_path: Path) -> None:
    path = save_wave("a.wav", num_channels=2)
    arrays = []
    for index, options in enumerate(([], ["--channel", "0"], ["--channel", "1"])):
        out = tmp_path / str(index)
        assert extract_as(path, "--model", "fbank", "--out", out, *options) == 0
        arrays.append(auricle.open(out)["a"].numpy())
    assert not np.allclose(arrays[1], arrays[2])
    from auricle.audio.files import read_audio

    expected = auricle.load("fbank")([read_audio(path, channel=1)])[0].numpy()
    np.testing.assert_array_equal(arrays[2], expected)


def test_bad_files_are_reported_and_do_not_stop_the_rest(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [save_wave(f"in/{name}.wav") for name in ("a", "m", "z")]
    short = save_wave("in/short.wav", 100)
    text = tmp_path / "in" / "text.wav"
    text.write_text("this is no audio")
    cut = tmp_path / "in" / "cut.wav"
    cut.write_bytes(good[0].read_bytes()[:1000])
    missing = tmp_path / "gone.wav"
    out = tmp_path / "out"
    command = [tmp_path / "in", missing, "--model", "fbank", "--out", out]
    assert extract_as(*command) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(f"wrote 3 of 7 utterances to {out}; 4 failed")
    lines = captured.err.splitlines()
    assert len(lines) == 4
    for path in (short, text, cut, missing):
        (line,) = (line for line in lines if str(path) in line)
        assert line.startswith("auricle: error: ")
    assert any("at least 400" in line and "--short pad" in line for line in lines)
    assert list(auricle.open(out).ids) == ["a", "m", "z"]
    assert {Path(entry["source"]) for entry in errors_in(out)} == {short, text, cut, missing}
    save_wave("in/text.wav")
    cut.unlink()
    short.unlink()
    assert extract_as(tmp_path / "in", "--model", "fbank", "--out", out) == 0
    assert list(auricle.open(out).ids) == ["a", "m", "text", "z"]


def test_the_first_bad_file_can_stop_the_run(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_wave("in/a.wav")
    (tmp_path / "in" / "b.wav").write_text("this is no audio")
    out = tmp_path / "out"
    command = [tmp_path / "in", "--model", "fbank", "--out", out]
    assert extract_as(*command, "--on-error", "stop") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "b.wav" in captured.err
    assert "--on-error report" in captured.err
    assert [entry["id"] for entry in errors_in(out)] == ["b"]


def test_rows_of_a_manifest_that_cannot_be_used_are_failures(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_wave("in/a.wav")
    manifest = tmp_path / "in" / "list.csv"
    manifest.write_text("id,path\nuno,a.wav\ndue,gone.wav\ntre,../../a.wav\n")
    out = tmp_path / "out"
    assert extract_as(manifest, "--model", "fbank", "--out", out) == 1
    captured = capsys.readouterr()
    assert f"wrote 1 of 3 utterances to {out}; 2 failed" in captured.out
    assert "list.csv, line 3" in captured.err
    assert [entry["id"] for entry in errors_in(out)] == ["due", "tre"]
    assert list(auricle.open(out).ids) == ["uno"]


def test_an_id_that_the_format_cannot_hold_is_a_failure(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("kaldiio")
    save_wave("in/a b.wav")
    save_wave("in/c.wav")
    out = tmp_path / "out"
    command = [tmp_path / "in", "--model", "fbank", "--format", "kaldi", "--out", out]
    assert extract_as(*command) == 1
    assert "a b" in capsys.readouterr().err
    assert list(auricle.open(out).ids) == ["c"]


def test_a_short_file_can_be_padded(save_wave: SaveWave, tmp_path: Path) -> None:
    path = save_wave("a.wav", 100)
    options = ["--model", "fbank", "--short", "pad", "--out", tmp_path / "o"]
    assert extract_as(path, *options) == 0
    assert auricle.open(tmp_path / "o")["a"].shape == (1, 80)


def test_a_tap_and_the_final_norm(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = Path(__file__).parents[1] / "golden" / "cases"
    path = save_wave("a.wav", 8_000)
    large = golden / "hf_wav2vec2_large_lv60" / "hf"
    options = ["--model", large, "--layer", "1,layer_1.pre_residual", "--final-norm", "each"]
    assert extract_as(path, *options, "--out", tmp_path / "o") == 0
    encoder = auricle.load(large)
    names = ["layer_1", "layer_1.pre_residual"]
    with torch.inference_mode():
        (expected,) = encoder.layers([path], names, final_norm="each")
    store = auricle.open(tmp_path / "o")
    for name in names:
        kept = torch.as_tensor(store.get("a", layer=name))
        torch.testing.assert_close(kept, expected[name], rtol=0, atol=1e-3)
    assert extract_as(path, *options[:-1], "strip", "--out", tmp_path / "o") == 1
    assert "its selection.final_norm is" in capsys.readouterr().err
    base = ["--model", golden / "hf_hubert_base" / "hf", "--final-norm", "each"]
    assert extract_as(path, *base, "--out", tmp_path / "p") == 1
    assert "has no final norm" in capsys.readouterr().err


@pytest.mark.usefixtures("forked_workers")
def test_the_default_device_is_every_gpu(
    save_wave: SaveWave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "all_devices", lambda: ("cpu", "cpu"))
    names = [str(save_wave(f"in/{index}.wav", 4000 + index)) for index in range(4)]
    options = ["--batch-seconds", "0.3", "--shard-mib", "0.001", "--workers", "0"]
    command = [*names, "--model", "fbank", *options, "--out", tmp_path / "o"]
    assert extract_as(*command) == 0
    assert len(auricle.open(tmp_path / "o")) == 4
    assert os.listdir(tmp_path / "o" / "shards")[1:]  # noqa: PTH208 - names alone


@pytest.mark.parametrize(("options", "status"), [(["--streaming"], 1), ([], 0)])
def test_rows_that_failed_before_do_not_look_as_if_they_had_gone_well(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    status: int,
) -> None:
    summary = Summary(
        num_encoded=0,
        num_before=5,
        num_failed=0,
        num_failed_before=8,
        seconds=0.0,
        example=None,
        padding=0.0,
        stages=Stages(),
        num_frames=0,
        num_bytes=0,
    )
    monkeypatch.setattr(api, "extract", lambda *_, **__: summary)
    command = ["hf-dataset://o/n@train", "--model", "fbank", "--out", tmp_path / "o", *options]
    assert extract_as(*command) == status
    text = capsys.readouterr().out
    assert "5 already present; 8 failed in earlier runs" in text
    assert ("streams.json to retry them" in text) == bool(options)


def test_a_dry_run_writes_nothing(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_wave("in/a.wav", 16000).parent
    out = tmp_path / "out"
    assert extract_as(folder, "--model", "fbank", "--out", out, "--dry-run") == 0
    assert not out.exists()
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"dry run: would write 1 utterances to {out}; 0 already present; 0 unreadable"
    assert second.startswith("0.00 h of audio, 98 frames per layer, 0.0 MiB; time: about ")


def test_corpora_of_the_same_names_are_not_mixed(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = save_wave("tr/0001.wav", 4000), save_wave("te/0001.wav", 5000)
    out = tmp_path / "out"
    options = ("--model", "fbank", "--out", out)
    assert extract_as(train, *options) == 0
    assert extract_as(test, *options) == 1
    assert "holds other audio under 1 id" in capsys.readouterr().err
    assert len(auricle.open(out)["0001"]) == len(alone(auricle.load("fbank"), train))
    assert extract_as(test, *options, "--refresh") == 0
    assert len(auricle.open(out)["0001"]) == len(alone(auricle.load("fbank"), test))
    both = ("--model", "fbank", "--out", tmp_path / "both", "--ids", "path")
    assert extract_as(train, test, *both) == 0
    ids = [str(path.with_suffix("")).lstrip("/") for path in (train, test)]
    assert auricle.open(tmp_path / "both").ids == sorted(ids)


def test_the_summary_as_json(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_wave("in/a.wav", 4000)
    (tmp_path / "in/b.wav").write_text("no audio")
    out = tmp_path / "out"
    command = [tmp_path / "in", "--model", "fbank", "--out", out, "--json"]
    assert extract_as(*command, "--dry-run") == 1
    assert json.loads(capsys.readouterr().out)["num_encoded"] == 1
    assert not out.exists()
    assert extract_as(*command) == 1
    summary = json.loads(capsys.readouterr().out)
    assert (summary["num_encoded"], summary["num_failed"], summary["out"]) == (1, 1, str(out))
    assert summary["num_frames"] == auricle.open(out).num_frames("a")
    assert summary["stages"].keys() == {"decoding", "encoding", "writing"}


def test_matrices_of_kaldi_are_compressed(save_wave: SaveWave, tmp_path: Path) -> None:
    path, out = save_wave("in/a.wav", 16_000), tmp_path / "out"
    assert extract_as(path, "--model", "fbank", "--format", "kaldi", "--out", tmp_path / "k") == 0
    options = ["--format", "kaldi", "--compress", "two-byte", "--out", out]
    assert extract_as(path, "--model", "fbank", *options) == 0
    whole, packed = auricle.open(tmp_path / "k"), auricle.open(out)
    assert packed.meta.compression == "two-byte"
    torch.testing.assert_close(packed["a"], whole["a"], rtol=0, atol=1e-3)
    assert (out / "utt2num_frames").read_text() == f"a {whole.num_frames('a')}\n"
