from __future__ import annotations

from typing import Any

import pytest
import torch

from auricle.frontends import LogMelConfig
from auricle.models.spectral_transformer import BertConfig, Tera, TeraConfig
from auricle.nn.batch import Batch, Layout
from auricle.objectives.reconstruction import TeraObjective, TeraObjectiveConfig

NONE = {"mask_proportion": 0.0, "band_proportion": 0.0, "noise_probability": 0.0}


def objective(**options: Any) -> TeraObjective:
    torch.manual_seed(0)
    transformer = BertConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        ffn_size=64,
        hidden_dropout=0.0,
        attention_dropout=0.0,
    )
    config = TeraConfig(features=LogMelConfig(num_mels=20), transformer=transformer)
    return TeraObjective(Tera(config), TeraObjectiveConfig(**options))


def alter(
    module: TeraObjective, features: torch.Tensor, num_frames: list[int], seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    return module.alter(features, num_frames, torch.Generator().manual_seed(seed))


def test_a_band_is_hidden_for_the_whole_utterance() -> None:
    features = torch.randn(30, 40, 20)
    altered, counts = alter(objective(**NONE | {"band_proportion": 0.2}), features, [40] * 30)
    hidden = altered == 0
    assert torch.equal(hidden, hidden[:, :1].expand_as(hidden))
    assert hidden[:, 0].sum(dim=1).unique().tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(altered[~hidden], features[~hidden])
    assert torch.equal(counts, hidden)


def test_noise_is_on_all_frames_of_some_utterances() -> None:
    features = torch.randn(200, 40, 20)
    module = objective(**NONE | {"noise_probability": 0.15})
    altered, counts = alter(module, features, [40, 30] * 100)
    noise = altered - features
    is_noisy = noise[:, :30].abs().amin(dim=(1, 2)) > 0
    assert 0.05 < is_noisy.float().mean() < 0.25
    assert not noise[~is_noisy].any()
    assert noise[is_noisy][:, :30].std().item() == pytest.approx(0.2, abs=0.01)
    assert torch.equal(counts.all(dim=2).any(dim=1), is_noisy)
    assert not noise[1::2, 30:].any()


def test_alterations_combine() -> None:
    features = torch.randn(60, 80, 20)
    altered, counts = alter(objective(), features, [80] * 60)
    is_changed = altered != features
    # What changed counts, and so do masked spans that were left as they are.
    assert counts[is_changed].all()
    masked = counts.all(dim=2)
    assert (masked.float().mean(dim=1) > 0.05).all()
    assert is_changed[:, :, 0].any()
    assert not torch.equal(alter(objective(), features, [80] * 60, seed=1)[0], altered)


def test_the_loss_is_over_altered_values_or_all() -> None:
    wav = 0.1 * torch.randn(8_000, generator=torch.Generator().manual_seed(3))
    values = {}
    for loss_over in ("altered", "all"):
        module = objective(loss_over=loss_over)
        features = module.encoder.features(Batch.of([wav])).values
        altered, _ = alter(module, features, [51], seed=2)
        _, counts = alter(objective(), features, [51], seed=2)
        *_, state = module.encoder.bert(altered, Layout([51]))
        error = (module.head(state) - features).abs()
        expected = error.mean() if loss_over == "all" else error[counts].mean()
        generator = torch.Generator().manual_seed(2)
        loss = module(wav.unsqueeze(0), [8_000], step=0, generator=generator)
        torch.testing.assert_close(loss.value, expected)
        values[loss_over] = float(loss.value.detach())
    assert values["altered"] != values["all"]


def test_a_hidden_band_asks_for_all_columns_of_another_target() -> None:
    options: dict[str, Any] = {"target": LogMelConfig(kind="linear"), "band_proportion": 1.0}
    module = objective(**NONE | options)
    wav = 0.1 * torch.randn(8_000)
    generator = torch.Generator().manual_seed(0)
    loss = module(wav.unsqueeze(0), [8_000], step=0, generator=generator)
    assert loss.metrics["predicted_share"] == 1.0
    assert loss.value.isfinite()


def test_a_batch_without_alterations_has_no_loss() -> None:
    module = objective(**NONE | {"noise_probability": 1e-9})
    generator = torch.Generator().manual_seed(0)
    loss = module(0.1 * torch.randn(1, 4_000), [4_000], step=0, generator=generator)
    loss.value.backward()
    assert loss.value.item() == 0.0


def test_padding_never_enters() -> None:
    module = objective(loss_over="all")
    wavs = [0.1 * torch.randn(count) for count in (4_000, 11_000)]
    num_frames = [26, 69]
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    features = module.encoder.features(Batch.padded(padded, [4_000, 11_000])).values
    altered, _ = alter(module, features, num_frames)
    total = 0.0
    for row, count in enumerate(num_frames):
        *_, state = module.encoder.bert(altered[row : row + 1, :count], Layout([count]))
        total += (module.head(state) - features[row, :count]).abs().sum()
    generator = torch.Generator().manual_seed(0)
    loss = module(padded, [4_000, 11_000], step=0, generator=generator)
    torch.testing.assert_close(loss.value, total / (sum(num_frames) * 20))


@pytest.mark.parametrize(
    "options",
    [NONE, {"band_proportion": 1.5}, {"noise_std": 0.0}, {"max_span": 3}],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        TeraObjectiveConfig(**options)
