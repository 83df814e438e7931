"""The documented recipe of fine-tuning does what its page says."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import auricle
from auricle.probing.probe import probe
from auricle.probing.tasks import Task, read_task

SCRIPT = Path(__file__).parents[1] / "examples" / "fine_tune_words.py"
WORDS = Path(__file__).parent / "data" / "words"
LAYER = "rnn_3"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The same numbers on machines with any number of cores, and none lost to handing over."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("fine_tune_words", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BATCH_WORDS", 16)
    return module


@pytest.fixture
def task() -> Task:
    """Ten digits: 80 by eight speakers to train on, 60 by three others to test."""
    return read_task("words", WORDS)


def classifier(script: ModuleType, words: list[str], layer: str = LAYER) -> Any:
    torch.manual_seed(0)
    return script.WordClassifier(auricle.load("apc_mini"), sorted(set(words)), layer)


@pytest.mark.whole  # docs/fine-tuning.md runs the script, and the tests below its parts
def test_fine_tuning_beats_the_frozen_probe(script: ModuleType, task: Task, tmp_path: Path) -> None:
    train, test = script.read_split(task, "train"), script.read_split(task, "test")
    # 62 % to 67 % by layer; fine-tuned 83 % to 88 % over three seeds.
    frozen = max(layer.accuracy for layer in probe(auricle.load("apc_mini"), task).layers)
    model = classifier(script, train[1])
    script.fine_tune(model, *train, steps=40)
    fine_tuned = script.accuracy(model, *test)
    assert fine_tuned >= frozen + 0.1

    model.save(tmp_path)
    loaded = script.WordClassifier.load(tmp_path)
    with torch.inference_mode():
        assert torch.equal(loaded(test[0][:3]), model(test[0][:3]))
    assert loaded.words == model.words


def test_gradients_of_a_ragged_batch_are_those_of_its_utterances(script: ModuleType) -> None:
    model = classifier(script, ["no", "yes"], layer="all")
    model.eval()  # without dropout, and the head's batch norm apart
    wavs = [0.1 * torch.randn(length) for length in (9_000, 3_000, 5_001)]
    model(wavs).square().sum().backward()
    batch = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    for wav in wavs:
        model([wav]).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert batch[name].abs().sum() > 0, name
        torch.testing.assert_close(batch[name], parameter.grad, atol=1e-4, rtol=1e-3, msg=name)


def test_frozen_weights_stay(script: ModuleType, task: Task) -> None:
    wavs, labels = (part[:16] for part in script.read_split(task, "train"))
    model = classifier(script, labels)
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    script.freeze(model, ["rnn.layers.0", "rnn.layers.1"])
    script.fine_tune(model, wavs, labels, steps=2)
    changed = {n for n, value in model.encoder.state_dict().items() if not value.equal(before[n])}
    assert changed == {name for name in before if name.startswith("rnn.layers.2")}
    with pytest.raises(ValueError, match="begins with 'no.such'"):
        script.freeze(model, ["no.such"])


def test_the_script_prints_both_accuracies(
    script: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data, out = tmp_path / "data", tmp_path / "words"
    shutil.copytree(WORDS, data)
    header, *rows = (data / "manifest.tsv").read_text().splitlines()
    two = [row for row in rows if row.split("\t")[3] in ("one", "two")]
    (data / "manifest.tsv").write_text("\n".join([header, *two]) + "\n")
    script.main(["--data", str(data), "--layer", "all", "--steps", "2", "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        *(f"frozen, rnn_{index}" for index in (1, 2, 3)),
        "fine-tuned, all",
    ]
    assert all(line.endswith(" %") for line in lines)
    assert sorted(path.name for path in out.iterdir()) == [
        "encoder.safetensors",
        "head.safetensors",
    ]
