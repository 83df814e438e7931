from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import auricle
from auricle.errors import AudioError, RecipeError, TrainingError
from auricle.nn import transformer
from auricle.objectives.base import Loss, Objective
from auricle.objectives.predictive_coding import ApcObjective
from auricle.objectives.wav2vec2 import Wav2Vec2Objective
from auricle.training.building import Corpus, build_accelerator, build_objective, read_corpus
from auricle.training.checkpoints import CheckpointFolder, read_state
from auricle.training.monitoring import StepMeans, read_metrics
from auricle.training.recipe import Recipe, parse_recipe
from auricle.training.trainer import RunSettings, Trainer, TrainingResult, train
from forks import Forked, run

CPU = RunSettings(device="cpu", caches_audio=True)
NUM_STEPS = 8

KILLED = """
import os, signal, sys
from pathlib import Path
from auricle.training.building import read_corpus
from auricle.training.recipe import read_recipe
from auricle.training.trainer import RunSettings, Trainer, train

check = Trainer._check_finite
def kill(self, *values):
    if self.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    check(self, *values)
Trainer._check_finite = kill
recipe, speech, out = map(Path, sys.argv[1:])
train(read_recipe(recipe), read_corpus([speech]), out, RunSettings(device="cpu"))
"""

EVERY_RANK = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from auricle.training.building import read_corpus
from auricle.training.recipe import read_recipe
from auricle.training.trainer import RunSettings, Trainer, train

finish = Trainer.finish
def keep(self):
    save_file(self.objective.state_dict(), out / f"rank_{self.accelerator.process_index}")
    return finish(self)
Trainer.finish = keep
recipe, speech, out = map(Path, sys.argv[1:])
out.mkdir(exist_ok=True)
train(read_recipe(recipe), read_corpus([speech]), out, RunSettings(device="cpu"))
"""


def weights(out: Path) -> dict[str, torch.Tensor]:
    """What the last checkpoint holds besides scalars, heads and moments and random states too."""
    folder = CheckpointFolder(out).latest()
    assert folder is not None
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= {f"{path.name} {name}": value for name, value in load_file(path).items()}
    return tensors


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(auricle.__file__).parents[1]),
    "OMP_NUM_THREADS": "1",
}


def in_two_processes(arguments: list[str], launches: bool) -> None:
    """Run Python with the environment of `torchrun --nproc_per_node 2`, or by that itself."""
    if launches:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        command = [sys.executable, *torchrun, *arguments]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    every = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GROUP_RANK": "0"}
    every |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    processes = [
        Forked(arguments, env={**ENVIRONMENT, **every, "RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    try:
        for process in processes:
            _, stderr = process.communicate(timeout=240)
            assert process.returncode == 0, stderr
    finally:
        for process in processes:
            process.close()


@pytest.fixture(autouse=True)
def _curves(request: pytest.FixtureRequest) -> None:
    """Only the test that looks at the picture has it drawn."""
    if request.node.originalname != "test_it_leaves_an_encoder_and_what_was_seen":
        request.getfixturevalue("undrawn_curves")


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """As many threads as in the subprocesses that results are compared with."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a training that was left alone is kept; made by the first test that asks."""
    return tmp_path_factory.mktemp("alone")


def left_alone(alone: Path, recipe: Recipe, corpus: Corpus) -> dict[str, torch.Tensor]:
    train(recipe, corpus, alone, CPU)
    return weights(alone)


def at_step(
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    do: Callable[[Loss], Loss],
    objective: type[Objective] = ApcObjective,
) -> None:
    """Have `do` change the loss of the update that follows `step` updates."""
    forward = objective.forward

    def changed(self: Objective, *arguments: Any, **options: Any) -> Loss:
        loss = forward(self, *arguments, **options)
        return do(loss) if options["step"] == step else loss

    monkeypatch.setattr(objective, "forward", changed)


def test_it_leaves_an_encoder_and_what_was_seen(
    recipe: Recipe, corpus: Corpus, alone: Path
) -> None:
    outcome = train(recipe, corpus, alone, CPU)
    path = alone / "tiny.safetensors"
    assert outcome == TrainingResult(step=NUM_STEPS, stopped_by=0, result=path, is_main=True)
    lines = read_metrics(alone)
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    assert lines[-1]["audio_hours"] == pytest.approx(NUM_STEPS * 2 / 3600, rel=0.3)
    assert (alone / "curves.png").exists()
    assert (alone / "recipe.toml").read_text() == recipe.text
    loaded, saved = auricle.load(path), weights(alone)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, saved[f"model.safetensors encoder.{name}"])


