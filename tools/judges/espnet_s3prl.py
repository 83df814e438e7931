"""espnet-s3prl: every hidden state of the same checkpoints, beside our drop-in."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from auricle.audio.files import read_audio
from auricle.audio.inputs import sample_paths
from auricle.s3prl import nn
from judges.verdict import Verdict

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "golden" / "cases"
LENGTHS = (30_123, 16_000, 17_001, 790)

CHECKPOINTS = {
    "apc": ("apc_local", "checkpoint.ckpt"),
    "audio_albert": ("audio_albert_local", "checkpoint.ckpt"),
    "cpc": ("cpc_local", "checkpoint.pt"),
    "modified_cpc": ("cpc_local", "checkpoint.pt"),
    "mockingjay": ("mockingjay_local", "checkpoint.ckpt"),
    "mockingjay_linear_large": ("mockingjay_local", "checkpoint.ckpt"),
    "tera": ("tera_local", "checkpoint.ckpt"),
    "tera_fbank": ("tera_local", "checkpoint.ckpt"),
    "npc": ("npc_local", "checkpoint.ckpt"),
    "wav2vec": ("wav2vec_local", "checkpoint.converted.pt"),
    "vq_wav2vec_gumbel": ("vq_wav2vec_custom", "checkpoint.converted.pt"),
    "vq_wav2vec_kmeans": ("vq_wav2vec_custom", "checkpoint.converted.pt"),
    "wav2vec2_base": ("wav2vec2_local", "checkpoint.converted.pt"),
    "wav2vec2_large_lv60": ("wav2vec2_local", "checkpoint.converted.pt"),
    "wav2vec2_conformer_rope": ("wav2vec2_local", "checkpoint.converted.pt"),
    "hubert_legacy": ("hubert_local", "checkpoint.converted.pt"),
    "wavlm_official_base": ("wavlm_local", "checkpoint.pt"),
    "wavlm_official_large": ("wavlm_local", "checkpoint.pt"),
    "unispeech_sat_base": ("unispeech_sat_local", "checkpoint.pt"),
}
"""Golden case -> entry point of s3prl, and the file of the case that it reads."""

SPECTRAL = ("fbank", "mel", "linear", "fbank_no_cmvn")


def import_s3prl() -> Any:
    """`s3prl.nn` of espnet-s3prl; what it prints as it is imported goes to stderr."""
    sys.path.append(str(ROOT / "benchmarks"))
    from peer_workers.torchaudio_import import import_torchaudio

    # The checkpoints are those of the golden cases: nothing in them does harm.
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    import_torchaudio()
    import s3prl.nn

    return s3prl.nn


def waveforms() -> list[Tensor]:
    """Utterances of several lengths out of one recording."""
    speech = read_audio(sample_paths()[0])
    return [speech[8_000 : 8_000 + size] for size in LENGTHS]


def differences(theirs: Any, name: str, path: Path | None) -> list[Tensor]:
    """Differences of every state of each utterance, in its standard deviation.

    Theirs are of each utterance alone, ours of all of them in a batch.

    Raises:
        ValueError: Numbers, sizes or rates of the states are others, or those of the frames.
    """
    reference = theirs.S3PRLUpstream(name, path and str(path)).eval()
    upstream = nn.S3PRLUpstream(name, path)
    for fact in ("num_layers", "hidden_sizes", "downsample_rates"):
        if [getattr(upstream, fact)] != [getattr(reference, fact)]:
            raise ValueError(f"{fact} of {name} {path} differ")
    found = []
    with torch.no_grad():
        padded = pad_sequence(waveforms(), batch_first=True)
        states, lengths = upstream(padded, torch.tensor(LENGTHS))
        for index, wav in enumerate(waveforms()):
            expected, _ = reference(wav[None], torch.tensor([len(wav)]))
            for state, counts, (one,) in zip(states, lengths, expected, strict=True):
                row = state[index, : counts[index]]
                if row.shape != one.shape:
                    raise ValueError(f"frames of {name} {path} are {row.shape}, not {one.shape}")
                found.append((row - one) / one.std())
    return found


def featurizer_difference(theirs: Any) -> float:
    """Largest difference of a weighted sum by their featurizer and ours, with equal weights."""
    upstream = nn.S3PRLUpstream("apc_mini")
    wavs = torch.stack([one[:16_000] for one in waveforms()[:2]])
    largest = 0.0
    for options in ({}, {"layer_selections": [2, 0]}, {"normalize": True}):
        ours, reference = nn.Featurizer(upstream, **options), theirs.Featurizer(upstream, **options)
        with torch.no_grad():
            ours.weights.copy_(torch.arange(len(ours.weights)))
            reference.load_state_dict(ours.state_dict())
            outputs = upstream(wavs, torch.tensor([16_000, 16_000]))
            (x, _), (y, _) = ours(*outputs), reference(*outputs)
        largest = max(largest, float((x - y).abs().max() / y.std()))
    return largest


def main() -> int:
    """Judge; the status."""
    verdict = Verdict("espnet_s3prl", "espnet-s3prl")
    with contextlib.redirect_stdout(sys.stderr):
        theirs = import_s3prl()
        found: list[Tensor] = []
        for name in SPECTRAL:
            found += differences(theirs, name, None)
        for case, (name, file) in CHECKPOINTS.items():
            found += differences(theirs, name, CASES / case / file)
        summed = featurizer_difference(theirs)
    verdict.equal("states compared", len(found), 81 * len(LENGTHS))
    verdict.at_most(
        "RMS of a state, std", max(float(x.square().mean().sqrt()) for x in found), 1e-5
    )
    # Of a single value: the largest of some ten thousand differs by three times as much as most.
    verdict.at_most("largest value, std", max(float(x.abs().max()) for x in found), 3e-5)
    verdict.at_most("featurizer, std", summed, 1e-5)
    return verdict.finish()


if __name__ == "__main__":
    sys.exit(main())
