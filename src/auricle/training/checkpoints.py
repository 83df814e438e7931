"""Checkpoints to resume from (atomic folders of plain tensors and JSON), and export."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from auricle.errors import OutputError, TrainingError
from auricle.info import Provenance
from auricle.models.base import Encoder
from auricle.training.building import Corpus
from auricle.training.recipe import Recipe

FOLDER = "checkpoints"
MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"
NUM_KEPT = 2
NAME_PATTERN = re.compile(r"step_(\d+)")


class TrainingState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scalars of a checkpoint.

    Attributes:
        step: Number of updates done.
        epoch: Epoch of the next batch.
        batch: Index in that epoch of the next batch.
        seconds: Training time over all runs.
        audio_seconds: Audio processed, without padding.
        num_processes: Number of processes; each has its own random states.
        recipe: Digest of the recipe.
        data: Digest of the corpus.
    """

    step: int
    epoch: int
    batch: int
    seconds: float
    audio_seconds: float
    num_processes: int
    recipe: str
    data: str


class CheckpointFolder:
    """Checkpoints below `out`, one folder per checkpoint, named by its step."""

    def __init__(self, out: Path) -> None:
        self.folder = out / FOLDER

    def latest(self) -> Path | None:
        """Checkpoint with the highest step; None if there is none."""
        found = self._all()
        return found[-1] if found else None

    def temporary(self, step: int) -> Path:
        """Hidden folder in which the files of a checkpoint are written."""
        return self.folder / f".step_{step:08d}"

    def begin(self, step: int) -> Path:
        """Create the empty temporary folder of a checkpoint and return it.

        Raises:
            OutputError: It cannot be created.
        """
        temporary = self.temporary(step)
        try:
            for left_over in self.folder.glob(".step_*"):  # of a run that was killed
                shutil.rmtree(left_over)
            temporary.mkdir(parents=True)
        except OSError as error:
            raise _unwritten(temporary, error) from error
        return temporary

    def commit(self, step: int) -> Path:
        """Flush the temporary folder, rename it to its final name and remove old checkpoints.

        Raises:
            OutputError: It cannot be flushed or renamed; older checkpoints are unaffected.
        """
        temporary, final = self.temporary(step), self.folder / f"step_{step:08d}"
        try:
            for path in (*temporary.iterdir(), temporary):
                _flush(path)
            if final.exists():
                shutil.rmtree(final)
            temporary.rename(final)
            _flush(self.folder)
            for old in self._all()[:-NUM_KEPT]:
                shutil.rmtree(old)
        except OSError as error:
            raise _unwritten(final, error) from error
        return final

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        found = (path for path in self.folder.iterdir() if NAME_PATTERN.fullmatch(path.name))
        return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))


def random_file(rank: int) -> str:
    """File name of the random states of one process."""
    return f"random_{rank}.safetensors"


def write_training(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState
) -> None:
    """Write weights (heads included), optimiser state and scalars into the folder of a checkpoint.

    Raises:
        OutputError: They cannot be written.
    """
    # Clones, since safetensors refuses weights that two modules share.
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    write_tensors(folder / MODEL_FILE, weights)
    moments = {
        f"{index}.{name}": value
        for index, moment in optimizer.state_dict()["state"].items()
        for name, value in moment.items()
    }
    write_tensors(folder / OPTIMIZER_FILE, moments)
    try:
        (folder / STATE_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(state)))
    except OSError as error:
        raise _unwritten(folder, error) from error


def read_training(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> TrainingState:
    """Load the weights and the optimiser state of a checkpoint and return its scalars.

    Raises:
        TrainingError: A file is missing or damaged, or does not fit.
    """
    state = read_state(folder)
    weights = read_tensors(folder / MODEL_FILE)
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in read_tensors(folder / OPTIMIZER_FILE).items():
        index, _, name = key.partition(".")
        moments.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    try:
        model.load_state_dict(weights)
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
    except (RuntimeError, ValueError) as error:
        raise _unfit(folder, error) from error
    return state


def read_state(folder: Path) -> TrainingState:
    """Scalars of a checkpoint; raises TrainingError if they cannot be read."""
    try:
        return msgspec.json.decode((folder / STATE_FILE).read_bytes(), type=TrainingState)
    except (OSError, msgspec.DecodeError) as error:
        raise _unfit(folder, error) from error


def write_random(path: Path, generator: torch.Generator, device: torch.device) -> None:
    """Write the random states of this process.

    These are the states of the objective's generator, of torch's global generator on the CPU, and
    of the one on the device.
    """
    states = {"objective": generator.get_state(), "cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    write_tensors(path, states)


def read_random(path: Path, generator: torch.Generator, device: torch.device) -> None:
    """Restore the random states written by `write_random`."""
    states = read_tensors(path)
    try:
        generator.set_state(states["objective"])
        torch.set_rng_state(states["cpu"])
        if device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], device)
    except (KeyError, RuntimeError) as error:
        raise _unfit(path, error) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any device to one safetensors file.

    Raises:
        OutputError: The file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except (OSError, SafetensorError) as error:
        raise _unwritten(path, error) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file to the CPU.

    Raises:
        TrainingError: The file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unfit(path, error) from error
    return tensors


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritten(path: Path, error: Exception) -> OutputError:
    return OutputError(
        f"cannot write the checkpoint {path}: {getattr(error, 'strerror', None) or error}; free "
        "some space, then run the same command again to go on from the checkpoint before"
    )


def _unfit(path: Path, error: Exception) -> TrainingError:
    return TrainingError(
        f"cannot go on from {path}: {error}; remove that checkpoint's folder to go on from the one "
        "before, or choose another --out to start over"
    )


DTYPES = {"float32": torch.float32, "float16": torch.float16}


def write_result(path: Path, encoder: Encoder, recipe: Recipe, corpus: Corpus, steps: int) -> None:
    """Export the encoder, without its heads, in the dtype of the recipe.

    Its metadata hold name, training data and licence as the recipe states them, the text of the
    recipe, the number of updates, a summary of the audio, and the versions of the library and of
    torch.

    Raises:
        OutputError: The file cannot be written.
    """
    identity = recipe.identity
    result = copy.deepcopy(encoder).to(device="cpu", dtype=DTYPES[identity.save_as])
    audio = {
        "utterances": len(corpus.utterances),
        "hours": round(corpus.hours, 3),
        "sha256": corpus.digest,
    }
    provenance = Provenance(
        name=identity.name, training_data=identity.training_data, licence=identity.licence
    )
    version: str = import_module("auricle").__version__
    extra = {
        "recipe": recipe.text,
        "steps": str(steps),
        "audio": json.dumps(audio),
        "code_version": f"auricle {version}, torch {torch.__version__}",
    }
    result.save(path, extra=extra, provenance=provenance)
