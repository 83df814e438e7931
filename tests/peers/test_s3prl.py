"""espnet-s3prl and espnet, side by side with the drop-in, on the checkpoints of the golden cases.

    pip install --no-deps espnet-s3prl==2026.5.14 espnet==202511 torchaudio==2.11.0 torch_complex \
        humanfriendly typeguard omegaconf
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

import auricle
from auricle.audio.files import read_audio
from auricle.audio.inputs import sample_paths
from auricle.s3prl import nn
from golden_cases import GoldenCase

ROOT = Path(__file__).parents[2]
LENGTHS = (30_123, 16_000, 17_001, 790)
LIMIT = 1e-5
LARGEST = 3e-5
"""Of a single value: the largest of some ten thousand differs by three times as much as most."""

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


def real_s3prl() -> bool:
    """Whether a package s3prl is installed; the folder of the tests of that name is none."""
    spec = importlib.util.find_spec("s3prl")
    return spec is not None and spec.origin is not None


pytestmark = pytest.mark.skipif(not real_s3prl(), reason="espnet-s3prl is not installed")


@pytest.fixture(scope="module")
def theirs() -> Iterator[ModuleType]:
    """`s3prl.nn`, which prints and warns as it is imported."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from peer_workers.torchaudio_import import import_torchaudio

    sys.path.remove(str(ROOT / "benchmarks"))
    # The checkpoints are those of the golden cases: nothing in them does harm.
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    import_torchaudio()
    import s3prl.nn

    yield s3prl.nn
    del os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"]


def waveforms() -> list[Tensor]:
    speech = read_audio(next(iter(sample_paths())))
    return [speech[8_000 : 8_000 + size] for size in LENGTHS]


def check(theirs: ModuleType, name: str, path: Path | None) -> None:
    """Compare the states of each utterance alone with those of ours in a batch."""
    reference = theirs.S3PRLUpstream(name, path and str(path)).eval()
    upstream = nn.S3PRLUpstream(name, path)
    for fact in ("num_layers", "hidden_sizes", "downsample_rates"):
        assert [getattr(upstream, fact)] == [getattr(reference, fact)]
    with torch.no_grad():
        padded = torch.nn.utils.rnn.pad_sequence(waveforms(), batch_first=True)
        states, lengths = upstream(padded, torch.tensor(LENGTHS))
        for index, wav in enumerate(waveforms()):
            expected, _ = reference(wav[None], torch.tensor([len(wav)]))
            for layer, (one,) in enumerate(expected):
                row = states[layer][index, : lengths[layer][index]]
                assert row.shape == one.shape
                difference = (row - one) / one.std()
                assert float(difference.square().mean().sqrt()) < LIMIT
                assert float(difference.abs().max()) < LARGEST


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SPECTRAL)
def test_spectral_features_are_equal(name: str, theirs: ModuleType) -> None:
    check(theirs, name, None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CHECKPOINTS)
def test_every_hidden_state_is_equal(case: str, theirs: ModuleType) -> None:
    name, file = CHECKPOINTS[case]
    check(theirs, name, GoldenCase(case).folder / file)


@pytest.mark.filterwarnings("ignore")
def test_featurizers_are_equal(theirs: ModuleType) -> None:
    upstream = nn.S3PRLUpstream("apc_mini")
    for options in ({}, {"layer_selections": [2, 0]}, {"normalize": True}):
        ours, reference = nn.Featurizer(upstream, **options), theirs.Featurizer(upstream, **options)
        with torch.no_grad():
            ours.weights.copy_(torch.arange(len(ours.weights)))
            reference.load_state_dict(ours.state_dict())
            wavs = torch.stack([one[:16_000] for one in waveforms()[:2]])
            outputs = upstream(wavs, torch.tensor([16_000, 16_000]))
            (x, lengths), (y, expected) = ours(*outputs), reference(*outputs)
        assert torch.allclose(x, y, atol=1e-5)
        assert torch.equal(lengths, expected)


ESPNET = """
import sys
sys.path.insert(0, "benchmarks")
from peer_workers.torchaudio_import import import_torchaudio
import_torchaudio()
import auricle.s3prl
auricle.s3prl.install()
import torch
from espnet2.asr.frontend.s3prl import S3prlFrontend

wavs, lengths = torch.randn(2, 16_000) / 10, torch.tensor([16_000, 9_000])
frontend = S3prlFrontend(
    frontend_conf={"upstream": "wav2vec2_mini"}, download_dir="x", multilayer_feature=True
)
features, num_frames = frontend(wavs, lengths)
assert features.shape == (2, 50, frontend.output_size()), features.shape
assert num_frames.tolist() == [50, 29], num_frames
frontend.reload_pretrained_parameters()
conf = {"upstream": "tera_local", "path_or_url": sys.argv[1], "tile_factor": 2}
(features, num_frames) = S3prlFrontend(frontend_conf=conf)(wavs, lengths)
assert features.shape[1] == 200 and num_frames.tolist() == [100, 57]
"""


@pytest.mark.skipif(importlib.util.find_spec("espnet2") is None, reason="espnet is not installed")
def test_the_frontend_of_espnet_runs_unchanged() -> None:
    path = GoldenCase("tera").checkpoints[0]
    done = subprocess.run([sys.executable, "-c", ESPNET, path], cwd=ROOT, env={**os.environ})
    assert done.returncode == 0


def test_the_encoders_are_the_librarys() -> None:
    assert isinstance(nn.S3PRLUpstream("apc_mini").upstream.encoder, auricle.Encoder)
