from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import auricle
from auricle.errors import OutputError, TrainingError
from auricle.files.safetensors import read_native
from auricle.training import checkpoints
from auricle.training.building import Corpus, build_objective
from auricle.training.checkpoints import CheckpointFolder, TrainingState, write_result
from auricle.training.recipe import Recipe

STATE = TrainingState(
    step=4, epoch=1, batch=2, seconds=3.5, audio_seconds=8.0, num_processes=1, recipe="r", data="d"
)


class Tied(nn.Module):
    """Weights that two layers share, and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(self.second(self.first(x)))
        return y


def trained(num_steps: int) -> tuple[Tied, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Tied()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(num_steps):
        model(torch.randn(4, 3)).pow(3).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def save(out: Path, step: int) -> Path:
    folder = CheckpointFolder(out)
    model, optimizer = trained(step)
    checkpoints.write_training(folder.begin(step), model, optimizer, STATE)
    return folder.commit(step)


def test_training_reads_back(tmp_path: Path) -> None:
    path = save(tmp_path, 4)
    model, optimizer = trained(0)
    assert checkpoints.read_training(path, model, optimizer) == STATE
    expected, expected_optimizer = trained(4)
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    moments = optimizer.state_dict()["state"]
    for index, moment in expected_optimizer.state_dict()["state"].items():
        assert set(moments[index]) == {"step", "exp_avg", "exp_avg_sq"}
        for name, value in moment.items():
            assert torch.equal(moments[index][name], value)


def test_random_states_read_back(tmp_path: Path) -> None:
    generator, device = torch.Generator().manual_seed(5), torch.device("cpu")
    torch.manual_seed(6)
    path = tmp_path / checkpoints.random_file(0)
    checkpoints.write_random(path, generator, device)
    expected = torch.rand(3), torch.rand(3, generator=generator)
    other = torch.Generator()
    torch.manual_seed(7)
    checkpoints.read_random(path, other, device)
    assert torch.equal(torch.rand(3), expected[0])
    assert torch.equal(torch.rand(3, generator=other), expected[1])


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    assert folder.latest() is None
    for step in (2, 10, 9, 100):
        save(tmp_path, step)
    names = sorted(path.name for path in folder.folder.iterdir())
    assert names == ["step_00000010", "step_00000100"]
    assert folder.latest() == folder.folder / "step_00000100"


def test_what_a_killed_run_left_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    path = save(tmp_path, 2)
    folder = CheckpointFolder(tmp_path)
    half = folder.begin(4)
    (half / "model.safetensors").write_bytes(b"half")
    assert folder.latest() == path
    save(tmp_path, 6)
    assert not half.exists()


def test_no_file_is_a_pickle(tmp_path: Path) -> None:
    kinds = {path.suffix for path in save(tmp_path, 2).iterdir()}
    assert kinds == {".safetensors", ".json"}


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("keep", [None, 10])
def test_damage_is_named(tmp_path: Path, name: str, keep: int | None) -> None:
    path = save(tmp_path, 2)
    if keep is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes((path / name).read_bytes()[:keep])
    with pytest.raises(TrainingError, match=r"cannot go on from .*step_00000002.*--out"):
        checkpoints.read_training(path, *trained(0))


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = save(tmp_path, 2)
    model = nn.Linear(2, 2)
    with pytest.raises(TrainingError, match="step_00000002"):
        checkpoints.read_training(path, model, torch.optim.AdamW(model.parameters()))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(OutputError, match="cannot write the checkpoint"):
        CheckpointFolder(tmp_path).begin(1)


def test_it_loads_and_says_how_it_came_to_be(
    tmp_path: Path, corpus: Corpus, edited: Callable[..., Recipe]
) -> None:
    recipe = edited(('name = "tiny"', 'name = "tiny"\nsave_as = "float16"'))
    encoder = build_objective(recipe).encoder
    path = tmp_path / "tiny.safetensors"
    write_result(path, encoder, recipe, corpus, 7)
    native = read_native(path)
    assert {weight.dtype for weight in native.weights.values()} == {torch.float16}
    assert encoder.dtype == torch.float32
    assert set(native.extra) == {"recipe", "steps", "audio", "code_version"}
    assert (native.extra["recipe"], native.extra["steps"]) == (recipe.text, "7")
    assert json.loads(native.extra["audio"])["sha256"] == corpus.digest
    assert f"auricle {auricle.__version__}" in native.extra["code_version"]
    loaded = auricle.load(path)
    assert (loaded.info.name, loaded.info.training_data) == ("tiny", "two voices")
    assert loaded.info.licence == "CC BY 4.0"
    for name, weight in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight.half().float())
