"""Taps within layers and the final norm, against hooks on the modules of golden encoders."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, cast

import pytest
import torch
from torch import Tensor

import auricle
from auricle.errors import AuricleError, LayerError
from auricle.info import FinalNorm
from auricle.models.base import Encoder
from auricle.models.waveform_transformer import WaveformTransformerEncoder
from auricle.nn.cpu.policy import reference_kernels
from auricle.nn.transformer import TransformerLayer
from golden_cases import shared_encoder
from toy_encoder import Halves

POST_NORM = ("hf_wav2vec2_base", "hf_hubert_base", "hf_data2vec_audio", "hf_unispeech_sat_base")
PRE_NORM = ("hf_wav2vec2_large_lv60", "wavlm_official_large")
OTHERS_WITH_FINAL_NORM = ("hf_wav2vec2_conformer_rel", "wav2vec2_conformer_rope", "hf_whisper")
CASES = (*POST_NORM, "hf_wavlm_base_plus", *PRE_NORM)
LIMIT = 1e-4
"""Standard deviations that a batch may differ by from each waveform alone."""

Way = Literal["fast", "reference"]


def way_of(name: Way) -> AbstractContextManager[None]:
    return {"fast": nullcontext, "reference": reference_kernels}[name]()


def encoder_of(case: str) -> WaveformTransformerEncoder:
    return cast("WaveformTransformerEncoder", shared_encoder(case))


def waveforms(encoder: Encoder) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    lengths = (4_001, encoder.min_samples, 9_000)
    return [0.1 * torch.randn(length, generator=generator) for length in lengths]


def hooked(case: str, wav: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of the feed-forward parts and of the layers for a waveform alone, by hooks."""
    encoder = copy.deepcopy(encoder_of(case))
    ffns: list[Tensor] = []
    outputs: list[Tensor] = []
    layers, _ = stack_of(encoder)
    for layer in layers:
        if isinstance(layer, TransformerLayer):
            layer.ffn_out.register_forward_hook(lambda *args: ffns.append(args[2][0]))
        layer.register_forward_pre_hook(lambda _, args: outputs.append(args[0][0]))
    layer.register_forward_hook(lambda *args: outputs.append(args[2][0]))
    with torch.no_grad():
        encoder([wav])
    num_frames = encoder.num_frames(len(wav))  # Whisper computes those of 30 s
    return ffns, [output[:num_frames] for output in outputs]


def stack_of(encoder: Any) -> tuple[Any, Any]:
    """The layers of an encoder and its own norm."""
    if encoder.family == "whisper":
        return encoder.blocks, encoder.norm
    stack = encoder.conformer if "conformer" in encoder.family else encoder.transformer
    return stack.layers, stack.norm


def assert_close(ours: Tensor, expected: Tensor) -> None:
    assert ours.shape == expected.shape
    assert ours.dtype == torch.float32
    assert float((ours - expected).abs().max()) <= LIMIT * float(expected.std())


@pytest.mark.parametrize("way", ["fast", "reference"])
@pytest.mark.parametrize("case", CASES)
def test_a_tap_is_the_output_of_the_feed_forward_part(case: str, way: Way) -> None:
    encoder = encoder_of(case)
    wavs = waveforms(encoder)
    names = [tap.name for tap in encoder.taps]
    assert names == [f"layer_{k}.pre_residual" for k in range(1, len(encoder.layer_infos))]
    with torch.inference_mode(), way_of(way):
        outputs = encoder.layers(wavs, [*reversed(names), "layer_1"])
        single = encoder(wavs, names[-1])
        padded, counts = encoder.forward_padded(
            torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True),
            torch.tensor([len(wav) for wav in wavs]),
            layer=names[0],
        )
    assert list(outputs[0]) == [*reversed(names), "layer_1"]
    for row, wav in enumerate(wavs):
        ffns, _ = hooked(case, wav)
        for name, expected in zip(names, ffns, strict=True):
            assert_close(outputs[row][name], expected)
        assert_close(padded[row, : counts[row]], ffns[0])
    assert_close(single[0], outputs[0][names[-1]])


WORDS: tuple[FinalNorm, ...] = ("keep", "strip", "each")


def outputs_of(
    encoder: Encoder, wavs: list[Tensor], last: str, final_norm: FinalNorm, way: Way
) -> tuple[list[Any], ...]:
    """For each waveform all layers, the second one, and the last one in three ways."""
    with torch.inference_mode(), way_of(way):
        padded, counts = encoder.padded_module(last, final_norm=final_norm)(
            torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True),
            torch.tensor([len(one) for one in wavs]),
        )
        return (
            encoder.layers(wavs, final_norm=final_norm),
            encoder(wavs, 1, final_norm=final_norm),
            encoder(wavs, final_norm=final_norm),
            [row[:count] for row, count in zip(padded, counts, strict=True)],
            auricle.encode_windows(
                encoder, wavs, window_seconds=1, overlap_seconds=0.1, final_norm=final_norm
            ),
        )


