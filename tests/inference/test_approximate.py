"""Long audio in windows with overlap."""

from __future__ import annotations

import random
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

import auricle
from auricle.audio.inputs import sample_paths
from auricle.errors import AudioError, AuricleError, LayerError
from auricle.inference import approximate
from auricle.inference.approximate import encode_windows, window_codes, window_layers
from auricle.info import SAMPLE_RATE
from auricle.nn.batch import Batch, as_ints
from auricle.nn.cpu.policy import reference_kernels
from golden_cases import deviation, each_architecture, encoder_names, shared_encoder

EXACT: dict[str, Any] = {
    # Neither statistics nor memory nor attention: a frame depends on its span alone.
    "pase": "all",
    "fbank": "all",
    "cpc": ["encoder"],
    "modified_cpc": ["encoder"],
    "pase_plus": ["block_3", "block_5"],
}
OPTIONS = {"window_seconds": 1.0, "overlap_seconds": 0.4}


def speech(num_samples: int) -> Tensor:
    samples, rate = soundfile.read(sample_paths()[0], dtype="float32", frames=num_samples)
    assert rate == SAMPLE_RATE
    assert len(samples) == num_samples
    return torch.from_numpy(samples)


@pytest.mark.parametrize("name", each_architecture(encoder_names()))
def test_outputs_are_of_the_kind_and_length_of_a_call(name: str) -> None:
    encoder = shared_encoder(name)
    wav = speech(14_234)
    options = {"window_seconds": 0.5, "overlap_seconds": 0.3}
    with torch.inference_mode():
        for layer in (None, 0):
            (output,) = encode_windows(encoder, [wav], layer, **options)
            assert output.shape == encoder([wav], layer)[0].shape
        for names in ("all", [-1, 0]):
            (whole,) = encoder.layers([wav], names)
            (outputs,) = window_layers(encoder, [wav], names, **options)
            assert list(outputs) == list(whole)
            for name, ours in outputs.items():
                assert ours.shape == whole[name].shape
                assert ours.dtype == whole[name].dtype
                assert bool(torch.isfinite(ours).all())


@pytest.mark.parametrize("name", EXACT)
def test_windows_that_see_enough_change_nothing(name: str) -> None:
    encoder = shared_encoder(name)
    rng = random.Random(1)
    infos = encoder.layer_infos
    reach = max(info.geometry.window_samples for info in infos)
    with torch.inference_mode():
        for _ in range(3):
            wav = speech(rng.randrange(12_000, 20_000))
            overlap = (reach + rng.randrange(3) * 17) / SAMPLE_RATE
            window = overlap + rng.uniform(0.02, 0.5)
            (whole,) = encoder.layers([wav], EXACT[name])
            (outputs,) = window_layers(
                encoder,
                [wav],
                EXACT[name],
                window_seconds=window,
                overlap_seconds=overlap,
            )
            for layer, ours in outputs.items():
                assert deviation(ours, whole[layer]) <= 2e-5


