from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import auricle
from auricle.errors import RecipeError
from auricle.info import FrameGeometry, Window
from auricle.objectives.base import Loss, UnitTargets
from auricle.objectives.hubert import HubertObjective
from auricle.training import targets as subject
from auricle.training.building import Corpus, build_accelerator
from auricle.training.checkpoints import CheckpointFolder, read_tensors
from auricle.training.recipe import Recipe, parse_recipe
from auricle.training.targets import Codes, CorpusUnits, prepare_units
from auricle.training.trainer import RunSettings, train
from auricle.units import fit
from auricle.units.codebook import load_units

RECIPE = """
[recipe]
name = "tiny"
family = "hubert"
steps = 4
seed = 3
training_data = "two voices"
licence = "CC BY 4.0"

[encoder.extractor]
layers = [[8, 10, 5], [8, 8, 8]]

[encoder.transformer]
hidden_size = 8
num_layers = 1
num_heads = 2
ffn_size = 8

[encoder.transformer.positions]
kernel_size = 4
num_groups = 2

[objective]
mask_span = 2
projection_dim = 8

[[objective.targets]]
num_units = 5

[[objective.targets]]
model = "fbank"
num_units = 4
num_stages = 2

[data]
batch_seconds = 1.0
crop_seconds = 0.2

[optimizer]
learning_rate = 1e-2

[run]
checkpoint_every = 2
log_every = 2
"""
CPU = RunSettings(device="cpu", caches_audio=True)
PLAIN = (UnitTargets(num_units=4, model="fbank"),)
FRAMES = FrameGeometry((Window(size=10, stride=5), Window(size=8, stride=8)))