def test_the_loss_falls(corpus: Corpus, tmp_path: Path, edited: Callable[..., Recipe]) -> None:
    recipe = edited(('kind = "cosine"', 'kind = "constant"'), ("log_every = 2", "log_every = 10"))
    train(recipe.with_steps(30), corpus, tmp_path, CPU)
    losses = [line["loss"] for line in read_metrics(tmp_path)]
    assert losses[-1] < 0.85 * losses[0]


def test_killed_and_resumed_is_as_if_left_alone(
    recipe: Recipe, recipe_text: str, speech: Path, corpus: Corpus, alone: Path, tmp_path: Path
) -> None:
    expected = left_alone(alone, recipe, corpus)
    (tmp_path / "recipe.toml").write_text(recipe_text)
    (tmp_path / "kill.py").write_text(KILLED)
    out = tmp_path / "out"
    paths = [tmp_path / "kill.py", tmp_path / "recipe.toml", speech, out]
    assert run([*paths], env=ENVIRONMENT).returncode == -signal.SIGKILL
    last = CheckpointFolder(out).latest()
    assert last is not None
    assert last.name == "step_00000004"
    train(recipe, corpus, out, CPU)
    assert_equal(weights(out), expected)
    assert [line["step"] for line in read_metrics(out)] == [2, 4, 6, 8]


