from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

import auricle
from auricle.audio.inputs import sample_paths
from auricle.errors import AuricleError, CheckpointError, LayerError, OutputError
from auricle.models.base import Encoder
from auricle.units.codebook import Units, deduplicate, known_sha256, load_units, text_line


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reference(centroids: Tensor, x: Tensor) -> Tensor:
    """Units by all distances in float64."""
    differences = x.double().unsqueeze(1) - centroids.double()
    return differences.square().sum(dim=2).argmin(dim=1).int()


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return auricle.load("tera_mini", device="cpu")


@pytest.fixture(scope="module")
def units(encoder: Encoder) -> Units:
    info = encoder.layer_info("layer_2")
    return Units(
        centroids=normal(1, 20, info.dim),
        layer="layer_2",
        model="tera_mini",
        family=encoder.family,
        weights_digest=known_sha256(encoder),
    )


def test_stages_encode_residuals() -> None:
    units = Units(centroids=normal(3, 10, 4), layer="a")
    x = normal(60, 4, seed=2)
    codes = units.assign(x)
    assert codes.shape == (60, 3)
    for stage in range(3):
        assert codes[:, stage].equal(reference(units.centroids[stage], x))
        x = x - units.centroids[stage][codes[:, stage]]


def test_normalisation_comes_first() -> None:
    x, centroids = normal(80, 6) * 3 + 1, normal(1, 12, 6)
    mean, scale = normal(6, seed=3), normal(6, seed=4).abs() + 0.5
    standard = Units(
        centroids=centroids, layer="a", normalization="standard", mean=mean, scale=scale
    )
    assert standard.assign(x).equal(reference(centroids[0], (x - mean) / scale))
    l2 = Units(centroids=centroids, layer="a", normalization="l2")
    assert l2.assign(x).equal(reference(centroids[0], x / x.norm(dim=1, keepdim=True)))
    assert l2.assign(torch.zeros(1, 6)).shape == (1,)
    plain = Units(centroids=centroids, layer="a").assign(x)
    assert not plain.equal(standard.assign(x))
    assert not plain.equal(l2.assign(x))


def test_frames_without_units_are_refused() -> None:
    units = Units(centroids=normal(1, 5, 4), layer="a")
    with pytest.raises(AuricleError, match=r"frames \(frames, 4\), but got \(3, 5\)"):
        units.assign(normal(3, 5))
    for value in (torch.nan, torch.inf, -torch.inf):
        x = normal(3, 4)
        x[1, 2] = value
        with pytest.raises(AuricleError, match="NaN or infinity"):
            units.assign(x)


def test_wrong_values_are_refused() -> None:
    with pytest.raises(AuricleError, match="float32 and"):
        Units(centroids=normal(5, 4), layer="a")
    with pytest.raises(AuricleError, match="float64"):
        Units(centroids=normal(1, 5, 4).double(), layer="a")
    with pytest.raises(AuricleError, match="normalization must be"):
        Units(centroids=normal(1, 5, 4), layer="a", normalization="cmvn")  # type: ignore[arg-type]
    with pytest.raises(AuricleError, match="mean must be"):
        Units(centroids=normal(1, 5, 4), layer="a", normalization="standard")
    with pytest.raises(AuricleError, match="scale must be"):
        Units(centroids=normal(1, 5, 4), layer="a", scale=torch.ones(4))


def test_an_encoder_gives_units(encoder: Encoder, units: Units) -> None:
    wavs = [str(path) for path in sample_paths()[:3]]
    found = encoder.units(wavs, units)
    outputs = encoder(wavs, layer="layer_2")
    assert [len(codes) for codes in found] == [len(x) for x in outputs]
    for path, codes, x in zip(wavs, found, outputs, strict=True):
        assert codes.equal(units.assign(x))
        assert codes.equal(encoder.units([path], units)[0])
    assert units.load_encoder(device="cpu").units(wavs[:1], units)[0].equal(found[0])


