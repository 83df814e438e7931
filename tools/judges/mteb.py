"""MTEB's evaluator on `auricle.adapters.mteb`: a task of spoken digits, and its own small ones."""

from __future__ import annotations

import sys
from typing import Any

import torch

from auricle.adapters.mteb import MtebEncoder
from judges.verdict import MODELS, Verdict, deviation, digits

FACTS = {
    "dataset": {"path": "none", "revision": "none"},
    "description": "Which digit a speaker says who is not among those of the training data.",
    "type": "AudioClassification",
    "category": "a2t",
    "modalities": ["audio"],
    "eval_splits": ["test"],
    "eval_langs": ["ara-Arab"],
    "main_score": "accuracy",
}
MAX_ERROR = 0.8
"""Of ten digits, a guess has 0.9."""


def digits_task() -> Any:
    """A task of MTEB on the digits, which it decodes and splits itself."""
    from datasets import Audio, Dataset, DatasetDict
    from mteb import TaskMetadata
    from mteb.abstasks import AbsTaskClassification

    words = sorted({row["word"] for row in digits()})

    class Digits(AbsTaskClassification):
        metadata = TaskMetadata(name="Digits", **FACTS)
        input_column_name = "audio"
        n_experiments = 3

        def load_data(self, *arguments: Any, **options: Any) -> None:
            splits = {}
            for split in ("train", "test"):
                rows = [row for row in digits() if row["split"] == split]
                cells = {
                    "audio": [str(row["path"]) for row in rows],
                    "label": [words.index(row["word"]) for row in rows],
                }
                splits[split] = Dataset.from_dict(cells).cast_column("audio", Audio())
            self.dataset = DatasetDict(splits)
            self.data_loaded = True

    return Digits()


def embeddings_deviate(model: MtebEncoder, task: Any) -> float:
    """How far embeddings through MTEB's loader are from those of one file alone."""
    from mteb._create_dataloaders import create_dataloader

    loader = create_dataloader(
        task.dataset["test"].select(range(8)), task_metadata=task.metadata, batch_size=8
    )
    found = model.encode(loader, task_metadata=task.metadata, hf_split="test", hf_subset="default")
    paths = [row["path"] for row in digits() if row["split"] == "test"][:8]
    alone = torch.cat([model.encoder.pooled([path], "mean").detach() for path in paths])
    return deviation(torch.from_numpy(found), alone)


def main() -> int:
    """Evaluate every model."""
    import mteb
    from mteb.mocks import MockAudioClusteringTask, MockAudioPairClassification
    from mteb.models.models_protocols import EncoderProtocol

    verdict = Verdict("mteb", "mteb")
    task = digits_task()
    task.load_data()
    num_accepted, num_mocks, largest, errors = 0, 0, 0.0, {}
    for name in MODELS:
        model = MtebEncoder(name)
        num_accepted += isinstance(model, EncoderProtocol)
        largest = max(largest, embeddings_deviate(model, task))
        (result,) = mteb.evaluate(model, task, cache=None, show_progress_bar=False).task_results
        errors[name] = 1 - result.get_score()
        mocks = [MockAudioClusteringTask(), MockAudioPairClassification()]
        num_mocks += len(
            mteb.evaluate(model, mocks, cache=None, show_progress_bar=False).task_results
        )
    verdict.equal("models accepted", num_accepted, len(MODELS))
    verdict.equal("its own small tasks run", num_mocks, 2 * len(MODELS))
    verdict.at_most("embeddings of speech", largest, 1e-4)
    for name, error in errors.items():
        verdict.at_most(f"error, {name}", error, MAX_ERROR)
    return verdict.finish()


if __name__ == "__main__":
    sys.exit(main())
