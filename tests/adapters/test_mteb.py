"""What MTEB asks for; `make judges` runs MTEB itself, which is too heavy for these tests."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import auricle
from auricle.adapters.mteb import MtebEncoder
from auricle.errors import AudioError, AuricleError, MissingExtraError


def batch(*lengths: int, rate: int = 16_000) -> dict[str, list[dict[str, object]]]:
    generator = np.random.default_rng(0)
    sounds = [0.1 * generator.standard_normal(length) for length in lengths]  # float64, as decoded
    return {"audio": [{"array": sound, "sampling_rate": rate} for sound in sounds]}


def test_embeddings_are_means_of_a_layer_whatever_the_batch() -> None:
    model = MtebEncoder("tera_mini", layer="layer_1")
    found = model.encode([batch(4_000, 3_000), batch(10)], batch_size=2)
    assert found.shape == (3, 192)
    assert found.dtype == np.float32
    second = batch(4_000, 3_000)["audio"][1]["array"]
    assert isinstance(second, np.ndarray)
    alone = auricle.load("tera_mini").pooled([second.astype(np.float32)], layer="layer_1")
    np.testing.assert_allclose(found[1], alone.detach()[0], rtol=0, atol=1e-5)


def test_sounds_are_resampled_from_their_rate() -> None:
    model = MtebEncoder("fbank", pool="meanstd")
    slow = batch(4_000, rate=8_000)
    (sound,) = slow["audio"]
    assert isinstance(sound["array"], np.ndarray)
    expected = model.encoder.pooled([(sound["array"].astype(np.float32), 8_000)], "meanstd")
    np.testing.assert_allclose(model.encode([slow]), expected, rtol=0, atol=1e-5)


def test_what_cannot_be_pooled_is_refused_at_once() -> None:
    with pytest.raises(AuricleError, match="pool must be one of mean, max, meanstd"):
        MtebEncoder("fbank", pool="median")  # type: ignore[arg-type]
    with pytest.raises(AuricleError, match="cannot use device 'nowhere'"):
        MtebEncoder("fbank", device="nowhere")
    model = MtebEncoder("fbank", pool="meanstd")
    assert model.encode([]).shape == (0, 160)
    integers = {"audio": [{"array": np.ones(4_000, np.int16), "sampling_rate": 16_000}]}
    with pytest.raises(AudioError, match="int16 samples.*x / 32768"):
        model.encode([integers])


def test_similarities_are_cosines() -> None:
    model = MtebEncoder("fbank")
    x, y = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 2.0], [6.0, 8.0]])
    torch.testing.assert_close(model.similarity(x, y), torch.tensor([[0.0, 0.6], [0.8, 1.0]]))
    torch.testing.assert_close(model.similarity_pairwise(x, y), torch.tensor([0.0, 1.0]))


def test_the_description_names_what_results_are_filed_under() -> None:
    model = MtebEncoder("tera_mini", pool="max")
    try:
        import mteb  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match="mteb"):
            _ = model.mteb_model_meta
    else:
        assert model.mteb_model_meta.name == "auricle/tera_mini-layer_3-max"
        assert model.mteb_model_meta.revision == model.revision
    assert model.revision == (auricle.load("tera_mini").info.sha256 or "")[:40]
    assert MtebEncoder("fbank", "mine").revision == "mine"
