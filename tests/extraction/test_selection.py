from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import auricle
from auricle.audio.files import read_audio
from auricle.audio.inputs import sample_paths
from auricle.errors import AuricleError, LayerError
from auricle.extraction.selection import (
    CODES,
    WEIGHTED_SUM,
    Selection,
    Windows,
)
from auricle.inference.approximate import encode_windows, encoder_sha256, window_codes
from auricle.info import SAMPLE_RATE
from auricle.models.base import Encoder


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return auricle.load("tera_mini")


@pytest.fixture(scope="module")
def waveforms() -> list[torch.Tensor]:
    speech = read_audio(sample_paths()[0], sample_rate=SAMPLE_RATE)
    return [speech[:20_000], speech[3000:17_321]]


def run(encoder: Encoder, waveforms: list[torch.Tensor], *args: Any, **options: Any) -> Any:
    selection = Selection.of(encoder, *args, **options)
    outputs = selection.run(encoder, waveforms)
    kept = selection.kept(encoder)
    for waveform, output in zip(waveforms, outputs, strict=True):
        assert [array.name for array in kept] == list(output)
        assert [array.dim for array in kept] == [x.shape[1] for x in output.values()]
        expected = sum(x.numel() * x.element_size() for x in output.values())
        estimate = selection.num_bytes(encoder, kept, len(waveform) / SAMPLE_RATE)
        assert expected <= estimate <= 1.05 * expected
    return outputs


def test_default_some_and_all_layers(encoder: Encoder, waveforms: list[torch.Tensor]) -> None:
    names = list(encoder.info.layers)
    everything = run(encoder, waveforms, "all")
    assert [list(output) for output in everything] == [names, names]
    (default,) = run(encoder, waveforms[:1])
    assert list(default) == [encoder.info.default_layer]
    some = run(encoder, waveforms, [-1, names[0]])
    assert [list(output) for output in some] == [[names[-1], names[0]]] * 2
    for one, all_layers in zip(some, everything, strict=True):
        for name, x in one.items():
            torch.testing.assert_close(x, all_layers[name], rtol=0, atol=1e-5)


def test_a_weighted_sum(encoder: Encoder, waveforms: list[torch.Tensor]) -> None:
    names = [info.name for info in encoder.layer_infos if info.dim == encoder.layer_infos[-1].dim]
    pair = names[-2:]
    summed = run(encoder, waveforms, pair, weights=[0.25, -2])
    for output, layers in zip(summed, encoder.layers(waveforms, pair), strict=True):
        expected = 0.25 * layers[pair[0]] - 2 * layers[pair[1]]
        torch.testing.assert_close(output[WEIGHTED_SUM], expected, rtol=0, atol=1e-5)


