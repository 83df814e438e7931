"""Measure the speech that one core encodes, at the published size of each family.

    python benchmarks/encoding.py
    python benchmarks/encoding.py --sizes apc wav2vec2_base_960 --seconds 24 --device cuda

Weights are random, the audio is noise: neither changes how long a model takes. Batches are of
utterances of 12 s, as `auricle extract` makes them of LibriSpeech, through the default layer. On a
CPU the time is the processor's, on a GPU that of the clock, after one batch that does not count.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

import auricle

RESULTS = Path(__file__).parent / "results" / "encoding.json"
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
UTTERANCE_SECONDS = 12
RATE = 16_000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="*", default=SIZES, help="as `auricle.list_sizes` gives")
    parser.add_argument("--seconds", type=float, default=60.0, help="audio of a batch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"(default: {RESULTS})")
    arguments = parser.parse_args()
    rows = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for size in arguments.sizes:
        encoder = auricle.build(size).to(arguments.device)
        rate = hours_per_hour(encoder, arguments.seconds, arguments.device)
        kind = torch.device(arguments.device).type
        rows.setdefault(size, {})[kind] = float(f"{rate:.3g}")
        print(f"{size:<24}{rate:10.1f} hours of audio per hour of {kind}", flush=True)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def hours_per_hour(encoder: Any, seconds: float, device: str) -> float:
    """Audio encoded in a second of one core or of the GPU, in seconds."""
    torch.set_num_threads(1)
    count = max(1, round(seconds / UTTERANCE_SECONDS))
    generator = torch.Generator().manual_seed(0)
    batch = [torch.randn(UTTERANCE_SECONDS * RATE, generator=generator) / 10 for _ in range(count)]
    on_gpu = torch.device(device).type != "cpu"
    clock = time.perf_counter if on_gpu else time.process_time
    with torch.inference_mode():
        encoder(batch if on_gpu else batch[:1])
        start = clock()
        # To the CPU, where they are written from: nothing is left running on a GPU then.
        [x.cpu() for x in encoder(batch)]
        return count * UTTERANCE_SECONDS / (clock() - start)


if __name__ == "__main__":
    sys.exit(main())
