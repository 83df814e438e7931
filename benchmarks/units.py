"""Compare an extraction of units with that of their layer: CPU time and size of the store.

    python benchmarks/units.py --data LibriSpeech/dev-clean
    python benchmarks/units.py --data LibriSpeech/dev-clean --models hubert_base --random-weights

Centroids are frames of the layer. The extractions take turns, on one thread, and the figures are
medians of their CPU time (a busy machine disturbs it least). The ratio is the speed of the
extraction of units relative to that of the layer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import auricle
from auricle.units.codebook import Units

RESULTS = Path(__file__).parent / "results" / "units.json"
FILES_OF_CENTROIDS = 4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path, help="folder of speech")
    parser.add_argument("--models", nargs="*", default=["tera_mini", "wav2vec2_mini"])
    parser.add_argument(
        "--random-weights", action="store_true", help="sizes with random weights, not downloads"
    )
    parser.add_argument("--clusters", type=int, default=500)
    parser.add_argument("--max-files", type=int, default=40)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"(default: {RESULTS})")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    suffixes = {".flac", ".wav", ".ogg"}
    paths = [path for path in sorted(arguments.data.rglob("*")) if path.suffix in suffixes]
    paths = paths[:: max(1, len(paths) // arguments.max_files)][: arguments.max_files]
    rows = []
    for name in arguments.models:
        encoder = auricle.build(name) if arguments.random_weights else auricle.load(name)
        rows.append(measure(name, encoder.to("cpu").eval(), paths, arguments))
        print(json.dumps(rows[-1]))
    names = {row["model"] for row in rows}
    held = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
    rows = [row for row in held if row["model"] not in names] + rows
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measure(
    name: str, encoder: auricle.Encoder, paths: list[Path], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Extract in turns, and compare."""
    with torch.inference_mode():
        frames = torch.cat(encoder(paths[:FILES_OF_CENTROIDS]))
    info = encoder.layer_info(None)
    chosen = torch.randperm(len(frames), generator=torch.Generator().manual_seed(0))
    centroids = frames[chosen[: arguments.clusters]].clone()
    units = Units(centroids=centroids[None], layer=info.name, family=encoder.family)
    seconds: dict[str, list[float]] = {"layer": [], "units": []}
    mib = {}
    for trial in range(arguments.trials + 1):
        for kind, chosen_units in (("layer", None), ("units", units)):
            with tempfile.TemporaryDirectory() as out:
                start = time.process_time()
                summary = auricle.extract(paths, out, model=encoder, units=chosen_units)
                if trial:  # the first warms up
                    seconds[kind].append(time.process_time() - start)
                mib[kind] = (
                    sum(path.stat().st_size for path in Path(out, "shards").iterdir()) / 2**20
                )
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    return {
        "model": f"{name}, random weights" if arguments.random_weights else name,
        "clusters": len(centroids),
        "dim": info.dim,
        "audio_seconds": round(summary.seconds, 1),
        "layer_cpu_seconds": round(medians["layer"], 3),
        "units_cpu_seconds": round(medians["units"], 3),
        "ratio": round(medians["layer"] / medians["units"], 3),
        "layer_mib": round(mib["layer"], 2),
        "units_mib": round(mib["units"], 3),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