@pytest.fixture(autouse=True)
def _alone(undrawn_curves: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures, and several parts of the seven clips."""
    monkeypatch.setattr(subject, "PART_UTTERANCES", 3)
    monkeypatch.setattr(subject, "TOGETHER", 2)


@pytest.fixture
def recipe() -> Recipe:
    return parse_recipe(RECIPE)


def prepared(corpus: Corpus, out: Path, targets: tuple[UnitTargets, ...] = PLAIN) -> CorpusUnits:
    accelerator = build_accelerator(parse_recipe(RECIPE), "cpu")
    return prepare_units(targets, corpus, out, FRAMES, accelerator)


@pytest.mark.parametrize("start", [0, 37, 12_345])
@pytest.mark.parametrize("pad", [0, 200])
def test_a_frame_takes_the_unit_in_the_middle_of_its_own_span(start: int, pad: int) -> None:
    frames = FrameGeometry((Window(size=10, stride=5), Window(size=40, stride=64)))
    labels = FrameGeometry((Window(size=400, stride=160, pad_left=pad, pad_right=pad),))
    lengths = [3_000, 20_000]
    counts = [labels.num_frames(length) for length in lengths]
    values = torch.arange(sum(counts)).unsqueeze(1)
    starts = torch.tensor([0, counts[0], sum(counts)])
    units = CorpusUnits(codes=(Codes(values, starts, labels),) * 2, frames=frames)
    found = units.of(1, start, 5_000)
    assert found.shape == (frames.num_frames(5_000), 2)
    centres = [200 - pad + 160 * label for label in range(counts[1])]
    for frame, (unit, again) in enumerate(found.tolist()):
        assert unit == again
        middle = start + frame * 320 + 205 / 2
        distances = [abs(centre - middle) for centre in centres]
        assert distances[unit - counts[0]] == min(distances)


def test_codes_are_those_of_the_units(corpus: Corpus, tmp_path: Path) -> None:
    found = prepared(corpus, tmp_path)
    units = load_units(tmp_path / "targets" / "units_0.safetensors")
    assert (units.model, units.layer, units.num_clusters) == ("fbank", "features", 4)
    encoder = auricle.load("fbank", device="cpu")
    (codes,) = found.codes
    for index, utterance in enumerate(corpus.utterances):
        (expected,) = units.encode(encoder, [utterance.read()])
        first, end = codes.starts[index : index + 2].tolist()
        assert torch.equal(codes.values[first:end, 0].int(), expected)
    assert len(set(codes.values.flatten().tolist())) == 4


def test_a_file_of_units_is_used_as_it_is(corpus: Corpus, tmp_path: Path) -> None:
    fitted = prepared(corpus, tmp_path / "first")
    path = tmp_path / "first" / "targets" / "units_0.safetensors"
    named = prepared(corpus, tmp_path / "second", (UnitTargets(num_units=4, units=str(path)),))
    assert torch.equal(named.codes[0].values, fitted.codes[0].values)
    assert not (tmp_path / "second" / "targets" / "units_0.safetensors").exists()
    with pytest.raises(RecipeError, match=r"has 4 units in 1 stage.*num_units = 5"):
        prepared(corpus, tmp_path / "third", (UnitTargets(num_units=5, units=str(path)),))


def test_units_of_other_audio_or_another_codebook_are_refused(
    corpus: Corpus, tmp_path: Path
) -> None:
    prepared(corpus, tmp_path)
    fewer = Corpus(utterances=corpus.utterances[1:])
    with pytest.raises(RecipeError, match="00000.safetensors has units of other audio"):
        prepared(fewer, tmp_path)
    path = tmp_path / "targets" / "units_0.safetensors"
    load_units(path).save(path.with_name("same.safetensors"))
    (path.with_name("same.safetensors")).replace(path)
    prepared(corpus, tmp_path)  # the same bytes
    path.unlink()
    with pytest.raises(RecipeError, match="of another codebook"):
        prepared(corpus, tmp_path, (UnitTargets(num_units=4, model="mel"),))


def test_stopped_in_the_middle_it_goes_on_from_there(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepared(corpus, tmp_path / "whole")
    encoded: list[int] = []
    together = subject._Labeller._together

    def stopping(self: Any, first: int, stop: int) -> list[Tensor]:
        encoded.append(first)
        if len(encoded) == 4:
            raise KeyboardInterrupt
        return together(self, first, stop)

    monkeypatch.setattr(subject._Labeller, "_together", stopping)
    with pytest.raises(KeyboardInterrupt):
        prepared(corpus, tmp_path / "halves")
    resumed = prepared(corpus, tmp_path / "halves")
    # Of the part that was begun everything, of the one before nothing.
    assert encoded == [0, 2, 3, 5, 3, 5, 6]
    assert torch.equal(resumed.codes[0].values, whole.codes[0].values)
    assert torch.equal(resumed.codes[0].starts, whole.codes[0].starts)


def weights(out: Path) -> dict[str, Tensor]:
    folder = CheckpointFolder(out).latest()
    assert folder is not None
    return read_tensors(folder / "model.safetensors")


def test_a_training_that_is_stopped_again_and_again_ends_alike(
    recipe: Recipe, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(recipe, corpus, tmp_path / "whole", CPU)
    out = tmp_path / "parts"
    step = fit._Fit._step
    num_steps = 0

    def interrupted(self: Any, x: Tensor) -> None:
        nonlocal num_steps
        num_steps += 1
        if num_steps == 30:
            self._save()
            raise KeyboardInterrupt
        step(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(fit._Fit, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, corpus, out, CPU)
    assert (out / "targets" / "units_0.fit.safetensors").exists()
    forward = HubertObjective.forward

    def terminated(self: HubertObjective, *arguments: Any, **options: Any) -> Loss:
        os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(HubertObjective, "forward", terminated)
        assert train(recipe, corpus, out, CPU).step == 1
    outcome = train(recipe, corpus, out, RunSettings(device="cpu", num_workers=1))
    assert outcome.step == 4
    expected = weights(tmp_path / "whole")
    for name, value in weights(out).items():
        assert torch.equal(value, expected[name]), name
    assert outcome.result is not None
    assert auricle.load(outcome.result).family == "hubert"
