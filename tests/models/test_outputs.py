"""Collating, pooling, weighted sums, and what PyTorch does with an encoder and a head."""

from __future__ import annotations

import copy
import io
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

import auricle
from auricle.audio.files import read_audio
from auricle.audio.inputs import sample_paths
from auricle.errors import AudioError, AuricleError, LayerError
from auricle.models.base import Encoder
from golden_cases import deviation, shared_encoder
from toy_encoder import Halves

LENGTHS = (9_001, 4_000, 7_777)


def waveforms() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(size, generator=generator) for size in LENGTHS]


def examples() -> list[dict[str, object]]:
    return [
        {"waveform": wav, "labels": index, "name": f"wav {index}", "mask": torch.zeros(2)}
        for index, wav in enumerate(waveforms())
    ]


def test_waveforms_of_any_kind_are_padded(tmp_path: Path) -> None:
    wavs = waveforms()
    soundfile.write(tmp_path / "a.wav", wavs[2].numpy(), 16_000, subtype="FLOAT")
    mixed = [wavs[0], (wavs[1].numpy(), 16_000), tmp_path / "a.wav"]
    padded, lengths = auricle.collate(mixed)
    assert (padded.dtype, padded.shape, lengths.dtype) == (torch.float32, (3, 9_001), torch.int64)
    assert lengths.tolist() == [*LENGTHS]
    for row, wav in zip(padded, wavs, strict=True):
        assert torch.equal(row[: len(wav)], wav)
        assert not row[len(wav) :].any()


def test_examples_keep_their_other_values() -> None:
    batch = auricle.collate(examples())
    assert {*batch} == {"waveforms", "lengths", "labels", "name", "mask"}
    assert torch.equal(batch["waveforms"], auricle.collate(waveforms())[0])
    assert batch["labels"].tolist() == [0, 1, 2]
    assert batch["name"] == ["wav 0", "wav 1", "wav 2"]
    assert batch["mask"].shape == (3, 2)
    assert {*auricle.collate([{"waveform": waveforms()[0]}])} == {"waveforms", "lengths"}


def test_what_cannot_be_collated_is_refused() -> None:
    with pytest.raises(AudioError, match="there are no waveforms to pad"):
        auricle.collate([])
    with pytest.raises(AudioError, match=r"example 1 must be a mapping.*'waveform'.*\['audio'\]"):
        auricle.collate([examples()[0], {"audio": waveforms()[0]}])
    with pytest.raises(AudioError, match="example 1 must be a mapping.*but is Tensor"):
        auricle.collate([examples()[0], waveforms()[0]])  # type: ignore[list-item]
    with pytest.raises(AudioError, match="1"):
        auricle.collate([waveforms()[0], torch.tensor([math.nan])])
    with pytest.raises(AudioError, match=r"example 1 has the keys .*those of the first"):
        auricle.collate([examples()[0], {"waveform": waveforms()[0]}])
    with pytest.raises(AudioError, match="none 'waveforms' or 'lengths'"):
        auricle.collate([{"waveform": waveforms()[0], "lengths": 3}])


def test_a_padded_batch_of_a_list_is_that_of_its_tensors() -> None:
    encoder = shared_encoder("apc")
    with torch.no_grad():
        frames, num_frames = encoder.forward_padded(waveforms(), layer=0)
        expected, counts = encoder.forward_padded(*auricle.collate(waveforms()), layer=0)
        arrays, _ = encoder.forward_padded([wav.numpy() for wav in waveforms()], layer=0)
    assert torch.equal(frames, expected)
    assert torch.equal(frames, arrays)
    assert torch.equal(num_frames, counts)
    with pytest.raises(AudioError, match="must be tensors, but are Tensor and NoneType"):
        encoder.forward_padded(torch.zeros(2, 9_000))


@pytest.mark.parametrize("layer", [None, 0])
def test_pooling_is_over_the_frames_of_each_waveform(layer: int | None) -> None:
    encoder = shared_encoder("tera")
    with torch.no_grad():
        outputs = [encoder([wav], layer=layer)[0] for wav in waveforms()]
        for pool, expected in {
            "mean": [x.mean(0) for x in outputs],
            "max": [x.max(0).values for x in outputs],
            "meanstd": [torch.cat([x.mean(0), x.std(0, correction=0)]) for x in outputs],
        }.items():
            vectors = encoder.pooled(waveforms(), pool, layer)  # type: ignore[arg-type]
            assert deviation(vectors, torch.stack(expected)) < 1e-4
    assert encoder.pooled([], "meanstd").shape == (0, 2 * encoder.dim)
    assert encoder.pooled([torch.zeros(100)], pad_short=True).shape == (1, encoder.dim)
    files = sample_paths()
    assert torch.equal(encoder.embed(files), encoder.pooled([read_audio(path) for path in files]))
    with pytest.raises(AuricleError, match="pool must be one of mean, max, meanstd, but is 'sum'"):
        encoder.pooled(waveforms(), "sum")  # type: ignore[arg-type]


def test_facts_of_the_default_layer() -> None:
    encoder = Halves()
    assert (encoder.dim, encoder.sample_rate) == (1, 16_000)
    assert encoder.hop_seconds == 2 / 16_000