def test_stopped_by_a_signal_and_resumed_is_as_if_left_alone(
    recipe: Recipe, corpus: Corpus, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = left_alone(alone, recipe, corpus)

    def terminate(loss: Loss) -> Loss:
        os.kill(os.getpid(), signal.SIGTERM)
        return loss

    with monkeypatch.context() as patch:
        at_step(patch, 4, terminate)
        outcome = train(recipe, corpus, tmp_path, CPU)
    assert outcome == TrainingResult(step=5, stopped_by=signal.SIGTERM, result=None, is_main=True)
    assert not (tmp_path / "tiny.safetensors").exists()
    train(recipe, corpus, tmp_path, RunSettings(device="cpu", num_workers=1))
    assert_equal(weights(tmp_path), expected)


LAYER_DROP = """
[recipe]
name = "tiny"
family = "wav2vec2"
steps = 6
seed = 3
training_data = "two voices"
licence = "CC BY 4.0"

[encoder.extractor]
layers = [[8, 10, 5], [8, 8, 8]]

[encoder.transformer]
hidden_size = 8
num_layers = 4
num_heads = 2
ffn_size = 8
layer_drop = 0.5

[encoder.transformer.positions]
kernel_size = 4
num_groups = 2

[objective]
mask_span = 2
num_distractors = 4
projection_dim = 8
num_entries = 4

[data]
batch_seconds = 1.0
crop_seconds = 0.2

[optimizer]
learning_rate = 1e-2

[run]
checkpoint_every = 2
log_every = 2
"""


def test_layer_drop_goes_on_where_it_was(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[bool] = []
    is_left_out = transformer.is_left_out

    def recorded(*arguments: Any) -> bool:
        drawn.append(is_left_out(*arguments))
        return drawn[-1]

    monkeypatch.setattr(transformer, "is_left_out", recorded)
    recipe = parse_recipe(LAYER_DROP)
    train(recipe, corpus, tmp_path / "whole", CPU)
    whole = drawn.copy()
    assert 0 < sum(whole) < len(whole) == 24
    drawn.clear()

    def terminate(loss: Loss) -> Loss:
        os.kill(os.getpid(), signal.SIGTERM)
        return loss

    with monkeypatch.context() as patch:
        at_step(patch, 2, terminate, Wav2Vec2Objective)
        train(recipe, corpus, tmp_path / "halves", CPU)
    torch.manual_seed(99)  # whatever happens in between
    train(recipe, corpus, tmp_path / "halves", CPU)
    assert drawn == whole
    assert_equal(weights(tmp_path / "halves"), weights(tmp_path / "whole"))


def test_a_training_that_is_done_stays_as_it_is(
    recipe: Recipe, corpus: Corpus, alone: Path
) -> None:
    expected = left_alone(alone, recipe, corpus)
    (alone / "tiny.safetensors").unlink()
    assert train(recipe, corpus, alone, CPU).result == alone / "tiny.safetensors"
    assert_equal(weights(alone), expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_it(
    recipe: Recipe,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
) -> None:
    at_step(monkeypatch, 5, lambda loss: Loss(value=loss.value * value))
    with pytest.raises(TrainingError, match=r"step 6 of tiny.*step_00000004"):
        train(recipe, corpus, tmp_path, CPU)
    assert all(bool(torch.isfinite(value).all()) for value in weights(tmp_path).values())


def test_a_gradient_that_is_not_finite_stops_it(
    recipe: Recipe, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(loss: Loss) -> Loss:
        value = loss.value * 1.0
        value.register_hook(lambda gradient: gradient * float("nan"))
        return Loss(value=value)

    at_step(monkeypatch, 1, broken)
    with pytest.raises(TrainingError, match=r"step 2 of tiny.*gradient norm nan.*is none"):
        train(recipe, corpus, tmp_path, CPU)


def test_another_training_in_the_folder_is_refused(
    recipe: Recipe,
    corpus: Corpus,
    speech: Path,
    alone: Path,
    edited: Callable[..., Recipe],
) -> None:
    expected = left_alone(alone, recipe, corpus)
    other = edited(("hidden_size = 16", "hidden_size = 24"))
    with pytest.raises(RecipeError, match=r"step_00000008 is of a training by another recipe;"):
        train(other, corpus, alone, CPU)
    with pytest.raises(RecipeError, match=r"on other audio; choose another --out"):
        train(recipe, read_corpus([speech / "1"]), alone, CPU)
    assert_equal(weights(alone), expected)


def test_more_steps_go_on_from_the_end(
    corpus: Corpus, tmp_path: Path, edited: Callable[..., Recipe]
) -> None:
    recipe = edited(('kind = "cosine"', 'kind = "constant"'))
    train(recipe.with_steps(3), corpus, tmp_path / "parts", CPU)
    train(recipe, corpus, tmp_path / "parts", CPU)
    train(recipe, corpus, tmp_path / "whole", CPU)
    assert_equal(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


MASKS = """
family = "mockingjay"

[encoder]
features = { type = "log_mel", num_mels = 8 }
transformer = { hidden_size = 8, num_layers = 1, num_heads = 2, ffn_size = 8, share_layer = false }
"""
NEGATIVES = """
family = "wav2vec"

[encoder]
extractor = { layers = [[8, 10, 5], [8, 8, 4], [8, 4, 2], [8, 4, 2], [8, 4, 2]] }
aggregator = { layers = [[8, 2, 1]] }

[objective]
num_steps = 2
num_negatives = 2
"""


@pytest.mark.parametrize("sections", [MASKS, NEGATIVES], ids=["masks", "negatives"])
def test_the_generator_of_the_objective_is_restored(
    recipe_text: str, corpus: Corpus, tmp_path: Path, sections: str
) -> None:
    identity, rest = recipe_text.replace("cosine", "constant").split('family = "apc"')
    options, encoder = rest.split("[encoder]\n")
    family, own = sections.split("\n\n", maxsplit=1)
    text = f"{identity}{family}{options}{own}\n{encoder[encoder.index('[data]') :]}"
    recipe = parse_recipe(text).with_steps(4)
    train(recipe, corpus, tmp_path / "whole", CPU)
    whole = weights(tmp_path / "whole")
    train(recipe.with_steps(2), corpus, tmp_path / "resumed", CPU)
    state = "random_0.safetensors objective"
    assert not torch.equal(weights(tmp_path / "resumed")[state], whole[state])  # it draws
    train(recipe, corpus, tmp_path / "resumed", CPU)
    assert_equal(weights(tmp_path / "resumed"), whole)


def test_the_seed_decides(
    recipe: Recipe,
    corpus: Corpus,
    alone: Path,
    tmp_path: Path,
    edited: Callable[..., Recipe],
) -> None:
    expected = left_alone(alone, recipe, corpus)
    train(recipe, corpus, tmp_path / "same", CPU)
    assert_equal(weights(tmp_path / "same"), expected)
    train(edited(("seed = 3", "seed = 4")), corpus, tmp_path / "other", CPU)
    other = weights(tmp_path / "other")
    assert not torch.equal(
        other["model.safetensors head.weight"], expected["model.safetensors head.weight"]
    )


def test_a_step_of_several_batches_has_their_mean_gradient(
    corpus: Corpus, tmp_path: Path, edited: Callable[..., Recipe]
) -> None:
    recipe = edited(
        ("dropout = 0.2", "dropout = 0.0"), ("[optimizer]", "batches_per_step = 2\n[optimizer]")
    )
    accelerator = build_accelerator(recipe, "cpu")
    objective = build_objective(recipe)
    trainer = Trainer(recipe, corpus, tmp_path, accelerator, objective)
    batches = trainer._open_data(CPU)
    first, second = next(batches), next(batches)
    gradients = []
    for batch in (first, second):
        loss = objective(
            batch.waveforms, batch.num_samples, step=0, generator=trainer.generator
        ).value
        gradients.append(torch.autograd.grad(loss, trainer.parameters))
    trainer._accumulate(iter([first, second]), StepMeans())
    for parameter, one, other in zip(trainer.parameters, *gradients, strict=True):
        torch.testing.assert_close(parameter.grad, (one + other) / 2)
    assert trainer.position == second.following


def test_long_gradients_are_scaled_down(
    corpus: Corpus, tmp_path: Path, edited: Callable[..., Recipe]
) -> None:
    recipe = edited(("max_gradient_norm = 5.0", "max_gradient_norm = 1e-12"), ("= 0.01", "= 0.0"))
    train(recipe.with_steps(1), corpus, tmp_path, CPU)
    folder = CheckpointFolder(tmp_path).latest()
    assert folder is not None
    # Adam's step has the size of the learning rate, unless eps outweighs the gradient.
    moments = load_file(folder / "optimizer.safetensors")
    assert max(float(m.abs().max()) for n, m in moments.items() if "exp_avg" in n) <= 1e-12
    assert read_metrics(tmp_path)[0]["gradient_norm"] > 1e-3


def test_bf16_trains_float32_weights(
    corpus: Corpus, tmp_path: Path, edited: Callable[..., Recipe]
) -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        train(edited(("[run]", '[run]\nprecision = "bf16"')), corpus, tmp_path, CPU)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    lines = read_metrics(tmp_path)
    assert lines[-1]["loss"] < lines[0]["loss"]
    types = {v.dtype for n, v in weights(tmp_path).items() if n.startswith("model")}
    assert types == {torch.float32}


def test_a_damaged_file_stops_it_by_name(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "list.tsv").write_text("path\tsamples\ngone.wav\t16000\n")
    with pytest.raises(AudioError, match=r"gone\.wav"):
        train(recipe, read_corpus([tmp_path / "list.tsv"]), tmp_path / "out", CPU)


def test_two_processes_are_one_with_two_batches_a_step(
    speech: Path, corpus: Corpus, tmp_path: Path, edited: Callable[..., Recipe], is_whole: bool
) -> None:
    changes = (
        ("batch_seconds = 2.0", "batch_seconds = 1.0"),
        ("dropout = 0.2", "dropout = 0.0"),
        ("steps = 8", "steps = 3"),
        ("log_every = 2", "log_every = 3"),
    )
    recipe = edited(*changes)
    (tmp_path / "recipe.toml").write_text(recipe.text)
    (tmp_path / "train.py").write_text(EVERY_RANK)
    paths = [tmp_path / "train.py", tmp_path / "recipe.toml", speech, tmp_path / "two"]
    in_two_processes([str(path) for path in paths], launches=is_whole)
    ranks = [load_file(tmp_path / "two" / f"rank_{rank}") for rank in (0, 1)]
    assert_equal(*ranks)
    folder = CheckpointFolder(tmp_path / "two").latest()
    assert folder is not None
    state = read_state(folder)
    assert (state.step, state.num_processes) == (3, 2)
    assert {"random_0.safetensors", "random_1.safetensors"} <= {p.name for p in folder.iterdir()}
    one = edited(*changes, ("[optimizer]", "batches_per_step = 2\n[optimizer]"))
    train(one, corpus, tmp_path / "one", CPU)
    for name, value in weights(tmp_path / "one").items():
        if name.startswith("model"):
            torch.testing.assert_close(value, ranks[0][name.partition(" ")[2]])
    one_folder = CheckpointFolder(tmp_path / "one").latest()
    assert one_folder is not None
    other_state = read_state(one_folder)
    assert other_state.audio_seconds == pytest.approx(state.audio_seconds)
    (line,), (other_line,) = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert other_line["loss"] == pytest.approx(line["loss"])
    with pytest.raises(RecipeError, match=r"in 2 process\(es\), not 1"):
        train(recipe, corpus, tmp_path / "two", CPU)
