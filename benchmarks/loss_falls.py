"""Every objective's loss falls: each small recipe trained for two minutes on real speech.

    python benchmarks/loss_falls.py --data LibriSpeech/train-clean-100 [--seconds 120] [NAME ...]

Prints for each recipe of recipes/mini the loss of its first and last lines of metrics, and ends
with status 1 where one did not fall. All of them take 24 minutes.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean

RECIPES = Path(__file__).parents[1] / "recipes" / "mini"
LINES = 2
"""Lines of metrics that are averaged at either end."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="recipes (default: all)")
    parser.add_argument("--data", required=True, help="folder of speech, or a manifest")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long to train each")
    arguments = parser.parse_args()
    names = arguments.names or sorted(path.stem for path in RECIPES.glob("*.toml"))
    fell = [losses_fell(name, arguments.data, arguments.seconds) for name in names]
    return 0 if all(fell) else 1


def losses_fell(name: str, data: str, seconds: float) -> bool:
    """Train by a recipe, report, and tell whether the loss fell."""
    losses = train(name, data, seconds)
    if len(losses) < 2 * LINES:
        print(f"{name}: {len(losses)} lines of metrics in {seconds:g} s are too few to tell")
        return False
    first, last = fmean(losses[:LINES]), fmean(losses[-LINES:])
    print(f"{name:<14}{first:8.4f} -> {last:8.4f}  {'fell' if last < first else 'DID NOT FALL'}")
    return last < first


def train(name: str, data: str, seconds: float) -> list[float]:
    """The losses that a training of so many seconds records, decoding of the audio excluded."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / f"{name}.toml"
        text = (RECIPES / f"{name}.toml").read_text(encoding="utf-8")
        recipe.write_text(text.replace("log_every = 20", "log_every = 5"), encoding="utf-8")
        out = Path(folder) / "run"
        metrics = out / "metrics.jsonl"
        command = (sys.executable, "-m", "auricle", "pretrain", recipe, "--data", data)
        with subprocess.Popen(
            [*map(str, command), "--out", str(out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            while not metrics.exists():
                try:
                    process.wait(1)
                    break
                except subprocess.TimeoutExpired:
                    continue
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                process.wait()
        if not metrics.exists():
            raise SystemExit(f"{name} could not be trained; run {' '.join(map(str, command))}")
        return [json.loads(line)["loss"] for line in metrics.read_text().splitlines()]


if __name__ == "__main__":
    sys.exit(main())