@pytest.mark.parametrize("name", ["apc", "tera", "wav2vec2_base", "npc", "hf_whisper"])
def test_centres_are_one_hop_apart_and_those_of_whole_windows(name: str) -> None:
    encoder = shared_encoder(name)
    centres = encoder.frame_centres(20_000)
    spans = encoder.frame_times(20_000)
    assert centres.shape == (encoder.num_frames(20_000),)
    assert torch.allclose(centres.diff(), torch.tensor(encoder.hop_seconds, dtype=torch.float64))
    window = encoder.info.receptive_field.samples / 16_000
    is_whole = (spans[:, 1] - spans[:, 0] - window).abs() < 1e-9
    assert is_whole.any()
    assert torch.allclose(centres[is_whole], spans.mean(1)[is_whole])
    assert centres[0] == encoder.info.receptive_field.centre_samples / 16_000
    first = encoder.frame_centres(20_000, layer=0)
    assert len(first) == encoder.num_frames(20_000, 0)
    assert encoder.frame_centres(0).shape == (0,)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_featurizer_sums_layers_by_the_softmax_of_its_weights(normalize: bool) -> None:
    encoder = shared_encoder("tera")
    featurizer = auricle.Featurizer(encoder, [-1, 0, 1], normalize=normalize)
    names = [encoder.info.layers[index] for index in (-1, 0, 1)]
    assert (featurizer.layers, featurizer.dim) == (names, encoder.dim)
    with torch.no_grad():
        outputs = encoder.layers(waveforms())
        for weights in ([0.0, 0.0, 0.0], [0.0, 1.0, 2.0]):
            featurizer.weights.copy_(torch.tensor(weights))
            shares = dict(zip(names, torch.tensor(weights).softmax(0).tolist(), strict=True))
            for x, states in zip(featurizer(outputs), outputs, strict=True):
                expected = torch.zeros_like(x)
                for name in names:
                    state = states[name]
                    expected += shares[name] * (
                        F.layer_norm(state, state.shape[1:]) if normalize else state
                    )
                assert deviation(x, expected) < 1e-5


def test_a_featurizer_learns_and_is_saved_by_its_weights() -> None:
    encoder = shared_encoder("tera")
    featurizer = auricle.Featurizer(encoder)
    assert featurizer.layers == [*encoder.info.layers]
    sum(x.square().mean() for x in featurizer(encoder.layers(waveforms()))).backward()
    assert featurizer.weights.grad is not None
    for wrong in (encoder(waveforms()), encoder.layers(waveforms())[0], [{"input": torch.ones(1)}]):
        with pytest.raises(LayerError, match=r"outputs must be dicts of .*but one is of"):
            featurizer(wrong)
    assert featurizer.weights.grad.abs().min() > 0
    assert list(featurizer.state_dict()) == ["weights"]
    again = auricle.Featurizer(encoder)
    again.load_state_dict({"weights": torch.arange(float(len(encoder.info.layers)))})
    assert again.weights[-1] == len(encoder.info.layers) - 1
    assert "dim=" in repr(again)


def test_layers_that_cannot_be_summed_are_refused() -> None:
    with pytest.raises(LayerError, match="of one width and rate, but are whole .1., half .1."):
        auricle.Featurizer(Halves())
    with pytest.raises(LayerError, match="but are none"):
        auricle.Featurizer(shared_encoder("tera"), [])
    with pytest.raises(LayerError, match="no layer 99"):
        auricle.Featurizer(shared_encoder("tera"), [99])


class Classifier(nn.Module):
    """An encoder, a weighted sum of its layers and a head."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.featurizer = auricle.Featurizer(encoder)
        self.head = nn.Linear(encoder.dim, 3)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        rows = [row[:n] for row, n in zip(waveforms, lengths.tolist(), strict=True)]
        frames = self.featurizer(self.encoder.layers(rows))
        logits: Tensor = self.head(torch.stack([x.mean(dim=0) for x in frames]))
        return logits


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(copy.deepcopy(shared_encoder("wav2vec2_base"))).eval()


def test_whole_modules_are_copied_and_saved(classifier: Classifier) -> None:
    batch = auricle.collate(waveforms())
    with torch.no_grad():
        expected = classifier(*batch)
        copied = copy.deepcopy(classifier)
        file = io.BytesIO()
        torch.save(classifier, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        file = io.BytesIO()
        torch.save(classifier.state_dict(), file)
        file.seek(0)
        other = Classifier(auricle.build(classifier.encoder.config))
        assert not torch.equal(other.eval()(*batch), expected)
        other.load_state_dict(torch.load(file, weights_only=True))
        for module in (copied, loaded, other):
            assert torch.equal(module(*batch), expected)
        next(copied.encoder.parameters()).add_(1.0)  # a copy shares nothing
        assert torch.equal(classifier(*batch), expected)


# Python 3.12 warns of forks beside threads, those of torch here, which the worker does not use.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_of_a_loader_collate_what_a_head_learns_from(classifier: Classifier) -> None:
    loader = DataLoader(
        [{"waveform": wav.numpy(), "labels": i} for i, wav in enumerate(waveforms())],
        batch_size=2,
        num_workers=1,
        collate_fn=auricle.collate,
    )
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
    lengths = []
    for batch in loader:
        lengths += batch["lengths"].tolist()
        logits = classifier(batch["waveforms"], batch["lengths"])
        loss = F.cross_entropy(logits, batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert lengths == [*LENGTHS]
    assert classifier.featurizer.weights.abs().min() > 0
    assert np.isfinite(loss.item())
