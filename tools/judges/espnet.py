"""ESPnet: our front end in a recogniser of it, and its S3prlFrontend on our drop-in for s3prl."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

import auricle
import auricle.s3prl
from auricle.audio.files import read_audio
from auricle.audio.inputs import sample_paths
from judges.verdict import MODELS, Verdict

LENGTHS = (30_123, 16_000, 9_001)
TOKENS = ["<blank>", "<unk>", "a", "b", "<sos/eos>"]


def waveforms() -> list[Tensor]:
    """Utterances of several lengths out of one recording."""
    speech = read_audio(sample_paths()[0])
    return [speech[8_000 : 8_000 + size] for size in LENGTHS]


def deviation(frames: Tensor, num_frames: Tensor, model: str) -> float:
    """Largest difference of a row from its utterance alone, in std; infinite of other lengths."""
    encoder, largest = auricle.load(model, device="cpu"), 0.0
    for row, count, wav in zip(frames, num_frames.tolist(), waveforms(), strict=True):
        with torch.no_grad():
            (own,) = encoder([wav])
        if count != len(own):
            return float("inf")
        largest = max(largest, float((row[:count] - own).abs().max() / own.std()))
    return largest


def recogniser(frontend: Any) -> Any:
    """A small model of ESPnet for recognition by CTC, over a front end."""
    from espnet2.asr.ctc import CTC
    from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
    from espnet2.asr.espnet_model import ESPnetASRModel

    torch.manual_seed(0)
    encoder = TransformerEncoder(
        frontend.output_size(), output_size=16, attention_heads=2, linear_units=16, num_blocks=1
    )
    return ESPnetASRModel(
        vocab_size=len(TOKENS), token_list=TOKENS, frontend=frontend, specaug=None, normalize=None,
        preencoder=None, encoder=encoder, postencoder=None, decoder=None,
        ctc=CTC(len(TOKENS), 16), joint_network=None, ctc_weight=1.0,
    )  # fmt: skip


def trains(frontend: Any, batch: Tensor, lengths: Tensor) -> bool:
    """Whether gradients of a recogniser's loss reach the sum and, unless frozen, the encoder."""
    loss, *_ = recogniser(frontend).train()(
        batch, lengths, torch.tensor([[2, 3], [3, 2], [2, 2]]), torch.tensor([2, 2, 1])
    )
    loss.backward()
    reached = [p.grad is not None and bool(p.grad.any()) for p in frontend.encoder.parameters()]
    is_right = not any(reached) if frontend.frozen else any(reached)
    return is_right and bool(loss.isfinite()) and bool(frontend.featurizer.weights.grad.any())


def main() -> int:
    """Judge; the status."""
    sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    verdict = Verdict("espnet", "espnet")
    with contextlib.redirect_stdout(sys.stderr):
        from peer_workers.torchaudio_import import import_torchaudio

        import_torchaudio()
        auricle.s3prl.install()
        from espnet2.asr.frontend.s3prl import S3prlFrontend

        from auricle.adapters.espnet import EncoderFrontend

        batch, lengths = pad_sequence(waveforms(), batch_first=True), torch.tensor(LENGTHS)
        ours, theirs, num_trained = 0.0, 0.0, 0
        for model in MODELS:
            with torch.no_grad():
                ours = max(ours, deviation(*EncoderFrontend(model)(batch, lengths), model))
                frontend = S3prlFrontend(frontend_conf={"upstream": model}, download_dir="x")
                frames, counts = frontend(batch, lengths)
            own = auricle.load(model, device="cpu").num_frames(lengths)
            if model != "fbank" or frontend.output_size() == 80:  # theirs has deltas and CMVN
                theirs = max(theirs, deviation(frames, torch.minimum(counts, own), model))
            if model != "fbank":
                for frozen in (False, True):
                    frontend = EncoderFrontend(model, layers="all", frozen=frozen)
                    num_trained += trains(frontend, batch, lengths)
    verdict.at_most("largest deviation of a row, std", ours, 1e-4)
    verdict.at_most("largest deviation of S3prlFrontend, std", theirs, 1e-4)
    verdict.equal("recognisers trained", num_trained, 2 * (len(MODELS) - 1))
    return verdict.finish()


if __name__ == "__main__":
    sys.exit(main())
