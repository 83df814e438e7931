"""The contract, over every architecture of the golden cases and every baseline."""

from __future__ import annotations

import copy
import random
from contextlib import AbstractContextManager, nullcontext
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import auricle
from auricle.audio.inputs import sample_paths
from auricle.errors import AudioError, AuricleError, LayerError
from auricle.info import SAMPLE_RATE
from auricle.models.base import Encoder
from auricle.nn import transformer
from auricle.nn.conformer import ConformerBlock
from auricle.nn.cpu import policy
from auricle.nn.cpu.policy import reference_kernels
from auricle.nn.transformer import TransformerLayer
from golden_cases import (
    BATCH_LIMIT,
    deviation,
    each_architecture,
    each_set_of_modules,
    encoder_names,
    shared_encoder,
)

every_encoder = pytest.mark.parametrize("name", each_architecture(encoder_names()))
every_set_of_modules = pytest.mark.parametrize("name", each_set_of_modules(encoder_names()))
LONGEST, THIRTY_SECONDS = 3 * SAMPLE_RATE // 2, 30 * SAMPLE_RATE


@cache
def speech() -> Tensor:
    samples, rate = soundfile.read(sample_paths()[0], dtype="float32")
    assert rate == SAMPLE_RATE
    return torch.from_numpy(samples)


def hard_waveforms(shortest: int, seed: int) -> list[Tensor]:
    """Sixteen waveforms from the minimum to 1.5 s: speech, silence, tones, offsets, faint noise."""
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    voice = speech()
    time = torch.arange(9_000) / SAMPLE_RATE

    def cut(length: int) -> Tensor:
        start = rng.randrange(max(len(voice) - length, 1))
        return voice[start : start + length].clone()

    inside = cut(12_000)
    inside[4_000:8_000] = 0.0
    return [
        cut(shortest),
        0.1 * torch.randn(shortest + 1, generator=generator),
        torch.zeros(shortest + rng.randrange(400)),
        torch.zeros(9_000),
        0.5 * torch.sin(2 * torch.pi * 100 * time),
        0.5 * torch.sin(2 * torch.pi * 440 * time),
        cut(8_000) + 0.05,
        torch.full((9_000,), 0.3),
        1e-6 * torch.randn(9_000, generator=generator),
        torch.cat([torch.zeros(4_000), cut(6_000)]),
        torch.cat([cut(6_000), torch.zeros(4_000)]),
        inside,
        cut(rng.randrange(shortest, 15_000)),
        cut(rng.randrange(15_000, 20_000)),
        torch.randn(16_000, generator=generator).clamp(-1, 1),
        long_speech(LONGEST),
    ]


