"""Measure the speed of reduced precision, at the published size of each family.

    python benchmarks/precision_speed.py --data librispeech [--sizes apc wav2vec2_base_960]
    python benchmarks/precision_speed.py --render

Weights are random. Speech of `--data` goes through the default layer in one call, on one thread, by
the processor's clock; in every round each precision encodes once, in an order that moves on by one,
after one encoding each that does not count. `--render` writes the table of docs/speed.md from the
file of results, in which sizes that are not measured again stay.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from encoding import SIZES
from precision import PRECISIONS, waveforms

import auricle
from auricle.errors import AuricleError
from auricle.inference.approximate import set_precision

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from page_marks import with_contents  # noqa: E402 - the path comes first

RESULTS = ROOT / "benchmarks" / "results" / "precision_speed.json"
PAGE = ROOT / "docs" / "speed.md"
TOOL = "python benchmarks/precision_speed.py --render"
EXACT = "float32"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of speech")
    parser.add_argument("--sizes", nargs="*", default=[size for size in SIZES if size != "fbank"])
    parser.add_argument("--seconds", type=float, default=30.0, help="of speech (default: 30)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"(default: {RESULTS})")
    parser.add_argument("--render", action="store_true", help="write the table, measure nothing")
    arguments = parser.parse_args()
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    if arguments.render:
        render(results)
        return 0
    if arguments.data is None:
        parser.error("give --data, a folder of speech, or --render")
    torch.set_num_threads(1)
    wavs = waveforms(arguments.data, arguments.seconds)
    for size in arguments.sizes:
        results[size] = measured(size, wavs, arguments.rounds)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(table({size: results[size]}).splitlines()[-1], flush=True)
    return 0


def measured(size: str, wavs: list[torch.Tensor], rounds: int) -> dict[str, list[float]]:
    """Processor's seconds of each round, by precision."""
    exact = auricle.build(size)
    encoders: dict[str, Any] = {EXACT: exact}
    for precision in PRECISIONS:
        encoder = copy.deepcopy(exact)
        try:
            set_precision(encoder, precision)
        except AuricleError:  # int8 is for Transformers
            continue
        encoders[precision] = encoder
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    with torch.inference_mode():
        for encoder in encoders.values():
            encoder(wavs)
        for index in range(rounds):
            names = [*encoders]
            start = index % len(names)
            for name in names[start:] + names[:start]:
                begin = time.process_time()
                encoders[name](wavs)
                seconds[name].append(round(time.process_time() - begin, 4))
    return seconds


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """Speed of each precision relative to float32, as Markdown."""
    lines = [f"| size | {' | '.join(PRECISIONS)} |", f"|---|{'---:|' * len(PRECISIONS)}"]
    for size, seconds in results.items():
        exact = median(seconds[EXACT])
        cells = [
            f"{exact / median(seconds[name]):.2f}" if name in seconds else "" for name in PRECISIONS
        ]
        lines.append(f"| `{size}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def render(results: dict[str, dict[str, list[float]]]) -> None:
    """Write the table between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    content = {"precision-speed": table(results)}
    PAGE.write_text(with_contents(page, content, TOOL), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
