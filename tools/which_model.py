"""Write the tables of docs/which-model.md from the catalogue, the sizes and the committed results.

`python tools/which_model.py` writes them; with `--check` it writes nothing and exits with 1 where
the page does not have what would be written.
"""

from __future__ import annotations

import argparse
import functools
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from card_sources import BASELINES, TASKS
from page_marks import with_contents

from auricle.catalogue.family import FAMILIES
from auricle.catalogue.search import find, list_models
from auricle.checkpoints.checkpoint import blank_encoder
from auricle.errors import AuricleError
from auricle.info import SAMPLE_RATE
from auricle.models.base import Encoder
from auricle.probing.report import ProbeResult, percent, read_results

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "which-model.md"
PROBES = ROOT / "docs" / "models" / "probes"
PEERS = ROOT / "benchmarks" / "results" / "peers.json"
TOOL = "python tools/which_model.py"

SIZE_OF = {
    "apc": "apc",
    "vq_apc": "vq_apc",
    "npc": "npc",
    "mockingjay": "mockingjay_base",
    "tera": "tera_base",
    "audio_albert": "audio_albert_12",
    "cpc": "cpc",
    "modified_cpc": "modified_cpc",
    "pase_plus": "pase_plus",
    "wav2vec": "wav2vec_large",
    "vq_wav2vec": "vq_wav2vec",
    "wav2vec2": "wav2vec2_base_960",
    "wav2vec2_large": "wav2vec2_large_ll60k",
    "hubert": "hubert_base",
    "hubert_large": "hubert_large",
    "wavlm": "wavlm_base_plus",
    "data2vec": "data2vec_audio_base",
    "w2v_bert": "w2v_bert_2",
    "whisper_base": "whisper_base",
    "whisper_small": "whisper_small",
}
"""Model of benchmarks/peers.py -> published size that it measures."""

CASE = "ragged"
"""Of benchmarks/peers.py: nine utterances of 7 to 16 s."""

YES, NO = "yes", "-"
WIDTH = 100


@functools.cache
def encoders() -> tuple[tuple[str, str, Encoder], ...]:
    """Stem of the family, name and encoder of every published size; without weights."""
    return tuple(
        (stem, size, blank_encoder(family, config).eval())
        for stem, family in FAMILIES.items()
        for size, config in family.presets().items()
    )


def streams(encoder: Encoder) -> bool:
    """Return true if the encoder can stream."""
    try:
        encoder.stream()
    except AuricleError:
        return False
    return True


def sight(encoder: Encoder) -> str:
    """Describe the samples that a frame of the default layer depends on."""
    field = encoder.info.receptive_field
    if field.looks_ahead:
        return "the whole utterance"
    span = f"{field.samples / SAMPLE_RATE * 1000:.3g} ms"
    past = ", and the past" if field.sees_past else ""
    levels = "; statistics of the utterance" if field.uses_utterance_statistics else ""
    return f"{span}{past}{levels}"


