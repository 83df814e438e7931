"""Checkpoints to resume from, of plain tensors and JSON, and the exported encoder."""

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
from auricle.models.base import Encoder
from auricle.outputs import Provenance
from auricle.training.corpus import Corpus
from auricle.training.recipe import Recipe

FOLDER = "checkpoints"
MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"
NUM_KEPT = 2
NAME_PATTERN = re.compile(r"step_(\d+)")


class TrainingState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The scalars of a checkpoint.

    Attributes:
        step: Updates done.
        epoch: Epoch of the next batch.
        batch: First batch of it that is yet to come.
        seconds: Time that training has taken so far, all runs together.
        audio_seconds: Audio gone through so far, padding left out.
        num_processes: Processes that train together; each has random states of its own.
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
    """Checkpoints below `out`, one folder each, named by its step."""

    def __init__(self, out: Path) -> None:
        self.folder = out / FOLDER

    def latest(self) -> Path | None:
        """The checkpoint with the most steps; None where there is none."""
        found = self._all()
        return found[-1] if found else None

    def temporary(self, step: int) -> Path:
        """Where the files of a checkpoint are written, hidden by its name."""
        return self.folder / f".step_{step:08d}"

    def begin(self, step: int) -> Path:
        """Make the temporary folder of a checkpoint, empty, and return it.

        Raises:
            OutputError: It cannot be made.
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
        """Flush a folder that has been begun, give it its name and remove old checkpoints.

        Raises:
            OutputError: It cannot be flushed or renamed; older checkpoints are still there.
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
    """Name of the file with the random states of one process."""
    return f"random_{rank}.safetensors"


def write_training(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState
) -> None:
    """Write weights (heads included), optimiser and scalars into a checkpoint's folder.

    Raises:
        OutputError: They cannot be written.
    """
    # Copies, since weights that two modules share cannot be written as they are.
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
    """Put a checkpoint's weights and optimiser in place and return its scalars.

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
    """The scalars of a checkpoint; raises TrainingError where they cannot be read."""
    try:
        return msgspec.json.decode((folder / STATE_FILE).read_bytes(), type=TrainingState)
    except (OSError, msgspec.DecodeError) as error:
        raise _unfit(folder, error) from error


def write_random(path: Path, generator: torch.Generator, device: torch.device) -> None:
    """Write the states that random numbers come from in this process.

    Those are the objective's generator, torch's own on the CPU, and that of the device.
    """
    states = {"objective": generator.get_state(), "cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    write_tensors(path, states)


def read_random(path: Path, generator: torch.Generator, device: torch.device) -> None:
    """Go on with the random numbers where `write_random` stopped."""
    states = read_tensors(path)
    try:
        generator.set_state(states["objective"])
        torch.set_rng_state(states["cpu"])
        if device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], device)
    except (KeyError, RuntimeError) as error:
        raise _unfit(path, error) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, from whichever device, to one safetensors file.

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
    """The tensors of a file, on the CPU.

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
        "before, or choose another --out to begin anew"
    )


DTYPES = {"float32": torch.float32, "float16": torch.float16}


def write_result(path: Path, encoder: Encoder, recipe: Recipe, corpus: Corpus, steps: int) -> None:
    """Write the encoder, without its heads, in the type that the recipe asks for.

    Its metadata hold name, training data and licence as the recipe states them, the recipe's text,
    the number of updates, what the audio was, and the versions of the library and of torch.

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
    result.provenance = Provenance(
        name=identity.name, training_data=identity.training_data, licence=identity.licence
    )
    version: str = import_module("auricle").__version__
    extra = {
        "recipe": recipe.text,
        "steps": str(steps),
        "audio": json.dumps(audio),
        "code_version": f"auricle {version}, torch {torch.__version__}",
    }
    result.save(path, extra=extra)
