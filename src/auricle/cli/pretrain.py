"""`auricle pretrain`: from a recipe and audio to an encoder."""

from __future__ import annotations

import argparse

from auricle.cli.folders import check_folder
from auricle.training.corpus import read_corpus
from auricle.training.recipe import read_recipe
from auricle.training.trainer import RunSettings, train

SIGNAL_STATUS = 128
"""What shells add to the number of the signal that ended a command."""


def run(arguments: argparse.Namespace) -> int:
    """Train as the arguments say; the status is 128 and the signal's number if one stopped it.

    Raises:
        AuricleError: The recipe, the audio or a checkpoint is wrong, the loss is not finite, or
            something cannot be written.
    """
    recipe = read_recipe(arguments.recipe)
    if arguments.steps is not None:
        recipe = recipe.with_steps(arguments.steps)
    check_folder(arguments.out)
    corpus = read_corpus(arguments.data, split=arguments.split)
    settings = RunSettings(
        device=arguments.device,
        num_workers=arguments.workers,
        caches_audio=arguments.cache_audio,
    )
    outcome = train(recipe, corpus, arguments.out, settings)
    if outcome.is_main and outcome.result is not None:
        print(f"wrote {outcome.result} after {outcome.step} steps")
    elif outcome.is_main:
        print(
            f"stopped after step {outcome.step} of {recipe.identity.steps}; run the same command "
            "again to go on"
        )
    return 0 if outcome.result is not None else SIGNAL_STATUS + outcome.stopped_by