def test_pooling_is_over_valid_frames(encoder: Encoder, waveforms: list[torch.Tensor]) -> None:
    name = encoder.info.default_layer
    for waveform in waveforms:
        x = encoder([waveform])[0]
        pooled = {
            "mean": x.mean(dim=0),
            "max": x.max(dim=0).values,
            "meanstd": torch.cat([x.mean(dim=0), x.var(dim=0, correction=0).sqrt()]),
        }
        for pool, expected in pooled.items():
            (output,) = run(encoder, [waveform], pool=pool)
            torch.testing.assert_close(output[name], expected[None], rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_types(encoder: Encoder, waveforms: list[torch.Tensor], dtype: str) -> None:
    name = encoder.info.default_layer
    narrow = run(encoder, waveforms, dtype=dtype)
    with torch.inference_mode():  # gradients would round otherwise
        exact = encoder(waveforms)
    for x, output in zip(exact, narrow, strict=True):
        assert torch.equal(output[name], x.to(getattr(torch, dtype)))


def test_codes(waveforms: list[torch.Tensor]) -> None:
    encoder = auricle.load("vq_apc_mini")
    for codes, output in zip(
        encoder.codes(waveforms), run(encoder, waveforms, wants_codes=True), strict=True
    ):
        assert output[CODES].dtype == torch.int64
        assert torch.equal(output[CODES], codes)


def test_values_that_a_type_cannot_hold_are_refused(
    encoder: Encoder, waveforms: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = encoder.info.default_layer
    for value, message in ((1e5, "float16 cannot hold"), (math.nan, "NaN or infinity")):
        output = [{name: torch.full((3, 2), value)}]
        monkeypatch.setattr(type(encoder), "layers", lambda *_, output=output, **__: output)
        with pytest.raises(AuricleError, match=message):
            Selection.of(encoder, dtype="float16").run(encoder, waveforms[:1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wants_codes": True}, "no quantiser"),
        ({"wants_codes": True, "layers": [0]}, "leave layers=, weights= and pool= out"),
        ({"layers": []}, "no layer is named"),
        ({"layers": [0, 0]}, "named twice"),
        ({"final_norm": "each"}, "has no final norm"),
        ({"layers": [0, 1], "weights": [1.0]}, "got 1 weight for 2 layers"),
        ({"layers": [1, 2], "weights": [1.0, math.inf]}, "finite"),
    ],
)
def test_selections_that_make_no_sense(
    encoder: Encoder, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(AuricleError, match=message):
        Selection.of(encoder, **options)


def test_layers_of_different_width_cannot_be_summed() -> None:
    encoder = auricle.load("modified_cpc_mini")
    widths = {info.dim: info.name for info in encoder.layer_infos}
    assert len(widths) > 1
    with pytest.raises(AuricleError, match="different width"):
        Selection.of(encoder, list(widths.values())[:2], weights=[1.0, 1.0])


def test_an_unknown_layer(encoder: Encoder) -> None:
    with pytest.raises(LayerError, match="has no layer 'nine'"):
        Selection.of(encoder, ["nine"])


def test_long_audio_in_windows() -> None:
    encoder = auricle.load("tera_mini")
    windows = Windows(window_seconds=1.0, overlap_seconds=0.5)
    selection = Selection.of(encoder, windows=windows)
    wav = read_audio(sample_paths()[0], sample_rate=SAMPLE_RATE)[:40_000]
    with torch.inference_mode():
        (expected,) = encode_windows(encoder, [wav], window_seconds=1.0, overlap_seconds=0.5)
        (whole,) = encoder([wav])
    (got,) = selection.run(encoder, [wav])
    assert torch.equal(got[encoder.default_layer], expected)
    assert not torch.equal(expected, whole)


def test_codes_of_long_audio_in_windows() -> None:
    encoder = auricle.load("vq_apc_mini")
    windows = Windows(window_seconds=1.0, overlap_seconds=0.5)
    selection = Selection.of(encoder, wants_codes=True, windows=windows)
    wav = read_audio(sample_paths()[0], sample_rate=SAMPLE_RATE)[:40_000]
    with torch.inference_mode():
        (expected,) = window_codes(encoder, [wav], window_seconds=1.0, overlap_seconds=0.5)
    assert torch.equal(selection.run(encoder, [wav])[0]["codes"], expected)


@pytest.mark.parametrize("wants_codes", [False, True])
def test_windows_that_cannot_be_are_refused_before_any_work(wants_codes: bool) -> None:
    encoder = auricle.load("vq_apc_mini")
    windows = Windows(window_seconds=1.0, overlap_seconds=2.0)
    with pytest.raises(AuricleError, match="window_seconds must be longer"):
        Selection.of(encoder, wants_codes=wants_codes, windows=windows)


@pytest.fixture
def fresh() -> Encoder:
    return auricle.load("vq_apc_mini")


def test_the_digest_changes_with_all_that_decides_the_output(
    fresh: Encoder, tmp_path: Path
) -> None:
    digest = encoder_sha256(fresh)
    assert len(digest) == 64
    fresh.save(tmp_path / "copy.safetensors")
    copy = auricle.load(tmp_path / "copy.safetensors")
    assert encoder_sha256(copy) == digest

    with torch.no_grad():
        next(copy.parameters()).view(-1)[3] += 1e-3
    assert encoder_sha256(copy) != digest
    assert encoder_sha256(fresh.to(torch.bfloat16)) != digest


def test_the_digest_changes_with_an_option_that_has_no_weight() -> None:
    encoder = auricle.load("fbank")
    other = auricle.load("fbank", config={"cmvn": True})
    assert encoder_sha256(encoder) == encoder_sha256(auricle.load("fbank"))
    assert encoder_sha256(encoder) != encoder_sha256(other)
