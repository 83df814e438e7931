"""The result of a training: an encoder in the library's own format that says how it came to be."""

from __future__ import annotations

import copy
import json
from importlib import import_module
from pathlib import Path

import torch

from auricle.info import Provenance
from auricle.models.base import Encoder
from auricle.training.corpus import Corpus
from auricle.training.recipe import Recipe

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
