"""How features of a folder are written without auricle: a loop, and a `map` of Hugging Face.

    python -m peer_workers.usual_ways loop transformers CHECKPOINT AUDIO OUT --threads 1

`loop` reads a file with soundfile, encodes it alone and writes it with `np.save`, in the order of
the names. `map` is `datasets.Dataset.map` in batches of eight, padded, whose result goes to disk
with `save_to_disk`. transformers gets what its feature extractor makes of waveforms, s3prl a list.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from peer_workers.torchaudio_import import import_transformers

BATCH_SIZE = 8

Encode = Callable[[list[np.ndarray]], list[Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=("loop", "map"))
    parser.add_argument("library", choices=("transformers", "s3prl"))
    parser.add_argument("checkpoint")
    parser.add_argument("audio", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    make = with_transformers if arguments.library == "transformers" else with_s3prl
    paths = sorted(arguments.audio.rglob("*.flac"))
    with torch.inference_mode():
        encode = make(arguments.checkpoint)
        (loop if arguments.way == "loop" else mapped)(encode, paths, arguments.out)


def with_transformers(checkpoint: str) -> Encode:
    transformers = import_transformers()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(checkpoint)
    model = transformers.AutoModel.from_pretrained(checkpoint).eval()

    def encode(waveforms: list[np.ndarray]) -> list[Tensor]:
        inputs: Any = extractor(
            waveforms,
            sampling_rate=16_000,
            padding=True,
            return_attention_mask=len(waveforms) > 1,
            return_tensors="pt",
        )
        x = model(**inputs).last_hidden_state
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        num_frames = model._get_feat_extract_output_lengths(lengths).tolist()
        return [row[:count] for row, count in zip(x, num_frames, strict=True)]

    return encode


def with_s3prl(checkpoint: str) -> Encode:
    from peer_workers.s3prl_worker import S3prlWorker

    worker = S3prlWorker()
    worker.load(checkpoint)
    return lambda waveforms: worker.together([torch.from_numpy(x) for x in waveforms])


def loop(encode: Encode, paths: list[Path], out: Path) -> None:
    out.mkdir()
    for path in paths:
        (x,) = encode([soundfile.read(path, dtype="float32")[0]])
        np.save(out / f"{path.stem}.npy", x.numpy())


def mapped(encode: Encode, paths: list[Path], out: Path) -> None:
    import datasets

    datasets.disable_progress_bars()

    def features(batch: dict[str, list[str]]) -> dict[str, list[np.ndarray]]:
        waveforms = [soundfile.read(path, dtype="float32")[0] for path in batch["path"]]
        return {"features": [x.numpy() for x in encode(waveforms)]}

    rows = datasets.Dataset.from_dict({"path": [str(path) for path in paths]})
    written = rows.map(
        features,
        batched=True,
        batch_size=BATCH_SIZE,
        cache_file_name=str(out.with_suffix(".arrow")),
        new_fingerprint="features",
    )
    written.save_to_disk(out)


if __name__ == "__main__":
    main()
