"""Upstreams and featurizers with the interface of s3prl."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import auricle
from auricle.errors import AudioError, AuricleError, LayerError, UnknownModelError
from auricle.s3prl.nn import Featurizer, LengthRule, S3PRLUpstream
from golden_cases import GoldenCase, deviation

LENGTHS = (16_000, 9_001, 799)


def waveforms() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(size, generator=generator) for size in LENGTHS]


def batch() -> tuple[Tensor, Tensor]:
    """The waveforms, with noise in the padding."""
    padded = torch.full((len(LENGTHS), max(LENGTHS)), 7.0)
    for row, wav in zip(padded, waveforms(), strict=True):
        row[: len(wav)] = wav
    return padded, torch.tensor(LENGTHS)


@pytest.mark.parametrize("name", ["wav2vec2_mini", "apc_mini"])
def test_lengths_are_those_of_s3prl_and_the_last_frame_is_repeated(name: str) -> None:
    upstream, encoder = S3PRLUpstream(name), auricle.load(name, device="cpu")
    stride = encoder.info.hop_samples
    with torch.no_grad():
        states, lengths = upstream(*batch())
    assert len(states) == len(lengths) == upstream.num_layers == len(encoder.layer_infos)
    expected = [1 + (count - 1) // stride for count in LENGTHS]
    for state, num_frames, info in zip(states, lengths, encoder.layer_infos, strict=True):
        assert num_frames.tolist() == expected
        assert state.shape == (len(LENGTHS), max(expected), info.dim)
        for index, wav in enumerate(waveforms()):
            with torch.no_grad():
                (alone,) = encoder([F.pad(wav, (0, max(800 - len(wav), 0)))], layer=info.name)
            row, count = state[index], expected[index]
            own = min(count, len(alone))
            assert deviation(row[:own], alone[:own]) < 1e-4
            assert torch.equal(row[own:count], row[own - 1].expand(count - own, -1))
            assert not row[count:].any()


def test_a_frame_too_many_is_cut() -> None:
    upstream = S3PRLUpstream("mel")
    (state,), (lengths,) = upstream(*batch())
    exact = upstream.upstream.encoder.num_frames(torch.tensor(LENGTHS))
    assert exact.tolist() == [101, 57, 5]
    assert lengths.tolist() == [100, 57, 5]
    assert state.shape[1] == 100


def test_exact_lengths_repeat_nothing() -> None:
    upstream = S3PRLUpstream("wav2vec2_mini", lengths="exact")
    encoder = upstream.upstream.encoder
    states, lengths = upstream(*batch())
    assert lengths[0].tolist() == encoder.num_frames(torch.tensor(LENGTHS)).tolist()
    outputs = encoder.layers(waveforms())
    for state, info in zip(states, encoder.layer_infos, strict=True):
        for row, output in zip(state, outputs, strict=True):
            assert torch.equal(row[: len(output[info.name])], output[info.name])


def test_sizes_and_rates() -> None:
    upstream = S3PRLUpstream("cpc_mini")
    encoder = upstream.upstream.encoder
    assert upstream.hidden_sizes == [encoder.info.dims[name] for name in encoder.info.layers]
    assert upstream.downsample_rates == [160, 160]
    assert not upstream.training
    assert not encoder.training
    upstream.train()
    assert encoder.training


def test_quantised_vectors_are_no_hidden_state() -> None:
    upstream = S3PRLUpstream("vq_wav2vec_mini")
    assert "quantized" in upstream.upstream.encoder.info.layers
    assert upstream.upstream.names[0] == "z"
    assert "quantized" not in upstream.upstream.names
    assert upstream.num_layers == len(upstream.upstream.encoder.info.layers) - 1


def test_normalised_states() -> None:
    (plain, *_), _ = S3PRLUpstream("apc_mini")(*batch())
    (normed, *_), _ = S3PRLUpstream("apc_mini", normalize=True)(*batch())
    assert torch.allclose(normed, F.layer_norm(plain, plain.shape[-1:]), atol=1e-6)


def test_a_checkpoint_by_its_path() -> None:
    case = GoldenCase("tera")
    upstream = S3PRLUpstream("tera_local", case.checkpoints[0])
    (expected,) = case.load()([waveforms()[0]])
    states, _ = upstream(waveforms()[0][None, :, None], torch.tensor([LENGTHS[0]]))
    assert torch.equal(states[-1][0], expected[: LENGTHS[0] // 160])


def test_random_weights_follow_the_generator() -> None:
    def weights(seed: int | None) -> dict[str, Tensor]:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        upstream = S3PRLUpstream("apc_mini", randomize=seed is not None, generator=generator)
        return upstream.state_dict()

    plain, first, again, other = (weights(seed) for seed in (None, 0, 0, 1))
    for name in plain:
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], plain[name])
        assert not torch.equal(first[name], other[name])


def test_wrong_arguments() -> None:
    with pytest.raises(AuricleError, match="lengths must be s3prl or exact, but is 'longest'"):
        S3PRLUpstream("apc_mini", lengths="longest")  # type: ignore[arg-type]
    with pytest.raises(AuricleError, match="takes no fairseq: expected ckpt, refresh, config"):
        S3PRLUpstream("apc_mini", extra_conf={"fairseq": True})
    with pytest.raises(AudioError, match=r"\(B, S\) with lengths \(B,\), but are \(2, 9\) with"):
        S3PRLUpstream("apc_mini")(torch.zeros(2, 9), torch.tensor([9]))
    with pytest.raises(UnknownModelError, match=r"Kaldi's, with CMVN.*auricle.load\('mfcc'\)"):
        S3PRLUpstream("mfcc")


@pytest.mark.parametrize("lengths", [[9_000, 9_001], [9_000, -1], [9_000.0, 1.0]])
def test_lengths_are_within_the_batch(lengths: list[float]) -> None:
    with pytest.raises(AudioError, match="whole numbers from 0 to 9000, the samples of wavs"):
        S3PRLUpstream("fbank")(torch.zeros(2, 9_000), torch.tensor(lengths))


def test_a_batch_without_waveforms_is_refused() -> None:
    with pytest.raises(AudioError, match="no waveforms to encode"):
        S3PRLUpstream("fbank")(torch.zeros(0, 9_000), torch.zeros(0, dtype=torch.int64))


def test_gradients_reach_the_weights() -> None:
    upstream = S3PRLUpstream("apc_mini")
    states, _ = upstream(*batch())
    states[-1].square().mean().backward()
    assert all(parameter.grad is not None for parameter in upstream.parameters())


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("selection", [None, [2, 0]])
def test_a_featurizer_sums_by_the_softmax(selection: list[int] | None, normalize: bool) -> None:
    upstream = S3PRLUpstream("apc_mini")
    featurizer = Featurizer(upstream, selection, normalize)
    assert (featurizer.output_size, featurizer.downsample_rate) == (224, 160)
    assert list(featurizer.state_dict()) == ["weights"]
    with torch.no_grad():
        featurizer.weights.copy_(torch.arange(float(len(featurizer.weights))))
        states, lengths = upstream(*batch())
        summed, num_frames = featurizer(states, lengths)
    chosen = [states[index] for index in sorted(selection or range(3))]
    if normalize:
        chosen = [F.layer_norm(state, (224,)) for state in chosen]
    shares = torch.arange(float(len(chosen))).exp()
    expected = sum(
        (share * state for share, state in zip(shares / shares.sum(), chosen, strict=True)),
        torch.zeros(()),
    )
    assert deviation(summed, expected) < 1e-5
    assert torch.equal(num_frames, lengths[0])
    alone, _ = featurizer(states[-1:], lengths[-1:])
    assert alone is states[-1]


def test_a_featurizer_of_one_state_has_no_weights() -> None:
    upstream = S3PRLUpstream("fbank")
    assert dict(Featurizer(upstream).state_dict()) == {}


def test_a_featurizer_refuses_states_that_cannot_be_summed() -> None:
    with pytest.raises(LayerError, match="must be indices from 0 to 2, but are .0, 3."):
        Featurizer(S3PRLUpstream("apc_mini"), [3, 0])
    with pytest.raises(LayerError, match=r"of one width and rate, but are \[160, 256\] wide"):
        Featurizer(S3PRLUpstream("cpc_mini"))


@pytest.mark.parametrize("lengths", ["s3prl", "exact"])
def test_copies_give_the_same(lengths: LengthRule) -> None:
    upstream = S3PRLUpstream("apc_mini", lengths=lengths)
    with torch.no_grad():
        expected, _ = upstream(*batch())
        upstream.load_state_dict(copy.deepcopy(upstream.state_dict()))
        states, _ = copy.deepcopy(upstream)(*batch())
    assert all(map(torch.equal, states, expected))
