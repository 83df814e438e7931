from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import auricle
from auricle.__main__ import main
from auricle.cli import extract
from auricle.models.base import Encoder

SaveWave = Callable[..., Path]


def extract_as(*arguments: Path | str) -> int:
    return main(["extract", *map(str, arguments)])


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def expected(encoder: Encoder, path: Path, layer: int | str | None = None) -> np.ndarray:
    """What the encoder gives for the file alone."""
    with torch.inference_mode():
        return encoder([path], layer=layer)[0].numpy()


def test_a_tree_of_files_in_batches(
    save_wave: SaveWave, tmp_path: Path, tera_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {
        f"{name}.npy": save_wave(f"in/{name}.wav", num_samples)
        for name, num_samples in (("a", 4000), ("sub/b", 9000), ("sub/c", 2500), ("d", 3999))
    }
    out = tmp_path / "out"
    status = extract_as(
        tmp_path / "in", "--model", tera_checkpoint, "--batch-seconds", "0.6", "--out", out
    )
    assert status == 0
    assert capsys.readouterr() == ("wrote 4 of 4\n", "")
    assert files_in(out) == sorted(paths)
    encoder = auricle.load(tera_checkpoint)
    for name, path in paths.items():
        alone = expected(encoder, path)
        got = np.load(out / name)
        assert got.dtype == np.float32
        assert got.shape == alone.shape
        assert np.abs(got - alone).max() <= 1e-4 * alone.std()


def test_batches_keep_to_the_budget(
    save_wave: SaveWave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    run = extract.Extractor._run

    def count(self: extract.Extractor, waveforms: list[torch.Tensor]) -> list[extract.Output]:
        assert torch.is_inference_mode_enabled() is False
        sizes.append([len(waveform) for waveform in waveforms])
        return run(self, waveforms)

    monkeypatch.setattr(extract.Extractor, "_run", count)
    for index, num_samples in enumerate((1600, 3200, 1600, 4800, 1600)):
        save_wave(f"in/{index}.wav", num_samples)
    assert (
        extract_as(
            tmp_path / "in", "--model", "fbank", "--out", tmp_path / "o", "--batch-seconds", "0.4"
        )
        == 0
    )
    assert sizes == [[4800], [3200, 1600], [1600, 1600]]


@pytest.mark.parametrize("layer", ["1", "-2", "input"])
def test_one_layer(save_wave: SaveWave, tmp_path: Path, tera_checkpoint: Path, layer: str) -> None:
    path = save_wave("a.wav")
    options = ["--model", "tera", "--checkpoint", tera_checkpoint, "--layer", layer]
    assert extract_as(path, *options, "--out", tmp_path) == 0
    number = layer if layer == "input" else int(layer)
    alone = expected(auricle.load(tera_checkpoint), path, number)
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), alone, atol=1e-5)


def test_all_layers_as_one_array(
    save_wave: SaveWave, tmp_path: Path, tera_checkpoint: Path
) -> None:
    path = save_wave("a.wav")
    assert extract_as(path, "--model", tera_checkpoint, "--layer", "all", "--out", tmp_path) == 0
    alone = expected(auricle.load(tera_checkpoint), path, "all")
    assert alone.shape == (4, 26, 48)
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), alone, atol=1e-5)


def test_all_layers_by_name_with_metadata(
    save_wave: SaveWave, tmp_path: Path, tera_checkpoint: Path
) -> None:
    path = save_wave("a.wav")
    options = ["--model", tera_checkpoint, "--layer", "all", "--format", "safetensors"]
    assert extract_as(path, *options, "--out", tmp_path) == 0
    encoder = auricle.load(tera_checkpoint)
    with safe_open(tmp_path / "a.safetensors", framework="np") as file:
        metadata = file.metadata()
        for index, name in enumerate(encoder.info.layers):
            np.testing.assert_allclose(
                file.get_tensor(name), expected(encoder, path, index), atol=1e-5
            )
        assert set(file.keys()) == set(encoder.info.layers)
    assert metadata["family"] == "tera"
    assert metadata["sample_rate"] == "16000"
    assert metadata["hop_samples"] == "160"
    assert metadata["source"] == str(path)
    assert len(metadata["source_sha256"]) == len(metadata["checkpoint_sha256"]) == 64
    assert list(json.loads(metadata["layers"])) == list(encoder.info.layers)


