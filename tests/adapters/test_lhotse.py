"""Encoders as feature extractors of Lhotse."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from lhotse import CutSet, MonoCut, Recording, validate
from lhotse.dataset import OnTheFlyFeatures
from lhotse.features.base import FeatureExtractor
from lhotse.features.io import NumpyFilesWriter
from lhotse.utils import compute_num_frames_from_samples

import auricle
from auricle.adapters.lhotse import EncoderFeatures, EncoderFeaturesConfig
from auricle.audio.inputs import sample_paths
from auricle.errors import AudioError, AuricleError, LayerError

LENGTHS = (9_001, 12_345, 9_001)


@pytest.fixture(scope="module")
def extractor() -> EncoderFeatures:
    return EncoderFeatures(EncoderFeaturesConfig(model="apc_mini", layer=1))


@pytest.fixture
def cuts() -> CutSet:
    recording = Recording.from_file(sample_paths()[0])
    return CutSet.from_cuts(
        MonoCut(f"cut-{i}", start=0.5 * i, duration=n / 16_000, channel=0, recording=recording)
        for i, n in enumerate(LENGTHS)
    )


def own(wav: np.ndarray) -> torch.Tensor:
    """What the encoder itself gives of a waveform."""
    with torch.no_grad():
        return auricle.load("apc_mini", device="cpu")([wav.reshape(-1)], layer=1)[0]


def check(features: np.ndarray, wav: np.ndarray) -> None:
    """Features are the encoder's own frames, and two copies of the last one."""
    expected = own(wav)
    expected = torch.cat([expected, expected[-1:], expected[-1:]])
    assert features.dtype == np.float32
    assert features.shape == expected.shape
    assert float((torch.as_tensor(features) - expected).abs().max()) < 1e-4


def test_features_are_the_encoders_frames_and_the_last_one_repeated(
    extractor: EncoderFeatures, cuts: CutSet
) -> None:
    for cut in cuts:
        features = cut.compute_features(extractor)
        assert len(features) == compute_num_frames_from_samples(cut.num_samples, 0.01, 16_000)
        check(features, cut.load_audio())
    assert extractor.frame_shift == 0.01
    assert extractor.feature_dim(16_000) == features.shape[1]
    assert extractor.device == torch.device("cpu")


@pytest.mark.parametrize("method", ["one by one", "batch", "collated"])
def test_stored_features_are_valid_and_read_back(
    method: str, extractor: EncoderFeatures, cuts: CutSet, tmp_path: Path
) -> None:
    if method == "one by one":
        stored = cuts.compute_and_store_features(
            extractor, tmp_path / "x", storage_type=NumpyFilesWriter, progress_bar=False
        )
    else:
        stored = cuts.compute_and_store_features_batch(
            extractor,
            tmp_path / "x",
            batch_duration=1.0,  # the last batch is of one cut
            num_workers=0,
            collate=method == "collated",
            storage_type=NumpyFilesWriter,
        )
    assert len(stored) == len(LENGTHS)
    for cut in stored:
        validate(cut.features, read_data=True)
        assert cut.features.type == "auricle"
        check(cut.load_features(), cut.load_audio())


def test_features_are_computed_on_the_fly(extractor: EncoderFeatures, cuts: CutSet) -> None:
    features, num_frames = OnTheFlyFeatures(extractor, use_batch_extract=True)(cuts)
    assert num_frames.tolist() == [56, 77, 56]
    check(features[0, :56].numpy(), cuts[0].load_audio())
    head = torch.nn.Linear(features.shape[2], 1)
    head(features).sum().backward()  # tensors of inference mode would refuse


