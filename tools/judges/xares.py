"""X-ARES's check of encoders, and a task of it: it encodes spoken digits, and classifies them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

import auricle
from auricle.adapters.xares import XaresEncoder
from judges.verdict import MODELS, ROOT, Verdict, clips, deviation, digits

NUM_SAMPLES = 40_000


def write_tars(folder: Path) -> None:
    """Digits as X-ARES takes them: a tar of audio and labels for each split."""
    import webdataset

    folder.mkdir(parents=True)
    rows = digits()
    for split in ("train", "valid", "test"):
        with webdataset.TarWriter(str(folder / f"{split}-0.tar")) as tar:
            for row in rows:
                if row["split"] == ("test" if split == "test" else "train"):
                    label = json.dumps({"word": row["word"]}).encode()
                    audio = row["path"].read_bytes()
                    tar.write(
                        {
                            "__key__": f"{row['speaker']}-{row['path'].stem}",
                            "ogg": audio,
                            "json": label,
                        }
                    )
    (folder / ".audio_tar_ready").touch()


def error(encoder: torch.nn.Module) -> float:
    """Share of the digits of other speakers that X-ARES's linear classifier gets wrong.

    Its nearest neighbours are left out: they go by vectors of training data that are not of one
    length, so that those of `fbank` are the same few for everything.
    """
    from xares.task import TaskConfig, XaresTask

    words = sorted({row["word"] for row in digits()})
    config = TaskConfig(
        name="digits",
        env_root=Path("env"),
        encoder=encoder,
        label_processor=lambda x: words.index(x["word"]),
        output_dim=len(words),
        num_encoder_workers=0,
        torch_num_threads=1,
        epochs=100,
        valid_every=100,
        learning_rate=1e-2,
    )
    task = XaresTask(config)
    task.make_encoded_tar()
    accuracy, _ = task.run_mlp()
    return 1 - accuracy


def main() -> int:
    """Check the encoders, and what X-ARES makes of them."""
    sys.path.append(str(ROOT / "benchmarks"))
    from peer_workers.torchaudio_import import import_torchaudio
    from xares.audio_encoder_checker import check_audio_encoder

    import_torchaudio()
    verdict = Verdict("xares", "xares")
    write_tars(Path("env/digits"))
    audio = torch.stack([clip[:NUM_SAMPLES] for clip in clips()])
    num_accepted, largest, errors = 0, 0.0, {}
    for name in MODELS:
        kind = type(f"{name.title().replace('_', '')}Encoder", (XaresEncoder,), {"model": name})
        encoder = kind()
        num_accepted += check_audio_encoder(encoder)
        with torch.no_grad():
            rows = encoder(audio)
        for row, clip in zip(rows, audio, strict=True):
            largest = max(largest, deviation(row, auricle.load(name)([clip])[0].detach()))
        errors[name] = error(encoder)
    verdict.equal("models accepted", num_accepted, len(MODELS))
    verdict.at_most("frames of speech", largest, 1e-4)
    for name, share in errors.items():
        verdict.at_most(f"error, {name}", share, 0.8)
    return verdict.finish()


if __name__ == "__main__":
    sys.exit(main())
