"""What HEAR asks for: https://hearbenchmark.com/hear-api.html."""

from __future__ import annotations

import pytest
import torch

from auricle.adapters import hear
from auricle.errors import AudioError, LayerError

SECONDS = 1.07


def audio(num_samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(2, num_samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["fbank", "mel", "tera_mini", "pase_mini", "wav2vec2_mini"])
def test_frames_come_with_regular_times_in_milliseconds(name: str) -> None:
    model = hear.load_model(name)
    sounds = audio(int(SECONDS * model.sample_rate))
    embeddings, timestamps = hear.get_timestamp_embeddings(sounds, model)
    assert embeddings.dtype == timestamps.dtype == torch.float32
    assert embeddings.shape == (*timestamps.shape, model.timestamp_embedding_size)
    steps = timestamps.diff()
    assert torch.allclose(steps, torch.tensor(1000 * model.encoder.hop_seconds), atol=1e-3)
    assert 0 <= timestamps.min() < 50
    assert 1000 * SECONDS - 50 < timestamps.max() <= 1000 * SECONDS
    (alone,) = model.encoder([sounds[1]])
    torch.testing.assert_close(embeddings[1], alone, rtol=0, atol=1e-4)
    centres = 1000 * model.encoder.frame_centres(sounds.shape[1])
    torch.testing.assert_close(timestamps[1].double(), centres, rtol=0, atol=1e-3)


def test_a_scene_is_the_mean_over_all_frames() -> None:
    model = hear.load_model("tera_mini")
    scenes = hear.get_scene_embeddings(audio(8_000), model)
    assert scenes.shape == (2, model.scene_embedding_size)
    embeddings, _ = hear.get_timestamp_embeddings(audio(8_000), model)
    torch.testing.assert_close(scenes, embeddings.mean(dim=1))
    assert not scenes.requires_grad


def test_a_layer_is_named_after_the_model() -> None:
    model = hear.load_model("tera_mini#layer_1")
    embeddings, _ = hear.get_timestamp_embeddings(audio(4_000), model)
    (expected,) = model.encoder([audio(4_000)[0]], "layer_1")
    torch.testing.assert_close(embeddings[0], expected, rtol=0, atol=1e-5)
    with pytest.raises(LayerError, match="no layer 'layer_9'"):
        hear.load_model("tera_mini#layer_9")
    assert hear.load_model("tera_mini#-2").layer == "layer_2"


@pytest.mark.parametrize("shape", [(0, 4_000), (4_000,)])
def test_what_is_no_batch_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(AudioError, match=r"must be \(B, S\), one sound or more"):
        hear.get_timestamp_embeddings(torch.zeros(shape), hear.load_model("fbank"))


def test_without_a_path_there_is_a_model_and_short_sounds_are_padded() -> None:
    model = hear.load_model()
    embeddings, timestamps = hear.get_timestamp_embeddings(audio(100), model)
    assert embeddings.shape[1] == timestamps.shape[1] >= 1
