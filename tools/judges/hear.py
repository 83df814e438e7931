"""HEAR's validator on `auricle.adapters.hear`, and real speech through the same functions."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout

import torch

import auricle
from auricle.adapters import hear
from judges.verdict import Verdict, clips, deviation

NUM_SAMPLES = 40_000


def main() -> int:
    """Validate every model that comes with the library, as the command of HEAR does."""
    from hearvalidator.validate import ModelError, ValidateModel

    verdict = Verdict("hear", "hearvalidator")
    names = [n for n in auricle.list_models() if n.endswith("_mini") or n in ("fbank", "mel")]
    num_valid = 0
    for name in names:
        try:
            with redirect_stdout(io.StringIO()):
                ValidateModel("auricle.adapters.hear", name, device="cpu")()
            num_valid += 1
        except ModelError as error:
            print(f"{name}: {error}", file=sys.stderr)  # noqa: T201 - why it fails
    verdict.equal("models accepted", num_valid, len(names))
    audio = torch.stack([clip[:NUM_SAMPLES] for clip in clips()])
    frames, means = 0.0, 0.0
    for name in names:
        model = hear.load_model(name)
        embeddings, timestamps = hear.get_timestamp_embeddings(audio, model)
        scenes = hear.get_scene_embeddings(audio, model)
        for row, scene, clip in zip(embeddings, scenes, audio, strict=True):
            (alone,) = model.encoder([clip])
            frames = max(frames, deviation(row, alone))
            means = max(means, deviation(scene, alone.mean(dim=0)))
        if timestamps.shape != embeddings.shape[:2]:
            verdict.equal(f"timestamps of {name}", timestamps.shape[1], embeddings.shape[1])
    verdict.at_most("frames of speech", frames, 1e-4)
    verdict.at_most("scenes of speech", means, 1e-4)
    return verdict.finish()


if __name__ == "__main__":
    sys.exit(main())
