from __future__ import annotations

import torch

from auricle.audio.files import read_audio
from auricle.audio.inputs import sample_paths
from auricle.frontends import LogMelConfig
from auricle.models.audio_albert import AudioAlbert, AudioAlbertConfig
from auricle.nn.bert import BertConfig
from auricle.objectives.reconstruction import AudioAlbertObjective, AudioAlbertObjectiveConfig


def objective() -> AudioAlbertObjective:
    torch.manual_seed(0)
    transformer = BertConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        ffn_size=64,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        share_layer=True,
    )
    config = AudioAlbertConfig(features=LogMelConfig(num_mels=20), transformer=transformer)
    return AudioAlbertObjective(AudioAlbert(config), AudioAlbertObjectiveConfig())


def test_training_on_speech_lowers_the_loss() -> None:
    low, high = (read_audio(path) for path in sample_paths())
    wavs = [low[16_000:26_000], low[32_000:41_000], high[32_000:42_000], high[64_000:72_000]]
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    num_samples = [len(wav) for wav in wavs]
    module = objective()
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
    losses = []
    for step in range(60):
        # One mask for all steps: only learning moves the loss.
        generator = torch.Generator().manual_seed(0)
        loss = module(padded, num_samples, step=step, generator=generator)
        optimizer.zero_grad()
        loss.value.backward()
        assert all(parameter.grad is not None for parameter in module.parameters())
        optimizer.step()
        losses.append(loss.value.item())
    assert losses[-1] < 0.75 * losses[0]
