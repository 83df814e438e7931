"""Measure how near the numbers are to the authors', and write docs/numerics.md's tables.

`python tools/numerics.py` runs the golden cases, writes benchmarks/results/numerics.json and from
it the tables of the page. `--render` writes the tables alone, `--check` writes nothing and exits
with 1 where the page does not have what the results say. `--golden FOLDER` runs the cases of
another folder, prints what they give and writes nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auricle.catalogue.family import FAMILIES
from auricle.models.base import Encoder
from auricle.nn.cpu.policy import reference_kernels

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # what a golden case is stands beside the tests

from page_marks import with_contents  # noqa: E402 - the path comes first

import golden_cases  # noqa: E402 - the path comes first
from golden_cases import BATCH_LIMIT, GoldenCase  # noqa: E402 - the path comes first

PAGE = ROOT / "docs" / "numerics.md"
RESULTS = ROOT / "benchmarks" / "results" / "numerics.json"
TOOL = "python tools/numerics.py"
WIDTH = 100

WAYS = {"default": nullcontext, "plain": reference_kernels}
"""Ways of computing: the one of inference on a CPU, and that of other devices and of training."""

QUESTIONS = ("reference", "batch")
"""Comparisons: alone with the reference, and in a batch with alone."""

Figures = dict[str, dict[str, float]]
"""By layer: `std`, in standard deviations of what is compared with, and `abs`, as it is."""


@dataclasses.dataclass(frozen=True)
class Case(GoldenCase):
    """A golden case in any folder."""

    root: Path = golden_cases.FOLDER

    @property
    def folder(self) -> Path:
        return self.root / self.name


def cases_in(root: Path) -> list[Case]:
    """Every case of a folder, by name.

    Raises:
        SystemExit: There are none.
    """
    cases = [Case(path.parent.name, root) for path in sorted(root.glob("*/case.json"))]
    if not cases:
        raise SystemExit(f"error: {root} holds no golden cases")
    return cases


def difference(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    """The largest difference, in standard deviations of `theirs` and as it is."""
    largest = float((ours.double() - theirs.double()).abs().max())
    return {"std": golden_cases.deviation(ours, theirs), "abs": largest}


def worse(figures: Figures, layer: str, found: Mapping[str, float]) -> None:
    """Keep the larger of what is known of a layer and what was found."""
    known = figures.setdefault(layer, {"std": 0.0, "abs": 0.0})
    for unit, value in found.items():
        known[unit] = max(known[unit], value)


def measure_case(case: Case, way: str) -> dict[str, Figures]:
    """The figures of one case in one way of computing, of its checkpoint in every format."""
    found: dict[str, Figures] = {question: {} for question in QUESTIONS}
    for checkpoint in case.checkpoints:
        encoder = case.load(checkpoint)
        layers = list(encoder.info.layers)
        wavs = case.wavs
        with torch.inference_mode(), WAYS[way]():
            alone = {number: encoder.layers([wav], layers)[0] for number, wav in wavs.items()}
            batch = dict(zip(wavs, encoder.layers(list(wavs.values()), layers), strict=True))
        for number in wavs:
            for layer, reference in case.references(number).items():
                name = layer or encoder.default_layer
                worse(found["reference"], name, difference(alone[number][name], reference))
            for name in layers:
                worse(found["batch"], name, difference(batch[number][name], alone[number][name]))
    return found


def num_codes(case: Case, encoder: Encoder) -> tuple[int, int]:
    """Frames whose codes differ from the reference's, and frames that have reference codes."""
    differing = total = 0
    for number, wav in case.wavs.items():
        reference = case.tensors.get(f"codeids.{number}")
        if reference is not None:
            with torch.inference_mode():
                codes = encoder.codes([wav])[0]
            differing += int((codes != reference).any(dim=1).sum())
            total += len(reference)
    return differing, total


def measure_family(cases: Iterable[Case]) -> dict[str, Any]:
    """Differences in the cases of one family."""
    cases = list(cases)
    ways: dict[str, dict[str, Figures]] = {
        way: {question: {} for question in QUESTIONS} for way in WAYS
    }
    codes = [0, 0]
    for case in cases:
        for way in WAYS:
            for question, figures in measure_case(case, way).items():
                for layer, found in figures.items():
                    worse(ways[way][question], layer, found)
        for place, count in enumerate(num_codes(case, case.load())):
            codes[place] += count
    return {
        "cases": [case.name for case in cases],
        "references": sorted({str(case.facts["reference"]) for case in cases}),
        "limits": {"reference": cases[0].limit, "batch": BATCH_LIMIT},
        "codes": {"differing": codes[0], "frames": codes[1]},
        "ways": ways,
    }


