"""Measure the start-up time of each step against its limit.

    python benchmarks/start_up.py [--repetitions 7] [--out FILE]
    python benchmarks/start_up.py --render

Every measurement is a process of its own from its start to its end, Python's own start included;
medians over repetitions, of which the first does not count. What loads a model has to import torch,
the rest does not: a budget is for what a step takes beyond importing torch, or beyond Python's
own start. The status is 1 where a step takes more. `--render` writes the table of docs/speed.md.

    python        a Python that does nothing
    torch         import torch
    import        import auricle
    help          auricle --help
    list          auricle list
    load_mini     auricle.load of a small encoder in the package
    load_base     auricle.load of wav2vec 2.0 Base, 95 M random weights, from a file of its own
    features      auricle.load of a small encoder, and its features of a bundled utterance
    explore       auricle explore, until a browser has its page
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from page_marks import with_contents  # noqa: E402 - the path comes first

RESULTS = ROOT / "benchmarks" / "results" / "start_up.json"
PAGE = ROOT / "docs" / "speed.md"
TOOL = "python benchmarks/start_up.py --render"

LOAD = "import auricle; encoder = auricle.load({!r})"
ENCODE = """
import torch
from auricle.audio.inputs import sample_paths
with torch.inference_mode():
    encoder([str(sample_paths()[0])])
"""
EXPLORE = """
import os
from urllib.request import urlopen
from auricle.explore.page import serve
with serve() as address:
    urlopen(address).read()
    os._exit(0)  # without waiting for torch, which is imported meanwhile
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=7, help="(default: 7)")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"(default: {RESULTS})")
    parser.add_argument("--render", action="store_true", help="write the table, measure nothing")
    arguments = parser.parse_args()
    if arguments.render:
        render(json.loads(arguments.out.read_text(encoding="utf-8"))["steps"])
        return 0
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "base.safetensors")
        code = f"import auricle; auricle.build('wav2vec2_base_960').save({str(base)!r})"
        subprocess.run((sys.executable, "-c", code), check=True)
        seconds = measured(steps(base), arguments.repetitions)
    rows = []
    for name, step in steps(base).items():
        beyond = None if step.before is None else round(seconds[name] - seconds[step.before], 3)
        row = {"step": name, "seconds": round(seconds[name], 3), "before": step.before}
        rows.append({**row, "beyond": beyond, "budget": step.budget})
    machine = {"cpu": platform.processor() or platform.machine(), "python": sys.version.split()[0]}
    text = json.dumps({"machine": machine, "steps": rows}, indent=1)
    arguments.out.write_text(f"{text}\n", encoding="utf-8")
    print(table(rows))
    late = [row["step"] for row in rows if row["beyond"] and row["beyond"] > row["budget"]]
    if late:
        print(f"over budget: {', '.join(late)}", file=sys.stderr)
    return 1 if late else 0


class Step(NamedTuple):
    """Arguments of Python, the step that its budget comes on top of, and seconds beyond that."""

    arguments: tuple[str, ...]
    before: str | None = None
    budget: float = 0.0


def steps(base: Path) -> dict[str, Step]:
    """All steps by name."""
    mini = LOAD.format("apc_mini")
    return {
        "python": Step(("-c", "")),
        "torch": Step(("-c", "import torch")),
        "import": Step(("-c", "import auricle"), "python", 0.15),
        "help": Step(("-m", "auricle", "--help"), "python", 0.3),
        "list": Step(("-m", "auricle", "list"), "python", 0.6),
        "load_mini": Step(("-c", mini), "torch", 0.5),
        "load_base": Step(("-c", LOAD.format(str(base))), "torch", 0.75),
        "features": Step(("-c", mini + ENCODE), "torch", 1.0),
        "explore": Step(("-c", EXPLORE), "python", 5.0),
    }


def measured(commands: dict[str, Step], repetitions: int) -> dict[str, float]:
    """Median seconds of each step; steps take turns."""
    # As after an installation, modules are compiled once, by the repetition that does not count.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repetitions + 1):
        for name, step in commands.items():
            command = (sys.executable, *step.arguments)
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=True)
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values[1:]) for name, values in seconds.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """The steps as a Markdown table."""
    lines = ["| step | seconds | on top of | takes | may take |", "|---|---:|---|---:|---:|"]
    for row in rows:
        beyond = "| | | |"
        if row["before"] is not None:
            beyond = f"| {row['before']} | {row['beyond']} | {row['budget']} |"
        lines.append(f"| {row['step']} | {row['seconds']} {beyond}")
    return "\n".join(lines)


def render(rows: list[dict[str, Any]]) -> None:
    """Write the table between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_contents(page, {"start-up": table(rows)}, TOOL), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