@pytest.mark.parametrize("name", ["tera", "wav2vec2_base", "npc", "vq_apc"])
def test_a_frame_is_that_of_the_window_in_whose_middle_it_lies_nearest(name: str) -> None:
    encoder = shared_encoder(name)
    wav = speech(30_011)
    info = encoder.layer_infos[-1]
    hop = info.geometry.hop_samples
    step = (SAMPLE_RATE - 6_400) // hop * hop
    last = (len(wav) - SAMPLE_RATE) // hop * hop
    starts = [*range(0, last, step), last]
    ends = [*(start + SAMPLE_RATE for start in starts[:-1]), len(wav)]
    with torch.inference_mode():
        output = encode_windows(encoder, [wav], -1, **OPTIONS)[0]
        alone = [encoder([wav[start:end]], -1)[0] for start, end in zip(starts, ends, strict=True)]
    assert len(starts) == 3
    for frame, vector in enumerate(output):
        middle = info.geometry.start_samples + frame * hop + info.geometry.window_samples / 2
        distances = [abs(middle - (s + e) / 2) for s, e in zip(starts, ends, strict=True)]
        # The last window may be a little longer than the others, and its middle as much later.
        near = [i for i, distance in enumerate(distances) if distance <= min(distances) + hop]
        candidates = [alone[i][frame - starts[i] // hop] for i in near]
        assert any(torch.allclose(vector, c, rtol=1e-4, atol=1e-4) for c in candidates)
    # Not all from one of them.
    assert not torch.allclose(output[: len(alone[0])], alone[0], rtol=1e-4, atol=1e-4)


def test_waveforms_up_to_a_window_are_encoded_whole_and_order_is_kept() -> None:
    encoder = shared_encoder("tera")
    wavs = [speech(length) for length in (SAMPLE_RATE, 30_000, 9_000)]
    with torch.inference_mode():
        outputs = encode_windows(encoder, wavs, **OPTIONS)
        whole = encoder([wavs[0], wavs[2]])
    assert torch.equal(outputs[0], whole[0])
    assert torch.equal(outputs[2], whole[1])
    assert len(outputs[1]) == encoder.num_frames(30_000)


@pytest.mark.parametrize("name", ["tera", "wav2vec2_base", "vq_wav2vec_kmeans"])
def test_the_result_does_not_depend_on_the_others(name: str) -> None:
    encoder = shared_encoder(name)
    wavs = [speech(30_000), speech(41_234), speech(9_000)]
    with torch.inference_mode():
        together = encode_windows(encoder, wavs, **OPTIONS)
        alone = [encode_windows(encoder, [wav], **OPTIONS)[0] for wav in wavs]
    assert all(torch.equal(*pair) for pair in zip(together[:2], alone[:2], strict=True))
    assert deviation(together[2], alone[2]) <= 1e-4


def test_windows_go_in_batches_within_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = shared_encoder("fbank")
    lengths: list[list[int]] = []
    encode = type(encoder).encode

    def record(self: Any, batch: Batch, wanted: Any) -> Any:
        lengths.append(as_ints(batch.lengths))
        return encode(self, batch, wanted)

    monkeypatch.setattr(type(encoder), "encode", record)
    monkeypatch.setattr(approximate, "MAX_BATCH_SECONDS", 2.5)
    with reference_kernels():  # not one by one, as the CPU infers
        encode_windows(encoder, [speech(44_801)], **OPTIONS)
    assert lengths == [[16_000, 16_000], [16_000, 16_001]]
    monkeypatch.setattr(approximate, "MAX_BATCH_SECONDS", 0.1)
    lengths.clear()
    encode_windows(encoder, [speech(44_801)], **OPTIONS)
    assert [len(batch) for batch in lengths] == [1, 1, 1, 1]


@pytest.mark.parametrize("name", ["npc", "vq_apc", "vq_wav2vec_kmeans", "vq_wav2vec_gumbel"])
def test_codes_are_those_of_the_windows(name: str) -> None:
    encoder = shared_encoder(name)
    wavs = [speech(9_000), speech(30_000)]
    with torch.inference_mode():
        whole = encoder.codes(wavs)
        codes = window_codes(encoder, wavs, **OPTIONS)
        first = encoder.codes([wavs[1][:SAMPLE_RATE]])[0]
    assert torch.equal(codes[0], whole[0])
    assert codes[1].shape == whole[1].shape
    assert codes[1].dtype == torch.int64
    assert torch.equal(codes[1][:40], first[:40])


def test_codes_of_an_encoder_without_a_quantiser_are_an_error() -> None:
    with pytest.raises(AuricleError, match="has no quantiser"):
        window_codes(shared_encoder("tera"), [speech(9_000)], **OPTIONS)


def test_gradients_go_through() -> None:
    encoder = shared_encoder("pase")
    for names in ([-1], "all"):
        wav = speech(20_000).requires_grad_()
        (outputs,) = window_layers(encoder, [wav], names, **OPTIONS)
        sum(output.square().mean() for output in outputs.values()).backward()
        assert wav.grad is not None
        assert bool((wav.grad[:-2000] != 0).float().mean() > 0.9)


def test_waveforms_are_checked_as_by_a_call() -> None:
    encoder = shared_encoder("tera")
    assert encode_windows(encoder, [], **OPTIONS) == []
    with pytest.raises(AudioError, match="waveform 1"):
        encode_windows(encoder, [speech(30_000), torch.zeros(10)], **OPTIONS)
    padded = encode_windows(encoder, [torch.zeros(10)], pad_short=True, **OPTIONS)
    assert len(padded[0]) == encoder.num_frames(encoder.min_samples)
    with pytest.raises(LayerError, match="no layer 'nothing'"):
        encode_windows(encoder, [speech(30_000)], "nothing", **OPTIONS)


@pytest.mark.parametrize(
    ("window", "overlap", "message"),
    [
        (0.01, 0.0, r"window_seconds must be at least 0\.\d+ \(\d+ samples.*but is 0\.01"),
        (1.0, -1.0, r"overlap_seconds must be at least .*but is -1"),
        (1.0, 0.0, r"overlap_seconds must be at least 0\.025 \(400 samples.*but is 0"),
        (1.0, 1.0, r"window_seconds must be longer than overlap_seconds \(1\).*but is 1"),
        (1.0, 0.995, r"window_seconds must be longer than overlap_seconds .*0\.01 .*but is 1"),
        (float("nan"), 1.0, "must be finite numbers"),
        (float("inf"), 1.0, "must be finite numbers"),
    ],
)
def test_windows_that_cannot_be_are_refused(window: float, overlap: float, message: str) -> None:
    with pytest.raises(AuricleError, match=message):
        encode_windows(shared_encoder("tera"), [], window_seconds=window, overlap_seconds=overlap)


def test_the_deprecated_spelling_of_several_layers() -> None:
    wavs = [speech(20_000)]
    for name, is_stacked in (("tera", True), ("cpc", False)):
        encoder = shared_encoder(name)
        with torch.inference_mode():
            (expected,) = window_layers(encoder, wavs, **OPTIONS)
            with pytest.warns(DeprecationWarning, match=r"auricle\.window_layers"):
                (everything,) = encode_windows(encoder, wavs, "all", **OPTIONS)  # type: ignore[arg-type]
            with pytest.warns(DeprecationWarning, match=r"auricle\.window_layers"):
                (last,) = encode_windows(encoder, wavs, [-1], **OPTIONS)  # type: ignore[arg-type]
        rows = everything if is_stacked else everything.values()
        assert all(map(torch.equal, rows, expected.values()))
        assert torch.equal(last[encoder.default_layer], expected[encoder.default_layer])


def test_windows_are_public() -> None:
    assert auricle.encode_windows is encode_windows
    assert auricle.window_layers is window_layers
    assert auricle.window_codes is window_codes
