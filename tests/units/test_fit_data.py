from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import auricle
from auricle.audio.inputs import sample_paths
from auricle.errors import AuricleError, LayerError
from auricle.models.base import Encoder
from auricle.units.fit import fit_units, state_path
from auricle.units.fit_data import FrameSource


def test_memory_is_bounded_and_frames_are_read_again() -> None:
    reads: list[int] = []
    utterances = list(torch.zeros(30, 40, 5))

    def read(index: int) -> Tensor:
        reads.append(index)
        return utterances[index]

    counted = FrameSource(num_utterances=30, read=read, facts={}, digest="")
    cached = counted.cached(max_bytes=10 * utterances[0].nbytes)
    for _ in range(3):
        for index in range(30):
            assert cached.read(index) is utterances[index]
    assert len(reads) == 30 + 20 + 20


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return auricle.load("tera_mini", device="cpu")


def test_units_of_audio_and_of_a_store_agree(encoder: Encoder, tmp_path: Path) -> None:
    wavs = [str(path) for path in sample_paths()]
    chosen: dict[str, Any] = {"num_clusters": 6, "passes": 2, "batch_frames": 300}
    out = tmp_path / "a.safetensors"
    units = fit_units(wavs, out, model=encoder, layer=2, **chosen)
    assert (units.layer, units.model, units.family) == ("layer_2", "tera_mini", "tera")
    assert auricle.load_units(out).facts() == units.facts()
    assert auricle.load_units(out).centroids.equal(units.centroids)
    assert not state_path(out).exists()
    assert len(encoder.units(wavs, units)) == len(wavs)
    auricle.extract(wavs, tmp_path / "store", model=encoder, layers=[1, 2])
    stored = fit_units(tmp_path / "store", layer="layer_2", **chosen)
    assert stored.weights_digest == units.weights_digest
    assert torch.allclose(stored.centroids, units.centroids, atol=1e-2)
    assert len(stored.load_encoder(device="cpu").units(wavs, stored)) == len(wavs)
    with pytest.raises(LayerError, match="name one of layer_1, layer_2"):
        fit_units(tmp_path / "store", layer=2, **chosen)
    with pytest.raises(AuricleError, match="has frames of tera_mini .tera., not of apc_mini"):
        fit_units(tmp_path / "store", model="apc_mini", layer="layer_2", **chosen)
    with pytest.raises(AuricleError, match="pass model="):
        fit_units(wavs, layer=2, **chosen)
    with pytest.raises(AuricleError, match="safetensors"):
        fit_units(wavs, "x.pt", layer=2, **chosen)
    auricle.extract(wavs[:1], tmp_path / "pooled", model=encoder, layers=[2], pool="mean")
    with pytest.raises(AuricleError, match="no frames of a layer"):
        fit_units(tmp_path / "pooled", layer="layer_2", **chosen)


def test_audio_that_cannot_be_encoded_is_left_out(
    encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    wavs = [*sample_paths()[:1], tmp_path / "bad.wav"]
    units = fit_units(wavs, model=encoder, layer=2, num_clusters=3, passes=1)
    assert units.num_frames
    assert "left out: bad" in caplog.text
