"""Lhotse: our feature extractor on cuts of speech, and its S3PRLSSL on our drop-in for s3prl."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lhotse import CutSet, MonoCut, Recording, validate
from lhotse.features.base import FeatureExtractor
from lhotse.features.io import NumpyFilesWriter
from lhotse.utils import compute_num_frames

import auricle
import auricle.s3prl
from auricle.adapters.lhotse import EncoderFeatures, EncoderFeaturesConfig
from auricle.audio.inputs import sample_paths
from judges.verdict import MODELS, Verdict

SECONDS = (1.0, 0.7313125, 2.5000625, 0.1)
"""Durations of the cuts of each recording, in whole samples."""

THEIRS = ("wav2vec2_mini", "cpc_mini")
"""Models whose frames S3PRLSSL takes: it refuses more than one less than it counts."""


def cuts_of_speech() -> CutSet:
    """Cuts of several lengths out of each bundled recording."""
    return CutSet.from_cuts(
        MonoCut(f"{path.stem}-{i}", start=i, duration=seconds, channel=0, recording=recording)
        for path in sample_paths()
        for recording in [Recording.from_file(path)]
        for i, seconds in enumerate(SECONDS)
    )


def deviation(found: np.ndarray[Any, Any], wav: np.ndarray[Any, Any], encoder: Any) -> float:
    """Largest difference from the frames of the encoder itself, in their standard deviation.

    Frames after its last one are compared with that one, unless they are zeros, as theirs are.
    """
    with torch.no_grad():
        (own,) = encoder([wav.reshape(-1)])
    found = found[: len(own)] if not found[len(own) :].any() else found
    expected = own[torch.arange(len(found)).clamp(max=len(own) - 1)]
    return float((torch.as_tensor(found) - expected).abs().max() / own.std())


def stored(cuts: CutSet, extractor: FeatureExtractor, way: str) -> CutSet:
    """Cuts with features, by one of two ways of Lhotse to store them."""
    folder = Path(f"{extractor.name}-{extractor.config.model}-{way}")
    if way == "alone":
        return cuts.compute_and_store_features(
            extractor, folder, storage_type=NumpyFilesWriter, progress_bar=False
        )
    return cuts.compute_and_store_features_batch(
        extractor,
        folder,
        batch_duration=4.0,
        num_workers=0,
        collate=way == "collated",
        storage_type=NumpyFilesWriter,
    )


def judge_ours(verdict: Verdict) -> None:
    """Store features of every model, one by one and in batches, and read them."""
    cuts, num_valid, difference, made_up = cuts_of_speech(), 0, 0.0, 0
    ways = ("alone", "batch", "collated")
    for model in MODELS:
        EncoderFeatures(EncoderFeaturesConfig(model=model)).to_yaml("features.yaml")
        extractor = FeatureExtractor.from_yaml("features.yaml")
        for way in ways:
            with_features = stored(cuts, extractor, way)
            validate(with_features, read_data=True)
            for cut in with_features:
                found, wav = cut.load_features(), cut.load_audio()
                asked = compute_num_frames(cut.duration, extractor.frame_shift, cut.sampling_rate)
                num_valid += found.shape == (asked, extractor.feature_dim(16_000))
                difference = max(difference, deviation(found, wav, extractor.encoder))
                made_up = max(made_up, abs(asked - extractor.encoder.num_frames(wav.size)))
    verdict.equal("cuts stored and valid", num_valid, len(MODELS) * len(ways) * len(cuts))
    verdict.at_most("largest deviation of what is read, std", difference, 1e-4)
    verdict.at_most("frames repeated or cut", made_up, 3)


def judge_theirs(verdict: Verdict) -> None:
    """Run S3PRLSSL, unchanged, on the drop-in."""
    auricle.s3prl.install()
    from lhotse.features.ssl import S3PRLSSL, S3PRLSSLConfig

    difference = 0.0
    for model in THEIRS:
        encoder = auricle.load(model, device="cpu")
        config = S3PRLSSLConfig(
            ssl_model=model, frame_shift=encoder.hop_seconds, feature_dim=encoder.dim
        )
        for cut in cuts_of_speech():
            features = cut.compute_features(S3PRLSSL(config))
            difference = max(difference, deviation(features, cut.load_audio(), encoder))
    verdict.at_most("largest deviation of S3PRLSSL, std", difference, 1e-4)


def main() -> int:
    """Judge; the status."""
    verdict = Verdict("lhotse", "lhotse")
    judge_ours(verdict)
    judge_theirs(verdict)
    return verdict.finish()


if __name__ == "__main__":
    sys.exit(main())