def family_table() -> str:
    """A row for what sizes of a family have in common."""
    lines = [
        "| family | sizes | reads | frames/s | a frame sees | streams | codes | shortest |",
        "|---|---|---|---:|---|---|---|---:|",
    ]
    rows: dict[tuple[str, ...], list[str]] = {}
    for stem, size, encoder in encoders():
        info = encoder.info
        kind = (
            FAMILIES[stem].title,
            "spectra" if FAMILIES[stem].input == "mel" or stem == "baseline" else "waveform",
            f"{SAMPLE_RATE / info.hop_samples:g}",
            sight(encoder),
            YES if streams(encoder) else NO,
            NO if encoder.codes_layer is None else YES,
            f"{info.min_samples / SAMPLE_RATE * 1000:.3g} ms",
        )
        rows.setdefault(kind, []).append(f"`{size}`")
    for (title, *cells), sizes in rows.items():
        lines.append(f"| {title} | {', '.join(sizes)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def size_table() -> str:
    """Every published size that has weights, and the names of the catalogue that are of it."""
    names: dict[str, list[str]] = {}
    for name in list_models():
        record = find(name)
        if record.size is not None and record.urls and record.family in FAMILIES:
            names.setdefault(record.size, []).append(f"`{name}`")
    lines = [
        "| size | family | million parameters | layers | default | dim | in the catalogue |",
        "|---|---|---:|---:|---|---:|---|",
    ]
    for stem, size, encoder in encoders():
        info = encoder.info
        if info.num_parameters == 0:
            continue
        shown = ", ".join(names.get(size, [])) or NO
        lines.append(
            f"| `{size}` | {FAMILIES[stem].title} | {info.num_parameters / 1e6:.1f} | "
            f"{len(info.layers)} | {info.default_layer} | {info.dims[info.default_layer]} | "
            f"{shown} |"
        )
    return "\n".join(lines)


def speed_table(results: Mapping[str, Any]) -> str:
    """Speed of the sizes measured beside other libraries, fastest first."""
    lines = [
        "| size | x real time | slowest to fastest round | peak MiB |",
        "|---|---:|---:|---:|",
    ]
    rows = [row for row in results["rows"] if row["case"] == CASE]
    cells = []
    for row in rows:
        entry = next(entry for entry in row["entries"] if entry["library"] == "auricle")
        rates = [row["audio_seconds"] / entry[key] for key in ("median", "slowest", "fastest")]
        cells.append((rates, entry["peak_mib"], SIZE_OF[row["model"]]))
    for rates, peak, size in sorted(cells, key=lambda cell: -cell[0][0]):
        middle, low, high = (f"{rate:.3g}" for rate in rates)
        lines.append(f"| `{size}` | {middle} | {low} to {high} | {peak} |")
    return "\n".join(lines)


def probe_results() -> dict[str, list[ProbeResult]]:
    """The results of every task."""
    return {task: list(read_results(PROBES / f"{task}.json").results) for task in TASKS}


def order_table(results: Mapping[str, Sequence[ProbeResult]]) -> str:
    """The models of each task in the order of their best layer, with the accuracy in percent."""
    lines = [f"| | {' | '.join(results)} |", f"|---:|{'---|' * len(results)}"]
    columns = [
        sorted(of_task, key=lambda result: -result.best.accuracy) for of_task in results.values()
    ]
    for place, row in enumerate(zip(*columns, strict=True), start=1):
        cells = [
            f"{_linked(result.model)} {percent(result.best.accuracy)} ({result.best.name})"
            for result in row
        ]
        lines.append(f"| {place} | {' | '.join(cells)} |")
    return "\n".join(lines)


def probe_sentences(results: Mapping[str, Sequence[ProbeResult]]) -> str:
    """Summary of the probes: chance, gains over the baseline, best layers."""
    chances, gains = [], []
    others = total = 0
    for task, of_task in results.items():
        baselines = [result for result in of_task if result.model in BASELINES]
        highest = max(result.best.accuracy for result in baselines)
        minis = [result for result in of_task if result.model not in BASELINES]
        above = sum(result.best.accuracy > highest for result in minis)
        chances.append(f"{percent(baselines[0].majority_accuracy)} % on {task}")
        gains.append(f"{above} of {len(minis)} on {task}")
        others += sum(result.best.name != result.default_layer for result in minis)
        total += len(minis)
    return textwrap.fill(
        f"Always saying the most frequent label gives {_listed(chances)}. With their best layer "
        f"the small encoders are above all baselines in {_listed(gains)}. The best layer is "
        f"another one than the default in {others} of {total}.",
        WIDTH,
    )


def _listed(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _linked(model: str) -> str:
    return f"`{model}`" if model in BASELINES else f"[`{model}`](models/{model}.md)"


def tables() -> dict[str, str]:
    """Contents between the marks of the page, by name of the mark."""
    results = probe_results()
    return {
        "families": family_table(),
        "speed": speed_table(json.loads(PEERS.read_text(encoding="utf-8"))),
        "sum": probe_sentences(results),
        "probes": order_table(results),
        "sizes": size_table(),
    }


def expected() -> str:
    """The page as it should be."""
    return with_contents(PAGE.read_text(encoding="utf-8"), tables(), TOOL)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if not current")
    arguments = parser.parse_args(argv)
    text = expected()
    if not arguments.check:
        PAGE.write_text(text, encoding="utf-8")
    elif text != PAGE.read_text(encoding="utf-8"):
        raise SystemExit("docs/which-model.md is not current; run python tools/which_model.py")


if __name__ == "__main__":
    main()
