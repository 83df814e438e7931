"""Measure the effect of reduced precision on layers and probes of the small encoders.

    python benchmarks/precision.py --data librispeech [--models tera_mini] [--probe-data corpora]
    python benchmarks/precision.py --render

Differences from float32 are in standard deviations of the float32 layer over `--data`: their root
mean square and their 99.9th percentile. With `--probe-data`, a corpus as `auricle probe` takes it,
the default layer's accuracies are measured too. `--render` writes the table of docs/speed.md from
the file of results, in which models that are not measured again stay.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import auricle
from auricle.audio.files import read_audio
from auricle.audio.inputs import list_audio_files
from auricle.errors import AuricleError
from auricle.info import SAMPLE_RATE

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from page_marks import with_contents  # noqa: E402 - the path comes first

RESULTS = ROOT / "benchmarks" / "results" / "precision.json"
PAGE = ROOT / "docs" / "speed.md"
TOOL = "python benchmarks/precision.py --render"
MODELS = (
    "cpc_mini",
    "modified_cpc_mini",
    "apc_mini",
    "vq_apc_mini",
    "npc_mini",
    "pase_mini",
    "wav2vec_mini",
    "vq_wav2vec_mini",
    "wav2vec2_mini",
    "mockingjay_mini",
    "tera_mini",
    "audio_albert_mini",
)
PRECISIONS = ("bf16", "int8")
MAX_QUANTILE_VALUES = 1 << 23
"""Differences that a percentile is taken of; of more, every so manieth."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of speech")
    parser.add_argument("--seconds", type=float, default=60.0, help="of it (default: 60)")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--probe-data", type=Path, metavar="CORPUS", help="probe phones, too")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"(default: {RESULTS})")
    parser.add_argument("--render", action="store_true", help="write the table, measure nothing")
    arguments = parser.parse_args()
    if not arguments.render and arguments.data is None:
        parser.error("give --data, a folder of speech, or --render")
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    if not arguments.render:
        wavs = waveforms(arguments.data, arguments.seconds)
        for name in arguments.models:
            results[name] = measured(name, wavs)
            if arguments.probe_data is not None:
                probe(name, results[name], arguments.probe_data)
            arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if arguments.render:
        render(results)
    print(table(results))
    return 0


def waveforms(folder: Path, seconds: float) -> list[torch.Tensor]:
    """Utterances of a folder in the order of their names, so many seconds of them."""
    wavs: list[torch.Tensor] = []
    for path in list_audio_files(folder):
        if sum(map(len, wavs)) >= seconds * SAMPLE_RATE:
            break
        wavs.append(read_audio(path, sample_rate=SAMPLE_RATE))
    return wavs


def measured(name: str, wavs: list[torch.Tensor]) -> dict[str, Any]:
    """Differences of each layer in each precision that the encoder can have."""
    exact = auricle.load(name, device="cpu")
    layers = list(exact.info.layers)
    result: dict[str, Any] = {"default_layer": exact.default_layer, "layers": {}, "probes": {}}
    for precision in PRECISIONS:
        try:
            encoder = auricle.load(name, device="cpu", precision=precision)
        except AuricleError:  # int8 is for Transformers
            continue
        with torch.inference_mode():
            pairs = list(zip(exact.layers(wavs, layers), encoder.layers(wavs, layers), strict=True))
        for layer in layers:
            expected = torch.cat([one[layer].flatten() for one, _ in pairs])
            outputs = torch.cat([other[layer].flatten() for _, other in pairs])
            difference = (outputs - expected) / expected.std()
            some = difference.abs()[:: len(difference) // MAX_QUANTILE_VALUES + 1]
            entry = {
                "rms": difference.square().mean().sqrt().item(),
                "p999": some.kthvalue(round(0.999 * (len(some) - 1)) + 1).values.item(),
            }
            result["layers"].setdefault(layer, {})[precision] = entry
        if exact.codes_layer is not None:
            with torch.inference_mode():
                ours, theirs = torch.cat(encoder.codes(wavs)), torch.cat(exact.codes(wavs))
            codes = result.setdefault("codes_that_differ", {})
            codes[precision] = (ours != theirs).double().mean().item()
    return result


def probe(name: str, result: dict[str, Any], data: Path) -> None:
    """Add accuracies of phones by the default layer, in float32 and in each precision."""
    precisions = ("float32", *next(iter(result["layers"].values())))
    for precision in precisions:
        with tempfile.TemporaryDirectory() as out:
            command = (
                sys.executable,
                "-m",
                "auricle",
                "probe",
                "--model",
                name,
                "--task",
                "phones",
            )
            options = ("--data", str(data), "--layers", result["default_layer"], "--out", out)
            subprocess.run((*command, *options, "--precision", precision), check=True)
            (task,) = json.loads(Path(out, "phones.json").read_text())["results"]
        (found,) = task["layers"]
        result["probes"][precision] = found["accuracy"]


def table(results: dict[str, Any]) -> str:
    """The differences of default layers and of the layers that differ most, as Markdown."""
    lines = [
        "| encoder | bits | default layer: rms | 99.9 % | worst layer | its rms "
        "| codes that differ | phone accuracy |",
        "|---|---|---:|---:|---|---:|---:|---:|",
    ]
    for name, result in results.items():
        exact = result["probes"].get("float32")
        if exact is not None:
            lines.append(f"| `{name}` | float32 | | | | | | {100 * exact:.1f} % |")
        for precision in next(iter(result["layers"].values())):
            layers = {layer: each[precision] for layer, each in result["layers"].items()}
            default, worst = result["default_layer"], max(layers, key=lambda x: layers[x]["rms"])
            codes = result.get("codes_that_differ", {}).get(precision)
            probed = result["probes"].get(precision)
            cells = (
                f"`{name}`",
                precision,
                f"{layers[default]['rms']:.4f}",
                f"{layers[default]['p999']:.3f}",
                worst,
                f"{layers[worst]['rms']:.4f}",
                "" if codes is None else f"{100 * codes:.1f} %",
                "" if probed is None else f"{100 * probed:.1f} %",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def render(results: dict[str, Any]) -> None:
    """Write the table between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_contents(page, {"precision": table(results)}, TOOL), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