@pytest.mark.parametrize("way", ["fast", "reference"])
@pytest.mark.parametrize("case", [*PRE_NORM, *OTHERS_WITH_FINAL_NORM])
def test_the_final_norm_goes_where_it_is_asked_for(case: str, way: Way) -> None:
    encoder = encoder_of(case)
    wavs = waveforms(encoder)
    _, norm = stack_of(encoder)
    last = encoder.layer_infos[-1].name
    given = {final_norm: outputs_of(encoder, wavs, last, final_norm, way) for final_norm in WORDS}
    for row, wav in enumerate(wavs):
        _, raw = hooked(case, wav)
        with torch.no_grad():
            normed = [norm(x) for x in raw]
        expected: dict[FinalNorm, list[Tensor]] = {
            "keep": [*raw[:-1], normed[-1]],
            "strip": raw,
            "each": normed,
        }
        for final_norm, references in expected.items():
            outputs, seconds, *lasts = (each[row] for each in given[final_norm])
            for info, reference in zip(encoder.layer_infos, references, strict=True):
                assert_close(outputs[info.name], reference)
            for output in lasts:
                assert_close(output, references[-1])
            assert_close(seconds, references[1])
    assert float((raw[-1] - normed[-1]).abs().max()) > 0.1


@pytest.mark.parametrize("case", PRE_NORM)
def test_taps_are_the_same_whatever_the_final_norm(case: str) -> None:
    encoder = encoder_of(case)
    wavs = waveforms(encoder)[:1]
    with torch.inference_mode():
        plain, each = (
            encoder(wavs, encoder.taps[-1].name, final_norm=n)[0] for n in ("keep", "each")
        )
    assert torch.equal(plain, each)


def test_nothing_after_a_tap_is_computed() -> None:
    encoder = copy.deepcopy(encoder_of("hf_hubert_base"))
    called: list[int] = []
    for index, layer in enumerate(cast("Any", encoder.transformer.layers)):
        layer.ffn_in.register_forward_hook(lambda *_, index=index: called.append(index))
    with torch.no_grad():
        # A hook on the Transformer would take all states; those on its parts do not.
        encoder(waveforms(encoder)[:1], "layer_1.pre_residual")
    assert called == [0]


def test_taps_are_no_layers() -> None:
    encoder = encoder_of("hf_hubert_base")
    layers = [info.name for info in encoder.layer_infos]
    assert not any("." in name for name in layers)
    assert encoder.info.layers == tuple(layers)
    assert encoder.layer_names("all") == layers
    assert encoder.num_frames(4_001, "layer_1.pre_residual") == encoder.num_frames(4_001)
    assert torch.equal(
        encoder.frame_times(4_001, "layer_1.pre_residual"), encoder.frame_times(4_001)
    )


@pytest.mark.parametrize(
    "name", ["layer_99.pre_residual", "layer_1.attention", "input.pre_residual"]
)
def test_an_unknown_tap_is_refused_with_those_that_there_are(name: str) -> None:
    encoder = encoder_of("hf_hubert_base")
    last = encoder.taps[-1].name
    with pytest.raises(LayerError, match=f"by name, layer_1.pre_residual to {last}$"):
        encoder.layers([], [name])
    with pytest.raises(AuricleError, match="does not stream"):
        encoder.stream("layer_1.pre_residual")


def test_encoders_without_taps_name_families_that_have_them() -> None:
    assert Halves().taps == ()
    message = (
        "no layer 'half.pre_residual'.*it has no taps within layers, which encoders of wav2vec2"
    )
    with pytest.raises(LayerError, match=message):
        Halves()([], "half.pre_residual")
    with pytest.raises(LayerError, match="one of whole, half, quarter$"):
        Halves()([], "none")


@pytest.mark.parametrize("final_norm", ["strip", "each"])
@pytest.mark.parametrize("case", [None, "hf_hubert_base", "w2v_bert"])
def test_encoders_without_a_final_norm_refuse_to_change_it(
    case: str | None, final_norm: FinalNorm
) -> None:
    encoder = Halves() if case is None else encoder_of(case)
    assert not encoder.has_final_norm
    assert encoder.layers([], final_norm="keep") == []
    empty, counts = torch.zeros(0, 1_000), torch.zeros(0, dtype=torch.int64)
    calls: tuple[Callable[[], object], ...] = (
        lambda: encoder([], final_norm=final_norm),
        lambda: encoder.layers([], final_norm=final_norm),
        lambda: encoder.padded_module(final_norm=final_norm),
        lambda: encoder.forward_padded(empty, counts, final_norm=final_norm),
    )
    for call in calls:
        with pytest.raises(AuricleError, match=f"final_norm='{final_norm}' means nothing"):
            call()


def test_words_for_the_final_norm_are_checked() -> None:
    with pytest.raises(AuricleError, match="one of keep, strip, each, but is 'none'"):
        Halves()([], final_norm=cast("FinalNorm", "none"))
