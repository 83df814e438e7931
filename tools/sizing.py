"""Write the computed tables of docs/sizing.md: storage by arithmetic, cost from measured rates.

`python tools/sizing.py` writes them; with `--check` it writes nothing and exits with 1 where the
page does not have what would be written.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from page_marks import with_contents

from auricle.catalogue.family import FAMILIES
from auricle.checkpoints.checkpoint import blank_encoder
from auricle.info import SAMPLE_RATE

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "sizing.md"
TOOL = "python tools/sizing.py"
RATES = ROOT / "benchmarks" / "results" / "encoding.json"

SIZES = (
    "fbank",
    "cpc",
    "modified_cpc",
    "apc",
    "pase_plus",
    "wav2vec_large",
    "vq_wav2vec",
    "mockingjay_base",
    "vq_apc",
    "audio_albert_3",
    "wav2vec2_base_960",
    "wav2vec2_large_ll60k",
    "tera_base",
    "npc",
    "hubert_base",
    "wavlm_base",
    "data2vec_audio_base",
)
BYTES = {"float32": 4, "float16": 2}
"""Bytes of a value; bfloat16 takes as many as float16."""

MANY_HOURS = 100_000
SECONDS_PER_HOUR = 3600
GIGA, TERA = 1e9, 1e12


@dataclasses.dataclass(frozen=True)
class Layers:
    """Frames per second and dims of each layer of a size."""

    default: str
    shapes: Mapping[str, tuple[float, int]]

    def bytes_per_hour(self, layers: Sequence[str], dtype: str) -> float:
        """Bytes that these layers of an hour of audio take."""
        values = sum(rate * dim for rate, dim in (self.shapes[layer] for layer in layers))
        return values * BYTES[dtype] * SECONDS_PER_HOUR


def layers_of(size: str) -> Layers:
    """The layers of a published size, by its configuration alone."""
    family = next(family for family in FAMILIES.values() if size in family.sizes)
    encoder = blank_encoder(family, family.presets()[size])
    shapes = {
        layer.name: (SAMPLE_RATE / layer.geometry.hop_samples, layer.dim)
        for layer in encoder.layer_infos
    }
    return Layers(default=encoder.default_layer, shapes=shapes)


def shown(value: float) -> str:
    """A number to three digits."""
    return f"{float(f'{value:.3g}'):,.{max(0, 2 - math.floor(math.log10(value)))}f}"


def storage_table() -> str:
    """Storage of each size in Markdown."""
    lines = [
        "| size | default layer | frames/s | dim | float32, 1 h | float16, 1 h | "
        f"float16, {MANY_HOURS:,} h | layers | all, float16, {MANY_HOURS:,} h |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for size in SIZES:
        layers = layers_of(size)
        rate, dim = layers.shapes[layers.default]
        wide, half = (layers.bytes_per_hour([layers.default], dtype) for dtype in BYTES)
        every = layers.bytes_per_hour([*layers.shapes], "float16")
        lines.append(
            f"| `{size}` | {layers.default} | {rate:g} | {dim} | {shown(wide / GIGA)} GB | "
            f"{shown(half / GIGA)} GB | {shown(half * MANY_HOURS / TERA)} TB | "
            f"{len(layers.shapes)} | {shown(every * MANY_HOURS / TERA)} TB |"
        )
    return "\n".join(lines)


def cost_table(rates: Mapping[str, Mapping[str, float]]) -> str:
    """Cost of each size in Markdown.

    Args:
        rates: Hours of audio an hour of one core ("cpu") or of a GPU ("cuda"), by size.
    """
    lines = [
        "| size | hours of audio per core-hour | core-hours for "
        f"{MANY_HOURS:,} h | hours of audio per GPU-hour | GPU-hours for {MANY_HOURS:,} h |",
        "|---|---|---|---|---|",
    ]
    for size in SIZES:
        cells = []
        for kind in ("cpu", "cuda"):
            rate = rates.get(size, {}).get(kind)
            if rate is None:
                cells += ["not measured here", f"{MANY_HOURS:,} / rate"]
            else:
                cells += [shown(rate), shown(MANY_HOURS / rate)]
        lines.append(f"| `{size}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def expected(page: Path = PAGE, rates: Path = RATES) -> str:
    """The page as it should be."""
    found = json.loads(rates.read_text(encoding="utf-8"))
    tables = {"storage": storage_table(), "cost": cost_table(found)}
    return with_contents(page.read_text(encoding="utf-8"), tables, TOOL)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if not current")
    arguments = parser.parse_args(argv)
    text = expected()
    if arguments.check and text != PAGE.read_text(encoding="utf-8"):
        raise SystemExit("docs/sizing.md is not current; run python tools/sizing.py")
    if not arguments.check:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