def test_other_encoders_are_refused(encoder: Encoder, units: Units) -> None:
    wav = torch.zeros(16000)
    other = auricle.load("apc_mini", device="cpu")
    with pytest.raises(AuricleError, match="are of tera_mini .tera., but .* family apc"):
        other.units([wav], units)
    with pytest.raises(LayerError):
        encoder.units([wav], dataclasses.replace(units, layer="layer_99"))
    with pytest.raises(AuricleError, match="of 5 features, but layer_2"):
        encoder.units([wav], dataclasses.replace(units, centroids=normal(1, 2, 5)))
    changed = auricle.load("tera_mini", device="cpu")
    assert known_sha256(changed) == units.weights_digest
    with torch.no_grad():
        next(changed.parameters()).flatten()[0] += 1
    digest = known_sha256(changed)
    assert digest != units.weights_digest
    with pytest.raises(AuricleError, match=f"{units.weights_digest}.*{digest}.*check_weights"):
        changed.units([wav], units)
    assert len(changed.units([wav], units, check_weights=False)) == 1


def test_lower_precision_goes_by_the_checkpoint(encoder: Encoder, units: Units) -> None:
    lower = auricle.load("tera_mini", device="cpu", precision="bf16")
    digest = lower.provenance.sha256
    assert digest
    lower.units([torch.zeros(16000)], dataclasses.replace(units, checkpoint_digest=digest))
    with pytest.raises(AuricleError, match="checkpoint digest is 00"):
        lower.units([torch.zeros(16000)], dataclasses.replace(units, checkpoint_digest="00"))


def test_units_without_a_model_load_none(units: Units) -> None:
    with pytest.raises(AuricleError, match="name no model"):
        dataclasses.replace(units, model=None).load_encoder()


def test_a_saved_file_reads_back(units: Units, tmp_path: Path) -> None:
    path = tmp_path / "units.safetensors"
    full = dataclasses.replace(
        units,
        normalization="standard",
        mean=normal(units.dim),
        scale=torch.ones(units.dim),
        data="corpus/",
        seed=3,
        num_frames=7,
        inertia=(2.5, 1.25),
        version="0",
        source="a fit",
        checkpoint="x.pt",
        checkpoint_digest="00",
    )
    full.save(path)
    found = auricle.load_units(path)
    assert found.facts() == full.facts()
    for name in ("centroids", "mean", "scale"):
        assert getattr(found, name).equal(getattr(full, name))
    with pytest.raises(OutputError, match=r"\.safetensors"):
        units.save(tmp_path / "units.pt")


def test_other_files_are_refused(encoder: Encoder, units: Units, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    encoder.save(path)
    with pytest.raises(CheckpointError, match="has no units"):
        load_units(path)
    with pytest.raises(CheckpointError, match="not a readable"):
        load_units(tmp_path / "none.safetensors")
    units.save(path)
    path.write_bytes(path.read_bytes().replace(b"normalization", b"normalisation"))
    assert load_units(path).normalization == "none"  # an unknown fact is ignored
    path.write_bytes(path.read_bytes().replace(b"layer_2", b'laye"_2'))
    with pytest.raises(CheckpointError, match="damaged|not a readable"):
        load_units(path)


def test_runs_and_lines() -> None:
    codes = torch.tensor([4, 4, 4, 1, 4, 4], dtype=torch.int32)
    values, durations = deduplicate(codes)
    assert values.tolist() == [4, 1, 4]
    assert durations.tolist() == [3, 1, 2]
    assert values.repeat_interleave(durations).equal(codes)
    assert values.dtype == durations.dtype == torch.int32
    assert text_line("a-1", values) == "a-1 4 1 4"
    assert text_line("a 1", values, separator="|") == "a 1|4 1 4"
    stack = torch.tensor([[1, 2], [1, 2], [1, 3]], dtype=torch.int32)
    values, durations = deduplicate(stack)
    assert durations.tolist() == [2, 1]
    assert text_line("b", values) == "b 1,2 1,3"
    for name in ("a b", "", "a\nb"):
        with pytest.raises(AuricleError, match="cannot begin a line"):
            text_line(name, codes)
