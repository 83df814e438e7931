"""Streams, over every family: what all of them promise, and how the others refuse."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import auricle
from auricle.audio.inputs import sample_paths
from auricle.errors import AudioError, AuricleError, LayerError
from auricle.inference import session as session_module
from auricle.inference.stages import Moments, PerFrame, Step
from auricle.info import Provenance
from auricle.models.base import Encoder
from auricle.models.spectral_transformer import Baseline, BaselineConfig
from golden_cases import BATCH_LIMIT, GoldenCase, deviation, encoder_names, shared_encoder
from streams import CUT_LIMIT, cut_lengths, kept_bytes, streamed

STREAMING = ("apc", "cpc", "modified_cpc", "vq_apc", "vq_wav2vec_gumbel", "vq_wav2vec_kmeans", "wav2vec", "fbank")  # fmt: skip
RUNNING = ("apc", "vq_apc", "vq_wav2vec_gumbel", "vq_wav2vec_kmeans", "wav2vec")
"""Those whose norms run over the utterance."""

every_stream = pytest.mark.parametrize("name", STREAMING)


def speech(num_samples: int = 16_000) -> Tensor:
    samples, _ = soundfile.read(sample_paths()[0], dtype="float32", frames=8_000 + num_samples)
    return torch.from_numpy(samples[8_000:])


def whole(encoder: auricle.Encoder, wav: Tensor, layer: str | None = None) -> Tensor:
    with torch.inference_mode():
        return encoder([wav], layer)[0]


@every_stream
def test_with_its_own_statistics_a_stream_is_the_whole(name: str) -> None:
    encoder = shared_encoder(name)
    wav = speech()
    statistics = encoder.stream_statistics([wav])
    assert bool(statistics.moments) == (name in RUNNING)
    for layer in encoder.info.layers:
        expected = whole(encoder, wav, layer)
        frames = streamed(encoder, wav, [160, 37, 2001], layer=layer, normalisation=statistics)
        assert frames.dtype == torch.float32
        assert deviation(frames, expected) <= BATCH_LIMIT, layer
        if name not in RUNNING:
            exact = streamed(encoder, wav, [5_000], layer=layer)
            assert deviation(exact, expected) <= BATCH_LIMIT, layer


@every_stream
@settings(max_examples=3)
@given(cuts=cut_lengths)
def test_cuts_never_matter(name: str, cuts: list[int]) -> None:
    encoder = shared_encoder(name)
    wav = speech(4_000)
    for layer in {encoder.info.layers[0], encoder.info.default_layer}:
        at_once = streamed(encoder, wav, layer=layer)
        assert len(at_once) == encoder.num_frames(len(wav), layer)
        assert deviation(streamed(encoder, wav, cuts, layer=layer), at_once) <= CUT_LIMIT


@every_stream
def test_a_frame_does_not_know_what_follows(name: str) -> None:
    encoder = shared_encoder(name)
    wav = speech(8_000)
    session, longer = encoder.stream(), encoder.stream()
    frames = session.push(wav[:4_000])
    beginning = longer.push(wav)[: len(frames)]
    assert len(frames) > 20
    assert deviation(beginning, frames) <= CUT_LIMIT


@every_stream
def test_a_frame_comes_out_with_the_last_sample_of_its_span(name: str) -> None:
    encoder = shared_encoder(name)
    wav = speech(1_400)
    session = encoder.stream()
    info = next(info for info in encoder.layer_infos if info.name == session.layer)
    assert session.latency_samples == info.geometry.window_samples
    came = [session.num_samples for sample in wav for _ in session.push(sample[None])]
    expected = [
        info.geometry.start_samples + index * info.geometry.hop_samples + session.latency_samples
        for index in range(len(came))
    ]
    assert len(came) >= 5
    assert came == expected
    assert len(came) + len(session.finish()) == encoder.num_frames(len(wav))


@every_stream
def test_what_is_kept_does_not_grow(name: str) -> None:
    encoder = shared_encoder(name)
    session = encoder.stream()
    session.push(speech(8_000))
    kept = kept_bytes(session)
    assert 0 < kept < 200_000
    for _ in range(20):
        session.push(speech(8_000))
    assert kept_bytes(session) == kept


@every_stream
def test_sessions_do_not_know_of_each_other(name: str) -> None:
    encoder = shared_encoder(name)
    wav, other = speech(4_000), speech(4_000).flip(0)
    expected = streamed(encoder, wav)
    first, second = encoder.stream(), encoder.stream()
    parts = []
    for ours, theirs in zip(wav.split(500), other.split(500), strict=True):
        parts.append(first.push(ours))
        second.push(theirs)
    parts.append(first.finish())
    assert deviation(torch.cat(parts), expected) <= CUT_LIMIT


@pytest.mark.parametrize("name", ["vq_apc", "vq_wav2vec_gumbel", "vq_wav2vec_kmeans"])
def test_codes(name: str) -> None:
    encoder = shared_encoder(name)
    wav = speech(8_000)
    statistics = encoder.stream_statistics([wav])
    codes = streamed(encoder, wav, [333], codes=True, normalisation=statistics)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, encoder.codes([wav])[0])
    assert len(codes.unique()) > 3
    session = encoder.stream(codes=True)
    assert session.layer == encoder.codes_layer
    assert session.push(wav[:0]).shape == (0, codes.shape[1])
    assert session.push(wav).shape == codes.shape
    with pytest.raises(AuricleError, match="leave out layer=0"):
        encoder.stream(0, codes=True)


def test_codes_of_an_encoder_without_them() -> None:
    with pytest.raises(AuricleError, match="apc.* has no quantiser"):
        shared_encoder("apc").stream(codes=True)


def test_a_long_push_goes_through_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = shared_encoder("wav2vec")
    wav = speech(10_000)
    expected = streamed(encoder, wav)
    statistics = encoder.stream_statistics([wav])
    longest: list[int] = []

    def watched(x: Tensor) -> Tensor:
        longest.append(x.shape[2])
        return x

    monkeypatch.setattr(session_module, "CHUNK_SAMPLES", 700)
    monkeypatch.setattr(session_module, "CHUNK_FRAMES", 50)
    session = encoder.stream()
    session._stages.insert(0, PerFrame(watched))
    assert deviation(session.push(wav), expected) <= CUT_LIMIT
    assert max(longest) == 700
    for name, moments in encoder.stream_statistics([wav]).moments.items():
        torch.testing.assert_close(moments.mean, statistics.moments[name].mean)
        torch.testing.assert_close(moments.variance, statistics.moments[name].variance)


def test_inputs_are_checked_and_a_refused_push_leaves_the_stream_as_it_was() -> None:
    encoder = shared_encoder("modified_cpc")
    wav = speech(3_000)
    session = encoder.stream()
    parts = [session.push(wav[:1_000].double())]
    for samples, reason in (
        (wav[None], "expected a 1-D waveform"),
        (torch.zeros(5, dtype=torch.int16), "x / 32768"),
        (torch.tensor([0.0, torch.nan]), "NaN or infinite"),
        ([0.0, 1.0], "got list: push a 1-D float tensor"),
        ((wav, 8_000), "got tuple: push"),
        ("speech.wav", "got str: push"),
    ):
        with pytest.raises(AudioError, match=reason):
            session.push(samples)  # type: ignore[arg-type]
    parts.append(session.push(wav[1_000:2_000].numpy()))
    assert session.push(np.zeros(0, dtype=np.float32)).shape == (0, 32)
    parts.append(session.push(wav[2_000:].clone().requires_grad_()))
    parts.append(session.finish())
    assert deviation(torch.cat(parts), streamed(encoder, wav)) <= CUT_LIMIT
    assert not parts[-2].requires_grad


def test_the_caller_may_write_over_what_was_pushed() -> None:
    encoder = shared_encoder("wav2vec")
    wav = speech(3_000)
    buffer = np.zeros(100, dtype=np.float32)
    session = encoder.stream()
    parts = []
    for samples in wav.split(100):
        buffer[:] = samples.numpy()
        parts.append(session.push(buffer))
        buffer[:] = 9.0
    assert deviation(torch.cat(parts), streamed(encoder, wav)) <= CUT_LIMIT


def test_nothing_follows_the_end() -> None:
    session = shared_encoder("cpc").stream()
    assert len(session.push(speech(3_000))) == 17
    assert len(session.finish()) == 1
    assert session.num_frames == 18
    for act in (session.finish, lambda: session.push(speech(100))):
        with pytest.raises(AuricleError, match="stream has ended: open another"):
            act()


@every_stream
def test_a_stream_too_short_for_a_frame_ends_without_any(name: str) -> None:
    encoder = shared_encoder(name)
    dim = encoder.info.dims[encoder.info.default_layer]
    for num_samples in (0, 1, 150):
        assert streamed(encoder, speech(num_samples)).shape == (0, dim)


def test_a_stream_that_failed_in_the_middle_does_not_go_on() -> None:
    session = shared_encoder("cpc").stream()

    def fail(x: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    session._stages.append(PerFrame(fail))
    with pytest.raises(RuntimeError):
        session.push(speech(1_000))
    with pytest.raises(AuricleError, match="ended"):
        session.push(speech(1_000))


def test_layers_are_looked_up_as_in_a_call() -> None:
    encoder = shared_encoder("apc")
    assert [encoder.stream(layer).layer for layer in (None, 0, -2, "rnn_1")] == [
        "rnn_3", "rnn_1", "rnn_2", "rnn_1"
    ]  # fmt: skip
    with pytest.raises(LayerError, match="rnn_1"):
        encoder.stream("nothing")


def test_training_mode_is_refused() -> None:
    encoder = GoldenCase("apc").load()
    session = encoder.stream()
    encoder.train()
    for act in (
        encoder.stream,
        lambda: session.push(speech(500)),
        session.finish,
        lambda: encoder.stream_statistics([speech(5_000)]),
    ):
        with pytest.raises(AuricleError, match="apc is in training mode.*eval"):
            act()
    encoder.eval()
    assert len(session.push(speech(500))) == 1


# Statistics


def test_statistics_are_of_all_waveforms_together() -> None:
    encoder = Baseline(BaselineConfig(features=auricle.frontends.FbankConfig(cmvn=True))).eval()
    wavs = [speech(5_000), speech(9_000)[3_000:]]
    statistics = encoder.stream_statistics(wavs)
    plain = Baseline(BaselineConfig()).eval()
    frames = torch.cat(plain(wavs)).double()
    moments = statistics.moments["features"]
    torch.testing.assert_close(moments.mean[:, 0], frames.mean(0))
    torch.testing.assert_close(moments.variance[:, 0], frames.var(0))


def test_norms_after_the_first_see_what_the_first_makes_of_all_waveforms() -> None:
    """Twice the same waveform has the statistics of one, whatever the order of the work."""
    encoder = shared_encoder("wav2vec")
    wav = speech(5_000)
    once, twice = encoder.stream_statistics([wav]), encoder.stream_statistics([wav, wav])
    mixed = encoder.stream_statistics([wav, 0.1 * wav.flip(0)])
    assert list(once.moments) == [
        *(f"conv_{index}" for index in range(1, 7)), "z", "agg_1", "agg_2", "agg_3", "context"
    ]  # fmt: skip
    for name, moments in once.moments.items():
        torch.testing.assert_close(moments.variance, twice.moments[name].variance)
        assert not torch.allclose(moments.variance, mixed.moments[name].variance, rtol=1e-3)


def test_statistics_can_be_pickled() -> None:
    encoder = shared_encoder("apc")
    wav = speech(5_000)
    statistics = encoder.stream_statistics([wav])
    again = pickle.loads(pickle.dumps(statistics))
    result = streamed(encoder, wav, normalisation=again)
    assert torch.equal(result, streamed(encoder, wav, normalisation=statistics))


def test_statistics_change_what_comes_out() -> None:
    encoder = shared_encoder("apc")
    wav = speech(5_000)
    other = encoder.stream_statistics([torch.rand(5_000)])
    assert deviation(streamed(encoder, wav, normalisation=other), streamed(encoder, wav)) > 0.1


def test_statistics_of_another_encoder_are_refused() -> None:
    wav = speech(5_000)
    encoder = shared_encoder("apc")
    for name in ("cpc", "wav2vec"):
        statistics = shared_encoder(name).stream_statistics([wav])
        with pytest.raises(AuricleError, match=f"{name}.* not of apc: measure"):
            encoder.stream(normalisation=statistics)
    own = encoder.stream_statistics([wav])
    name, moments = "features", own.moments["features"]
    wrong_shape = Moments(moments.mean[:40], moments.variance[:40])
    known = GoldenCase("apc").load()
    known.provenance = Provenance(sha256="a" * 64)
    assert known.stream(normalisation=own).num_frames == 0
    for statistics in (
        shared_encoder("vq_apc").stream_statistics([wav]),
        replace(own, moments={}),
        replace(own, moments={name: wrong_shape}),
        replace(own, sha256="b" * 64),
    ):
        with pytest.raises(AuricleError, match="not of apc"):
            known.stream(normalisation=statistics)
    with pytest.raises(AuricleError, match="normalisation is 'utterance', expected 'running'"):
        encoder.stream(normalisation="utterance")  # type: ignore[arg-type]
    with pytest.raises(AuricleError, match="normalisation is None"):
        shared_encoder("cpc").stream(normalisation=None)  # type: ignore[arg-type]


def test_statistics_need_waveforms() -> None:
    encoder = shared_encoder("apc")
    with pytest.raises(AudioError, match="no waveforms"):
        encoder.stream_statistics([])
    with pytest.raises(AudioError, match="waveform 1: .*at least 560"):
        encoder.stream_statistics([speech(900), speech(559)])


def test_the_statistics_type_is_public() -> None:
    assert isinstance(shared_encoder("apc").stream_statistics([speech()]), auricle.StreamStatistics)
    assert isinstance(shared_encoder("apc").stream(), auricle.StreamSession)


# Refusals


@pytest.mark.parametrize("name", [name for name in encoder_names() if name not in STREAMING])
def test_what_cannot_stream_says_why_and_what_to_do(name: str) -> None:
    encoder = shared_encoder(name)
    family = encoder.family
    reason = {
        "npc": "its convolutions look ahead",
        "pase": "its convolutions look ahead",
        "baseline": "its front end brings the whole utterance to one level",
    }.get(family, "attention lets every frame depend on the whole utterance")
    if name == "s3prl_fbank":
        reason = "its deltas (delta_order) regress over frames ahead"
    assert encoder.looks_ahead == reason.startswith("attention")
    for act in (encoder.stream, lambda: encoder.stream_statistics([speech()])):
        with pytest.raises(AuricleError) as caught:
            act()
        text = str(caught.value)
        assert text.startswith(f"{encoder.info.name} ({family}) does not stream: {reason}")
        assert "call the encoder on the whole waveform, or stream" in text


class Gain(Baseline):
    """An encoder of a family that gives no steps of a stream, but for those it is made with."""

    steps: tuple[Step, ...] | None = None

    def stream_steps(self) -> Iterator[Step]:
        return Encoder.stream_steps(self) if self.steps is None else iter(self.steps)


def gain(*steps: Step) -> Gain:
    encoder = Gain(BaselineConfig(features=auricle.frontends.FbankConfig())).eval()
    encoder.steps = steps
    return encoder


def test_a_family_gives_the_steps_itself() -> None:
    encoder = gain(Step("features", lambda norm: PerFrame(lambda x: 2 * x)))
    assert torch.equal(encoder.stream().push(torch.ones(3)), torch.full((3, 1), 2.0))


def test_a_family_without_steps_is_refused() -> None:
    encoder = gain()
    encoder.steps = None
    with pytest.raises(
        AuricleError, match="does not stream: its family defines no steps of a stream .*; call"
    ):
        encoder.stream()


def test_steps_must_lead_to_the_layer() -> None:
    with pytest.raises(
        AuricleError, match="its family defines no step of a stream that gives features"
    ):
        gain().stream()


def test_half_precision() -> None:
    encoder = GoldenCase("modified_cpc").load().to(torch.bfloat16)
    frames = streamed(encoder, speech(3_000), [500])
    assert frames.dtype == torch.float32
    with torch.inference_mode():
        expected = encoder([speech(3_000)])[0]
    assert (frames - expected).std() < 0.05 * expected.std()


def test_the_snippets_of_the_page_run() -> None:
    page = (Path(__file__).parents[2] / "docs" / "streaming.md").read_text()
    snippets = [part.partition("```")[0] for part in page.split("```python\n")[1:]]
    assert len(snippets) == 2
    names: dict[str, Any] = {}
    for snippet in snippets:
        exec(snippet, names)
    assert isinstance(names["encoder"], nn.Module)
    assert names["session"].num_frames > 100