def long_speech(num_samples: int) -> Tensor:
    voice = speech()
    return voice.repeat(num_samples // len(voice) + 1)[:num_samples]


@lru_cache
def hard_waveforms_alone(name: str) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """The waveforms, and every layer of each of them alone."""
    encoder = shared_encoder(name)
    wavs = hard_waveforms(encoder.min_samples, seed=len(name))
    return wavs, [every_layer(encoder, [wav])[0] for wav in wavs]


def either_way(way: str) -> AbstractContextManager[None]:
    """How the CPU infers, or how other devices do: padded batches, torch's own kernels."""
    return reference_kernels() if way == "padded" else nullcontext()


WAYS = ("as the CPU infers", "padded")


@every_encoder
def test_the_batch_never_matters(name: str) -> None:
    encoder = shared_encoder(name)
    wavs, alone = hard_waveforms_alone(name)
    # The CPU encodes one after the other; elsewhere all are padded to the longest.
    for seed, (way, count) in enumerate(zip(WAYS, (5, len(wavs)), strict=True)):
        order = random.Random(seed).sample(range(len(wavs)), count)
        with either_way(way):
            batched = every_layer(encoder, [wavs[index] for index in order])
        for index, output in zip(order, batched, strict=True):
            assert_near(output, alone[index], (way, index))


@every_set_of_modules
def test_a_long_one_in_chunks_beside_the_shortest_never_matters(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = shared_encoder(name)
    wavs, alone = hard_waveforms_alone(name)
    has_attention = any(
        isinstance(part, (TransformerLayer, ConformerBlock)) for part in encoder.modules()
    )
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 12_500 if has_attention else 250_000)
    monkeypatch.setattr(transformer, "LONG_CHUNKS", 1)
    for way in WAYS:
        with either_way(way):
            batched = every_layer(encoder, [wavs[0], wavs[-1]])
        for index, output in zip((0, -1), batched, strict=True):
            assert_near(output, alone[index], (way, index))


@pytest.mark.whole  # a second and a half in chunks goes the same way
@every_encoder
def test_thirty_seconds_beside_the_shortest_never_matter(name: str) -> None:
    encoder = shared_encoder(name)
    wavs = [speech()[: encoder.min_samples], long_speech(THIRTY_SECONDS)]
    alone = [every_layer(encoder, [wav])[0] for wav in wavs]
    for way in WAYS:
        with either_way(way):
            batched = every_layer(encoder, wavs)
        for index, output in enumerate(batched):
            assert_near(output, alone[index], (way, index))


def every_layer(encoder: Encoder, wavs: list[Tensor]) -> list[dict[str, Tensor]]:
    with torch.inference_mode():
        return encoder.layers(wavs)


def assert_near(output: dict[str, Tensor], alone: dict[str, Tensor], where: object) -> None:
    for layer, ours in output.items():
        assert deviation(ours, alone[layer]) <= BATCH_LIMIT, (where, layer)


@every_encoder
@pytest.mark.parametrize("way", WAYS)
def test_codes_never_depend_on_the_batch(name: str, way: str) -> None:
    encoder = shared_encoder(name)
    if encoder.codes_layer is None:
        with pytest.raises(AuricleError, match="has no quantiser"):
            encoder.codes([speech()])
        return
    assert encoder.codes([]) == []
    wavs = [speech()[:20_000], speech()[5_000:9_000], speech()[:30_000]]
    with torch.inference_mode():
        with either_way(way):
            together = encoder.codes(wavs)
        for wav, codes in zip(wavs, together, strict=True):
            assert codes.dtype == torch.int64
            assert codes.min() >= 0
            assert len(codes) == encoder.num_frames(len(wav), encoder.codes_layer)
            assert codes.shape[1] == encoder.num_codebooks
            assert torch.equal(codes, encoder.codes([wav])[0])


@every_encoder
def test_layers_by_index_by_name_and_all_at_once_agree(name: str) -> None:
    encoder = shared_encoder(name)
    info = encoder.info
    wav, shorter = (speech()[: encoder.min_samples + extra] for extra in (5_000, 2_000))
    with torch.inference_mode():
        (everything,) = encoder.layers([wav])
        assert list(everything) == list(info.layers)
        for index, layer in enumerate(info.layers):
            for key in (layer, index, index - len(info.layers)):
                assert torch.equal(encoder([wav], layer=key)[0], everything[layer])
            assert everything[layer].shape == (
                encoder.num_frames(len(wav), layer),
                info.dims[layer],
            )
            assert everything[layer].dtype == torch.float32
        assert torch.equal(encoder([wav])[0], everything[info.default_layer])
        last, first = info.layers[-1], info.layers[0]
        for keys in ([last, first], (-1, 0)):
            several = encoder.layers([wav, shorter], keys)[0]
            assert list(several) == list(dict.fromkeys((last, first)))
            for layer, x in several.items():
                torch.testing.assert_close(x, everything[layer], rtol=0, atol=1e-3)
        assert encoder.layers([wav], []) == [{}]


@every_encoder
def test_a_layer_that_is_not_there_is_an_error_that_lists_those_that_are(name: str) -> None:
    encoder = shared_encoder(name)
    count = len(encoder.info.layers)
    for layer in ("nothing", count, -count - 1, True, 0.5):
        with pytest.raises(LayerError, match=encoder.info.layers[0]):
            encoder([speech()], layer=layer)  # type: ignore[call-overload]


@every_encoder
@settings(deadline=None, max_examples=6)
@given(data=st.data())
def test_num_frames_is_exact(name: str, data: st.DataObject) -> None:
    encoder = shared_encoder(name)
    shortest = encoder.min_samples
    num_samples = data.draw(
        st.integers(shortest, shortest + 700) | st.integers(shortest, shortest + 8_000)
    )
    with torch.inference_mode():
        (outputs,) = encoder.layers([speech()[:num_samples]])
    for layer, output in outputs.items():
        assert encoder.num_frames(num_samples, layer) == len(output)
    counts = encoder.num_frames(torch.tensor([[num_samples, 0], [shortest, 99_999]]))
    assert counts.tolist() == [
        [encoder.num_frames(num_samples), 0],
        [encoder.num_frames(shortest), encoder.num_frames(99_999)],
    ]


@every_encoder
def test_the_minimum_is_the_shortest_that_works(name: str) -> None:
    encoder = shared_encoder(name)
    shortest = encoder.min_samples
    wav = speech()[: shortest + 50]
    with torch.inference_mode():
        for output in encoder.layers([wav[:shortest]])[0].values():
            assert len(output) >= 1
            assert output.isfinite().all()
        if shortest > 1:
            too_short = wav[: shortest - 1]
            assert encoder.num_frames(shortest - 1) == 0
            with pytest.raises(AudioError, match=rf"1.*{shortest - 1}.*{shortest}"):
                encoder([wav, too_short])
            padded = encoder([wav, too_short], pad_short=True)[1]
            zero = torch.cat([too_short, torch.zeros(1)])
            assert deviation(padded, encoder([zero])[0]) <= BATCH_LIMIT


@every_encoder
def test_frame_times_follow_the_geometry(name: str) -> None:
    encoder = shared_encoder(name)
    for layer in encoder.info.layers:
        geometry = next(info for info in encoder.layer_infos if info.name == layer).geometry
        times = encoder.frame_times(16_000, layer)
        assert times.shape == (encoder.num_frames(16_000, layer), 2)
        assert (times >= 0).all()
        assert (times <= 1).all()
        assert (times[:, 1] > times[:, 0]).all()
        middle = times[len(times) // 2 : len(times) // 2 + 2]
        if len(middle) == 2 and geometry.window_samples < 4_000:
            step = (middle[1] - middle[0]) * SAMPLE_RATE
            assert step.tolist() == pytest.approx([geometry.hop_samples] * 2)
            assert float(middle[0, 1] - middle[0, 0]) * SAMPLE_RATE == pytest.approx(
                geometry.window_samples
            )


@every_encoder
def test_info_says_what_the_encoder_is(name: str) -> None:
    encoder = shared_encoder(name)
    info = encoder.info
    assert info.family == encoder.family
    assert info.sample_rate == SAMPLE_RATE
    assert info.default_layer in info.layers
    assert set(info.dims) == set(info.layers)
    assert info.num_parameters == sum(p.numel() for p in encoder.parameters())
    default = next(i for i in encoder.layer_infos if i.name == info.default_layer).geometry
    assert info.hop_samples == default.hop_samples
    assert info.receptive_field.samples == default.window_samples
    assert info.min_samples == encoder.min_samples


@every_encoder
def test_gradients_reach_the_waveform_and_every_used_weight(name: str) -> None:
    encoder = copy.deepcopy(shared_encoder(name)).train()
    wavs = [speech()[:9_000].requires_grad_(), speech()[20_000:26_000].requires_grad_()]
    torch.manual_seed(0)
    outputs = encoder(wavs)
    sum((output.square().mean() for output in outputs), torch.zeros(())).backward()
    for wav in wavs:
        assert wav.grad is not None
        assert wav.grad.isfinite().all()
        assert wav.grad.abs().sum() > 0
    parameters = list(encoder.named_parameters())
    if parameters:
        first = parameters[0][1]
        assert first.grad is not None
        assert first.grad.abs().sum() > 0
        assert all(p.grad is None or p.grad.isfinite().all() for _, p in parameters)


@every_encoder
def test_loading_gives_eval_mode_and_possible_gradients(name: str) -> None:
    encoder = shared_encoder(name)
    assert not encoder.training
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@every_set_of_modules
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_give_float32_outputs_near_the_exact_ones(
    name: str, dtype: torch.dtype
) -> None:
    exact = shared_encoder(name)
    encoder = copy.deepcopy(exact).to(dtype)
    wavs = [speech()[:16_000], speech()[16_000:25_000]]
    with torch.inference_mode():
        for output, reference in zip(encoder(wavs), exact(wavs), strict=True):
            assert output.dtype == torch.float32
            error = (output - reference).square().mean().sqrt() / reference.std()
            assert error < 0.25  # rounding the weights of hf_omniasr alone gives 0.21


@every_encoder
def test_saving_and_loading_gives_the_same_encoder(name: str, tmp_path: Path) -> None:
    encoder = shared_encoder(name)
    path = tmp_path / "model.safetensors"
    encoder.save(path)
    again = auricle.load(path)
    assert again.config == encoder.config
    assert again.provenance == encoder.provenance
    with torch.inference_mode():
        assert torch.equal(again([speech()[:9_000]])[0], encoder([speech()[:9_000]])[0])


@every_set_of_modules
def test_every_kind_of_input_gives_the_same(name: str, tmp_path: Path) -> None:
    encoder = shared_encoder(name)
    wav = speech()[:16_000]
    path = tmp_path / "speech.wav"
    soundfile.write(path, wav.numpy(), SAMPLE_RATE, subtype="FLOAT")
    inputs = [wav, wav.numpy(), wav.double(), path, str(path), (wav, SAMPLE_RATE)]
    with torch.inference_mode():
        (alone,) = encoder([wav])
        for output in encoder(inputs):
            assert deviation(output, alone) <= BATCH_LIMIT
        half_rate = encoder([(wav.numpy()[::2].copy(), SAMPLE_RATE // 2)])[0]
        assert len(half_rate) == encoder.num_frames(16_000)
    assert encoder([]) == []


@pytest.mark.parametrize("name", ["apc", "mel", "pase", "wav2vec2_base"])  # by front end
@pytest.mark.parametrize(
    ("wav", "reason"),
    [
        (torch.zeros(0), "empty"),
        (torch.zeros(2, 16_000), "2-D|1-D"),
        (torch.zeros(16_000, dtype=torch.int16), "int16"),
        (np.zeros(16_000, dtype=np.int16), "int16"),
        (torch.full((16_000,), float("nan")), "NaN|nan"),
        (torch.full((16_000,), float("inf")), "inf"),
        (None, "None"),
        ("missing.wav", "missing.wav"),
    ],
)
def test_bad_input_names_its_index_and_the_reason(name: str, wav: object, reason: str) -> None:
    encoder = shared_encoder(name)
    with pytest.raises(AudioError, match=rf"(?s)\b1\b.*({reason})"):
        encoder([speech()[:16_000], wav])  # type: ignore[list-item]


def test_moving_an_encoder_moves_its_outputs() -> None:
    encoder: Encoder = copy.deepcopy(shared_encoder("apc"))
    assert encoder.to("cpu", torch.float64)([speech()[:9_000]])[0].dtype == torch.float32
    assert encoder.device == torch.device("cpu")
    assert encoder.dtype == torch.float64