def measure(root: Path = golden_cases.FOLDER, families: Sequence[str] = ()) -> dict[str, Any]:
    """The results of all cases of a folder, or of those of some families."""
    cases = cases_in(root)
    stems = [stem for stem in FAMILIES if any(case.family == stem for case in cases)]
    return {
        "measured_on": {
            "machine": platform.machine(),
            "kernels": torch.backends.cpu.get_cpu_capability(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
        "seconds": sorted({len(wav) / 16_000 for case in cases for wav in case.wavs.values()}),
        "families": {
            stem: measure_family(case for case in cases if case.family == stem)
            for stem in families or stems
        },
    }


def worst(figures: Figures) -> tuple[str, float, float]:
    """The layer with the largest deviation, that deviation, and the largest difference of any."""
    layer = max(figures, key=lambda name: figures[name]["std"])
    return layer, figures[layer]["std"], max(found["abs"] for found in figures.values())


def shown(value: float) -> str:
    """A small number to two digits, rounded up, so that the table never says less."""
    if value == 0.0:
        return "0"
    exponent = int(f"{value:e}".partition("e")[2])
    digits = -(-value // 10.0 ** (exponent - 1))
    if digits >= 100:
        digits, exponent = 10, exponent + 1
    return f"{digits / 10:.1f}e{exponent}"


def family_table(results: Mapping[str, Any], question: str) -> str:
    """The worst of each family in Markdown."""
    lines = [
        "| family | cases | default: std | in layer | max abs | plain: std | in layer | max abs "
        "| limit, std |",
        "|---|---:|---:|---|---:|---:|---|---:|---:|",
    ]
    for stem, family in results["families"].items():
        cells = [FAMILIES[stem].title, str(len(family["cases"]))]
        for way in WAYS:
            layer, in_std, largest = worst(family["ways"][way][question])
            cells += [shown(in_std), layer if in_std else "-", shown(largest)]
        cells.append(f"{family['limits'][question]:.0e}".replace("e-0", "e-"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def layer_table(results: Mapping[str, Any]) -> str:
    """Every layer that has a reference, in Markdown."""
    lines = [
        "| family | layer | reference, default | reference, plain | batch, default "
        "| batch, plain |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for stem, family in results["families"].items():
        ways = family["ways"]
        for layer in ways["default"]["batch"]:
            cells = [FAMILIES[stem].title, layer]
            for question in QUESTIONS:
                for way in WAYS:
                    found = ways[way][question].get(layer)
                    cells.append("-" if found is None else shown(found["std"]))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def code_table(results: Mapping[str, Any]) -> str:
    """Codes of the families with a quantiser, in Markdown."""
    lines = ["| family | frames with codes | codes that differ |", "|---|---:|---:|"]
    for stem, family in results["families"].items():
        codes = family["codes"]
        if codes["frames"]:
            cells = (FAMILIES[stem].title, str(codes["frames"]), str(codes["differing"]))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def origin_table(results: Mapping[str, Any]) -> str:
    """Source code of the references, as Markdown."""
    lines = ["| family | reference | cases |", "|---|---|---|"]
    for stem, family in results["families"].items():
        cases = ", ".join(f"`{case}`" for case in family["cases"])
        lines.append(f"| {FAMILIES[stem].title} | {'; '.join(family['references'])} | {cases} |")
    return "\n".join(lines)


def conditions(results: Mapping[str, Any]) -> str:
    """A sentence on what was run, and where."""
    families = results["families"].values()
    num_cases = sum(len(family["cases"]) for family in families)
    on = results["measured_on"]
    lengths = " and ".join(dict.fromkeys(f"{seconds:.2g} s" for seconds in results["seconds"]))
    threads = "one thread" if on["threads"] == 1 else f"{on['threads']} threads"
    return textwrap.fill(
        f"{num_cases} cases of {len(families)} families, speech of {lengths}; {on['machine']}, "
        f"kernels of torch {on['torch']} for {on['kernels']}, {threads}, float32.",
        WIDTH,
    )


def tables(results: Mapping[str, Any]) -> dict[str, str]:
    """Contents between the marks of the page, by name of the mark."""
    return {
        "conditions": conditions(results),
        "reference": family_table(results, "reference"),
        "batch": family_table(results, "batch"),
        "codes": code_table(results),
        "origins": origin_table(results),
        "layers": layer_table(results),
    }


def expected(page: Path = PAGE, path: Path = RESULTS) -> str:
    """The page as the results have it."""
    results = json.loads(path.read_text(encoding="utf-8"))
    return with_contents(page.read_text(encoding="utf-8"), tables(results), TOOL)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write, or what the options say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--render", action="store_true", help="write the page from the results")
    which.add_argument("--check", action="store_true", help="write nothing; exit 1 if not current")
    which.add_argument("--golden", metavar="FOLDER", type=Path, help="print the figures of others")
    arguments = parser.parse_args(argv)
    if arguments.check:
        if expected() != PAGE.read_text(encoding="utf-8"):
            raise SystemExit("docs/numerics.md is not current; run python tools/numerics.py")
        return
    torch.set_num_threads(1)  # sums are taken in an order that does not hang on the machine's cores
    if arguments.golden is not None:
        contents = tables(measure(arguments.golden))
        sys.stdout.write("\n\n".join(f"{name}\n{text}" for name, text in contents.items()) + "\n")
        return
    if not arguments.render:
        RESULTS.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(expected(), encoding="utf-8")


if __name__ == "__main__":
    main()