def test_layers_of_different_widths_need_safetensors(
    save_wave: SaveWave,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = save_wave("a.wav")
    checkpoint = tmp_path / "npc.safetensors"
    _npc_with_bottleneck().save(checkpoint)
    options = [path, "--model", checkpoint, "--layer", "all", "--out", tmp_path / "o"]
    assert extract_as(*options) == 1
    assert "use --format safetensors" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
    assert extract_as(*options, "--format", "safetensors") == 0
    with safe_open(tmp_path / "o" / "a.safetensors", framework="np") as file:
        assert file.get_tensor("bottleneck").shape[1] == 4
        assert file.get_tensor("block_1").shape[1] == 8


def _npc_with_bottleneck() -> Encoder:
    from auricle.models.npc import Npc, NpcConfig

    return Npc(NpcConfig(num_blocks=1, hidden_size=8, bottleneck_dim=4, codebooks=())).eval()


def test_a_channel_can_be_chosen(save_wave: SaveWave, tmp_path: Path) -> None:
    path = save_wave("a.wav", num_channels=2)
    arrays = []
    for options in ([], ["--channel", "0"], ["--channel", "1"]):
        assert extract_as(path, "--model", "fbank", "--out", tmp_path, *options) == 0
        arrays.append(np.load(tmp_path / "a.npy"))
    assert not np.allclose(arrays[1], arrays[2])
    from auricle.audio.files import read_audio

    alone = auricle.load("fbank")([read_audio(path, channel=1)])[0].numpy()
    np.testing.assert_array_equal(arrays[2], alone)


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
    assert extract_as(tmp_path / "in", missing, "--model", "fbank", "--out", out) == 1
    captured = capsys.readouterr()
    assert captured.out == "wrote 3 of 7; 4 failed\n"
    lines = captured.err.splitlines()
    assert len(lines) == 4
    for path in (short, text, cut, missing):
        (line,) = (line for line in lines if str(path) in line)
        assert line.startswith("auricle: error: ")
    assert any("at least 400" in line and "--short pad" in line for line in lines)
    assert files_in(out) == ["a.npy", "m.npy", "z.npy"]


def test_a_short_file_can_be_padded(save_wave: SaveWave, tmp_path: Path) -> None:
    path = save_wave("a.wav", 100)
    options = ["--model", "fbank", "--short", "pad", "--out", tmp_path]
    assert extract_as(path, *options) == 0
    assert np.load(tmp_path / "a.npy").shape == (1, 80)


def test_one_file_that_the_encoder_refuses_does_not_take_its_batch_along(
    save_wave: SaveWave,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for index, num_samples in enumerate((3000, 3001, 3002)):
        save_wave(f"in/{index}.wav", num_samples)
    run = extract.Extractor._run

    def refuse(self: extract.Extractor, waveforms: list[torch.Tensor]) -> list[extract.Output]:
        if any(len(waveform) == 3001 for waveform in waveforms):
            raise auricle.errors.AudioError("waveform 0: odd")
        return run(self, waveforms)

    monkeypatch.setattr(extract.Extractor, "_run", refuse)
    out = tmp_path / "o"
    assert extract_as(tmp_path / "in", "--model", "fbank", "--out", out) == 1
    captured = capsys.readouterr()
    assert captured.out == "wrote 2 of 3; 1 failed\n"
    assert captured.err == f"auricle: error: {tmp_path / 'in' / '1.wav'}: waveform 0: odd\n"


def test_a_mistyped_path_alone_loads_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extract, "load_encoder", pytest.fail)
    assert extract_as(tmp_path / "a.wav", "--model", "tera", "--out", tmp_path) == 1
    captured = capsys.readouterr()
    assert captured.out == "wrote 0 of 1; 1 failed\n"
    assert str(tmp_path / "a.wav") in captured.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "terra"], "no model is called 'terra'"),
        (["--model", "fbank", "--layer", "7"], "has no layer 7"),
        (["--model", "gone.ckpt"], "gone.ckpt does not exist"),
        (["--model", "fbank", "--device", "toaster"], "cannot use device 'toaster'"),
    ],
)
def test_wrong_options_are_one_line_and_write_nothing(
    save_wave: SaveWave,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert extract_as(save_wave("a.wav"), *options, "--out", tmp_path / "o") == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_two_files_for_one_output_stop_before_any_work(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [save_wave("a.wav"), save_wave("a.flac")]
    assert extract_as(*paths, "--model", "fbank", "--out", tmp_path / "o") == 1
    assert "would both be written" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_full_disk_stops_at_once_and_leaves_nothing_half_written(
    save_wave: SaveWave,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for index in range(4):
        save_wave(f"in/{index}.wav", 4000 - index)
    calls = []

    def fill(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fill)
    out = tmp_path / "o"
    assert extract_as(tmp_path / "in", "--model", "fbank", "--out", out) == 1
    captured = capsys.readouterr()
    assert captured.out == "wrote 1 of 4; stopped\n"
    assert captured.err.count("\n") == 1
    assert "No space left on device" in captured.err
    assert files_in(out) == ["0.npy"]
    assert len(calls) == 2


def test_an_output_that_cannot_be_replaced_is_one_failure(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_wave("in/a.wav")
    save_wave("in/b.wav")
    out = tmp_path / "o"
    (out / "a.npy").mkdir(parents=True)
    assert extract_as(tmp_path / "in", "--model", "fbank", "--out", out) == 1
    captured = capsys.readouterr()
    assert captured.out == "wrote 1 of 2; 1 failed\n"
    assert "a.npy" in captured.err
    assert files_in(out) == ["b.npy"]


def test_out_that_is_a_file(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_wave("a.wav")
    assert extract_as(path, "--model", "fbank", "--out", path) == 1
    assert "is a file; choose another folder" in capsys.readouterr().err


def test_an_interruption_leaves_whole_files_alone(
    save_wave: SaveWave,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    path = save_wave("a.wav")
    monkeypatch.setattr(os, "fsync", interrupt)
    assert extract_as(path, "--model", "fbank", "--out", tmp_path / "o") == 130
    captured = capsys.readouterr()
    assert captured == ("wrote 0 of 1; stopped\n", "auricle: interrupted\n")
    assert files_in(tmp_path / "o") == []


def test_an_output_that_is_there_is_replaced(save_wave: SaveWave, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_text("old")
    assert extract_as(save_wave("a.wav"), "--model", "fbank", "--out", tmp_path) == 0
    assert np.load(tmp_path / "a.npy").shape == (23, 80)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "lower --batch-seconds"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate"), "--batch-seconds"),
    ],
)
def test_too_little_memory_says_what_to_do(
    save_wave: SaveWave,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    message: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Encoder, "__call__", fail)
    assert extract_as(save_wave("a.wav"), "--model", "fbank", "--out", tmp_path) == 1
    assert message in capsys.readouterr().err


def test_a_fault_of_our_own_is_not_taken_for_a_bad_file(
    save_wave: SaveWave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Encoder, "__call__", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        extract_as(save_wave("a.wav"), "--model", "fbank", "--out", tmp_path)


def test_representations_that_are_no_numbers_are_not_written(
    save_wave: SaveWave,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Encoder, "__call__", lambda *_, **__: [torch.tensor([[1.0, torch.nan]])])
    out = tmp_path / "o"
    assert extract_as(save_wave("a.wav"), "--model", "fbank", "--out", out) == 1
    assert "holds NaN or infinity" in capsys.readouterr().err
    assert not out.exists()