def test_batches_are_of_the_form_that_lhotse_gives(extractor: EncoderFeatures) -> None:
    wavs = [np.sin(np.arange(n, dtype=np.float32)) / 9 for n in LENGTHS]
    alone = [extractor.extract(wav, 16_000) for wav in wavs]

    def same(x: object, y: np.ndarray) -> bool:
        return np.allclose(np.asarray(x), y, atol=1e-4)

    mixed = extractor.extract_batch([wav[None] for wav in wavs], 16_000)
    assert isinstance(mixed, list)
    assert all(map(same, mixed, alone))
    equal = extractor.extract_batch(np.stack([wavs[0], wavs[2]]), 16_000)
    assert isinstance(equal, np.ndarray)
    assert same(equal, np.stack([alone[0], alone[2]]))
    tensors = extractor.extract_batch([torch.tensor(wav) for wav in wavs[:2]], 16_000)
    assert all(isinstance(x, torch.Tensor) for x in tensors)
    padded = torch.full((2, max(LENGTHS)), 7.0)
    for row, wav in zip(padded, wavs, strict=False):
        row[: len(wav)] = torch.tensor(wav)
    rows = extractor.extract_batch(padded, 16_000, lengths=torch.tensor(LENGTHS[:2]))
    assert all(map(same, rows, alone))
    (row,) = extractor.extract_batch([wavs[0]], 16_000)
    assert same(row, alone[0])
    assert same(extractor.extract_batch(wavs[0], 16_000), alone[0])
    with pytest.raises(AuricleError, match="2 waveforms, but 3 lengths"):
        extractor.extract_batch(padded, 16_000, lengths=torch.tensor(LENGTHS))


def test_other_rates_are_resampled(extractor: EncoderFeatures) -> None:
    wav = np.sin(np.arange(8_000, dtype=np.float32) / 9) / 9
    features = extractor.extract(wav, 8_000)
    assert features.shape == (100, extractor.feature_dim(8_000))
    with torch.no_grad():
        (expected,) = extractor.encoder([(wav, 8_000)], layer=1)
    assert np.allclose(features[:98], expected, atol=1e-4)


def test_the_configuration_is_written_and_read(tmp_path: Path) -> None:
    config = EncoderFeaturesConfig(model="mel", pad_short=True)
    extractor = EncoderFeatures(config)
    extractor.to_yaml(tmp_path / "features.yaml")
    again = FeatureExtractor.from_yaml(tmp_path / "features.yaml")
    assert isinstance(again, EncoderFeatures)
    assert again.config == config
    copy = pickle.loads(pickle.dumps(again))  # as processes of Lhotse get it
    wav = np.ones(200, dtype=np.float32)
    assert np.array_equal(copy.extract(wav, 16_000), extractor.extract(wav, 16_000))
    assert EncoderFeatures().config.model == "tera_mini"


def test_a_frame_too_many_is_cut() -> None:
    extractor = EncoderFeatures(EncoderFeaturesConfig(model="mel"))
    assert extractor.encoder.num_frames(16_000) == 101
    assert extractor.extract(np.ones((1, 16_000), dtype=np.float32), 16_000).shape == (100, 80)


def test_invalid_inputs_are_refused(extractor: EncoderFeatures) -> None:
    with pytest.raises(AudioError, match="pad_short"):
        extractor.extract(np.zeros(100, dtype=np.float32), 16_000)
    with pytest.raises(AudioError):
        extractor.extract(np.zeros((2, 9_000), dtype=np.float32), 16_000)
    with pytest.raises(AuricleError, match="a length is 9001, but its row has 9000"):
        extractor.extract_batch(np.zeros((1, 9_000)), 16_000, lengths=[9_001])
    assert extractor.extract_batch([], 16_000) == []
    with pytest.raises(LayerError):
        EncoderFeatures(EncoderFeaturesConfig(model="apc_mini", layer=99))


MADE_UP = {
    "wav2vec_mini": {2, 3},
    "fbank": {2},
    "cpc_mini": {0, 1},
    "wav2vec2_mini": {0, 1},
    "hubert_mini": {2, 3},
    "mel": {-1, 0},
}
"""Model -> frames that Lhotse asks for beyond those of the encoder."""


@pytest.mark.parametrize("model", MADE_UP)
def test_frames_are_made_up_as_the_docstring_says(model: str) -> None:
    encoder = auricle.load(model, device="cpu")
    hop = encoder.info.hop_samples
    samples = range(encoder.min_samples, encoder.min_samples + 2 * hop)
    asked = [compute_num_frames_from_samples(n, hop / 16_000, 16_000) for n in samples]
    found = {n - encoder.num_frames(m) for n, m in zip(asked, samples, strict=True)}
    assert found == MADE_UP[model]
