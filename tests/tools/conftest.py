"""A repository of two small encoders with everything that their cards are made of."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import torch

import auricle
from auricle.catalogue.family import FAMILIES
from auricle.catalogue.record import Record
from auricle.files.atomic import file_sha256
from auricle.info import Provenance
from auricle.probing.abx_report import AbxReport
from auricle.probing.report import write_results
from auricle.training.recipe import parse_recipe
from probing.conftest import ABX_SETTINGS, abx_result, probe_result

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))  # the tools are no package

if TYPE_CHECKING:
    from card_sources import Sources

RECIPE = """\
[recipe]
name = "{name}"
family = "{family}"
steps = 40

[encoder]
{encoder}

[data]
batch_seconds = 8

[optimizer]
learning_rate = 1e-3
"""
ENCODERS = {
    "apc": "num_layers = 2\nhidden_size = 8",
    "tera": "transformer = {hidden_size = 8, num_layers = 1, num_heads = 2, ffn_size = 8}",
}
FBANK = {"phones": 0.5, "words": 0.4, "speakers": 0.98}
GAINS = {
    "apc_mini": {"phones": 0.12, "words": 0.2, "speakers": -0.03},
    "tera_mini": {"phones": 0.04, "words": 0.01, "speakers": 0.0},
}
"""What the last layer has over fbank; every layer before it has a tenth less than the next."""


class Repository:
    """The root of a made-up repository; its weights lie beside the documents."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "docs" / "models"
        for name in ("training", "probes", "notes"):
            (self.folder / name).mkdir(parents=True)
        (root / "README.md").write_text(
            "before\n<!-- minis: `make cards` -->\n<!-- /minis -->\nafter\n"
        )
        self.records = [self._embed(stem) for stem in ENCODERS]
        self.write_probes()

    def path_of(self, record: Record) -> Path:
        return self.root / f"{record.name}.safetensors"

    def sources(self) -> Sources:
        from card_sources import read_sources

        return read_sources(self.folder, self.records, self.path_of)

    def _embed(self, stem: str) -> Record:
        name = f"{stem}_mini"
        recipe = RECIPE.format(name=name, family=stem, encoder=ENCODERS[stem])
        encoder = FAMILIES[stem].encoder_type()(parse_recipe(recipe).encoder).to(torch.float16)
        encoder.provenance = Provenance(name=name)
        extra = {
            "recipe": recipe,
            "steps": "20" if stem == "apc" else "40",
            "audio": json.dumps({"utterances": 615, "hours": 2.031, "sha256": "cd34"}),
            "code_version": "auricle 0, torch 0",
        }
        path = self.root / f"{name}.safetensors"
        encoder.save(path, extra=extra)
        self.write_log(name, last_step=int(extra["steps"]))
        return Record(
            name=name,
            family=stem,
            title=FAMILIES[stem].title,
            paper=FAMILIES[stem].paper,
            sha256=file_sha256(path),
            training_data="some speech",
            licence="CC BY 4.0",
            embedded=True,
        )

    def write_log(self, name: str, *, last_step: int) -> None:
        steps = range(10, last_step + 1, 10)
        lines = [
            {"step": n, "loss": 10 / n, "seconds": 300.0 * n, "audio_hours": n / 8} for n in steps
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (self.folder / "training" / f"{name}.jsonl").write_text(text)

    def write_probes(self, *, left_out: str = "", sha256: str | None = None) -> None:
        """Results of all models but `left_out`; of these weights, where they are given."""
        for task, level in FBANK.items():
            results = [
                probe_result(
                    record.name,
                    task,
                    self._accuracies(record, task),
                    weights_sha256=sha256 or record.sha256,
                )
                for record in self.records
            ]
            results += [probe_result(name, task, {"features": level}) for name in ("fbank", "mel")]
            kept = [result for result in results if result.model != left_out]
            write_results(self.folder / "probes" / f"{task}.json", kept)

    def write_abx(self, *, sha256: str | None = None) -> None:
        """ABX of all models; of these weights, where they are given."""
        results = [
            abx_result(
                record.name,
                {
                    name: (0.08 + 0.01 * place, 0.16 - 0.01 * place)
                    for place, name in enumerate(auricle.load(self.path_of(record)).info.layers)
                },
                weights_sha256=sha256 or record.sha256,
            )
            for record in self.records
        ]
        results += [abx_result(name, {"features": (0.083, 0.176)}) for name in ("fbank", "mel")]
        report = AbxReport(settings=ABX_SETTINGS, results=tuple(results))
        (self.folder / "probes" / "abx.json").write_bytes(msgspec.json.encode(report))

    def _accuracies(self, record: Record, task: str) -> dict[str, float]:
        names = auricle.load(self.path_of(record)).info.layers
        best = FBANK[task] + GAINS[record.name][task]
        return {name: best - 0.1 * (len(names) - 1 - place) for place, name in enumerate(names)}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)
