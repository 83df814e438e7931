"""ssl-kaldi-feats beside `auricle extract --format kaldi`: Kaldi folders of the same audio.

It extracts features of models of transformers, which `auricle export` writes; of other models its
functions read our archives and write the files beside them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import kaldiio
import soundfile
import torch

import auricle
from auricle.__main__ import main as auricle_main
from judges.verdict import MODELS, Verdict, clips, deviation

IN_TRANSFORMERS = ("hubert_mini", "wav2vec2_mini")
LAYER = 2
SIDE_FILES = ("utt2num_frames", "frame_shift", "utt2dur")


def write_audio() -> None:
    """Write the bundled speech as WAV of floats, and a list of it."""
    lines = []
    for index, clip in enumerate(clips()):
        soundfile.write(f"utt{index}.wav", clip.numpy(), 16_000, subtype="FLOAT")
        lines.append(f"utt{index} {Path(f'utt{index}.wav').resolve()}\n")
    Path("data").mkdir()
    Path("data/wav.scp").write_text("".join(lines))


def run_auricle(*arguments: str) -> None:
    """Run the command; raises RuntimeError where it fails."""
    if auricle_main(arguments) != 0:
        raise RuntimeError(f"auricle {' '.join(arguments)} failed")


def side_file(path: Path) -> list[str]:
    """The words of a file; durations, which may have more digits, in milliseconds."""
    words = path.read_text().split()
    if path.name == "utt2dur":
        words[1::2] = [str(round(1000 * float(word))) for word in words[1::2]]
    return words


def write_by_theirs(name: str, ours: Path) -> Path:
    """Write the files beside our archive by their functions, from what our archive holds."""
    from ssl_kaldi_feats.io import read_wav_scp, write_side_files

    folder = Path(f"theirs-{name}")
    folder.mkdir()
    feats = kaldiio.load_scp(str(ours / "feats.scp"))
    seconds = {}
    for utterance, load in read_wav_scp("data/wav.scp"):
        samples, rate = load()
        seconds[utterance] = len(samples) / rate
    shift = auricle.load(name).hop_seconds
    write_side_files(folder, {one: len(feats[one]) for one in feats}, seconds, shift)
    return folder


def main() -> int:
    """Compare features and the files beside them."""
    from ssl_kaldi_feats.cli import main as ssl_kaldi_feats

    verdict = Verdict("ssl_kaldi_feats", "ssl-kaldi-feats")
    write_audio()
    num_equal, archives, features = 0, 0.0, 0.0
    for name in MODELS:
        encoder = auricle.load(name)
        ours = Path(f"ours-{name}")
        layer = f"layer_{LAYER}" if name in IN_TRANSFORMERS else encoder.default_layer
        options = ("--model", name, "--layer", layer, "--format", "kaldi", "--out", str(ours))
        run_auricle("extract", "data/wav.scp", *options)
        feats = kaldiio.load_scp(str(ours / "feats.scp"))
        for index in range(len(clips())):
            with torch.no_grad():
                (x,) = encoder([f"utt{index}.wav"], layer)
            archives = max(archives, deviation(torch.tensor(feats[f"utt{index}"]), x))
        if name in IN_TRANSFORMERS:
            theirs = Path(f"theirs-{name}")
            run_auricle("export", name, "--to", "transformers", f"hf-{name}")
            options = f"--layer {LAYER} --final-layer-norm strip --no-compress --device cpu --quiet"
            where = (
                "--model",
                f"hf-{name}",
                "--wav-scp",
                "data/wav.scp",
                "--output-dir",
                str(theirs),
            )
            ssl_kaldi_feats([*where, *options.split()])
            for key, values in kaldiio.load_scp(str(theirs / "feats.scp")).items():
                features = max(features, deviation(torch.tensor(feats[key]), torch.tensor(values)))
        else:
            theirs = write_by_theirs(name, ours)
        for file in SIDE_FILES:
            num_equal += side_file(ours / file) == side_file(theirs / file)
    verdict.at_most("features of our archives", archives, 1e-4)
    verdict.at_most("features of two models by both", features, 1e-4)
    verdict.equal("equal files beside archives", num_equal, len(SIDE_FILES) * len(MODELS))
    return verdict.finish()


if __name__ == "__main__":
    sys.exit(main())
