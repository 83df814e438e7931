"""A tiny recipe and a little real speech to train on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from auricle.audio.files import read_audio
from auricle.audio.inputs import sample_paths
from auricle.training.building import Corpus, read_corpus
from auricle.training.recipe import Recipe, parse_recipe

RECIPE = """
[recipe]
name = "tiny"
family = "apc"
steps = 8
seed = 3
training_data = "two voices"
licence = "CC BY 4.0"

[encoder]
num_layers = 2
hidden_size = 16
dropout = 0.2

[encoder.features]
type = "fbank"
cmvn = true

[data]
batch_seconds = 2.0
crop_seconds = 0.5

[optimizer]
learning_rate = 1e-2
weight_decay = 0.01
max_gradient_norm = 5.0

[schedule]
kind = "cosine"
warmup_steps = 2

[run]
checkpoint_every = 2
log_every = 2
"""


@pytest.fixture
def recipe_text() -> str:
    return RECIPE


@pytest.fixture
def recipe() -> Recipe:
    return parse_recipe(RECIPE)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of seven clips of 0.6 to 1.8 s, in two folders."""
    folder = tmp_path_factory.mktemp("speech")
    for voice, path in enumerate(sample_paths()):
        samples = read_audio(path).numpy()
        (folder / str(voice)).mkdir()
        for index in range(3 + voice):
            clip = samples[8_000 * index :][: 9_600 + 4_800 * index]
            soundfile.write(folder / str(voice) / f"{index}.flac", clip, 16_000)
    return folder


@pytest.fixture(scope="session")
def corpus(speech: Path) -> Corpus:
    return read_corpus([speech])


@pytest.fixture
def edited() -> Callable[..., Recipe]:
    """A function that gives the recipe with lines of its text replaced."""

    def edit(*replacements: tuple[str, str]) -> Recipe:
        text = RECIPE
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        return parse_recipe(text)

    return edit
