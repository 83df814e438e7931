from __future__ import annotations

import pytest
import torch

from auricle.catalogue.family import FAMILIES
from auricle.checkpoints import s3prl
from auricle.checkpoints.keymap import Renamed
from auricle.checkpoints.options import Options
from auricle.errors import CheckpointError
from auricle.frontends import FbankConfig, LogMelConfig
from auricle.models.spectral_transformer import BertConfig, SpectralBertConfig

TRANSFORMER = {
    "hidden_size": "8",
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "hidden_act": "swish",
    "layer_norm_eps": "1e-7",
}


def bert(task: dict[str, object] | None = None, **options: object) -> BertConfig:
    config = {"transformer": {**TRANSFORMER, **options}, "task": task or {}}
    return s3prl.bert_config(Options(config, "Config"))


def features(**audio: object) -> FbankConfig | LogMelConfig:
    return s3prl.feature_config(Options(audio, "audio"))


def test_transformer_options() -> None:
    assert bert(task={"sequence_length": 40}, share_layer=True, pre_layer_norm=True) == BertConfig(
        hidden_size=8,
        num_layers=2,
        num_heads=2,
        ffn_size=12,
        activation="swish",
        layer_norm_eps=1e-7,
        share_layer=True,
        pre_layer_norm=True,
        max_chunk_frames=40,
    )


def test_what_the_transformer_cannot_do_is_refused() -> None:
    assert bert(downsample_rate=1) == bert()
    with pytest.raises(CheckpointError, match="downsample_rate must be 1, but is 3"):
        bert(downsample_rate=3)
    with pytest.raises(CheckpointError, match="hidden_act must be one of"):
        bert(hidden_act="mish")


def test_log_mel_options() -> None:
    feature = {"feat_type": "linear", "log": True, "delta": 2, "cmvn": False, "channel": 0}
    audio = {"win_ms": 20, "hop_ms": 5, "n_freq": 257, "n_mels": 40, "target_level": -20}
    assert features(input=feature, target={"feat_type": "mel"}, **audio) == LogMelConfig(
        kind="linear",
        num_mels=40,
        num_freqs=257,
        window_ms=20,
        hop_ms=5,
        target_level_db=-20,
        delta_order=2,
        cmvn=False,
    )
    mfcc = features(input={"feat_type": "mfcc", "cmvn": True}, n_mfcc=20)
    assert mfcc == LogMelConfig(kind="mfcc", num_mfcc=20, num_mels=40, log=False)
    with pytest.raises(CheckpointError, match="feat_type must be one of mel, linear, mfcc"):
        features(input={"feat_type": "wave"})


def test_kaldi_options() -> None:
    kaldi = {"feat_type": "fbank", "fbank": {"num_mel_bins": 40, "window_type": "hamming"}}
    assert features(
        kaldi=kaldi, delta={"order": 1, "win_length": 7}, cmvn={"use_cmvn": True}
    ) == FbankConfig(num_mels=40, window="hamming", delta_order=1, delta_window=7, cmvn=True)
    # The defaults of the reference: 23 bands, deltas twice.
    default = FbankConfig(num_mels=23, window="povey", delta_order=2)
    assert features(kaldi={"feat_type": "fbank"}) == default
    assert features(kaldi={"feat_type": "fbank"}, delta={"order": 0}).delta_order == 0
    with pytest.raises(CheckpointError, match="feat_type must be one of fbank, but is 'mfcc'"):
        features(kaldi={"feat_type": "mfcc", "mfcc": {}})


def located(config: BertConfig, ours: str, **values: float) -> Renamed:
    weights = {key: torch.full((1,), value) for key, value in values.items()}
    return s3prl.keys(config).locate(weights, {ours: torch.ones(1)})


def test_old_norm_names_are_todays() -> None:
    found = located(
        bert(), "bert.layers.0.ffn_norm.bias", **{"encoder.layer.0.output.LayerNorm.beta": 1.0}
    )
    assert list(found.originals) == ["bert.layers.0.ffn_norm.bias"]


@pytest.mark.parametrize(
    ("options", "repeat", "first", "ours"),
    [
        ({"pre_layer_norm": True}, "encoder.layer.1.LayerNorm.weight", "encoder.layer.1.output.LayerNorm.weight", "bert.layers.1.ffn_norm.weight"),
        ({"pre_layer_norm": True}, "encoder.layer.0.attention.LayerNorm.bias", "encoder.layer.0.attention.output.LayerNorm.bias", "bert.layers.0.attention_norm.bias"),
        ({"share_layer": True}, "encoder.layer.1.output.dense.bias", "encoder.layer.0.output.dense.bias", "bert.layers.0.ffn_out.bias"),
    ],
)  # fmt: skip
def test_repeated_tensors_count_once_where_they_are_the_same(
    options: dict[str, object], repeat: str, first: str, ours: str
) -> None:
    found = located(bert(**options), ours, **{first: 1.0, repeat: 1.0})
    assert found.originals == {ours: first}
    assert not found.dropped + found.unknown
    with pytest.raises(CheckpointError, match="must be the same tensor"):
        located(bert(**options), ours, **{first: 1.0, repeat: 2.0})
    assert located(bert(), ours, **{first: 1.0, repeat: 1.0}).unknown == (repeat,)


SECTIONS = {
    "transformer": {
        "hidden_size": 8,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    },
    "audio": {"input": {"feat_type": "mel", "log": True}},
}


@pytest.mark.parametrize("section", ["Config", "Upstream_Config"])
@pytest.mark.parametrize("stem", ["mockingjay", "tera", "audio_albert"])
def test_both_formats_give_the_family_s_config(stem: str, section: str) -> None:
    family = FAMILIES[stem]
    is_shared = stem == "audio_albert"
    transformer = {**SECTIONS["transformer"], "share_layer": is_shared}
    weights = {"encoder.layer.0.output.LayerNorm.weight": torch.ones(8)}
    payload = {section: {**SECTIONS, "transformer": transformer}, "Transformer": weights}
    converted = s3prl.convert(payload, family)
    assert isinstance(converted.config, family.config_type())
    assert isinstance(converted.config, SpectralBertConfig)
    assert converted.config.transformer.num_layers == 4
    assert converted.config.transformer.share_layer is is_shared
    ours = "bert.layers.0.ffn_norm.weight"
    assert list(converted.keymap.locate(converted.weights, {ours: torch.ones(8)}).weights) == [ours]
    with pytest.raises(CheckpointError, match="lacks hidden_size"):
        s3prl.convert({section: {**SECTIONS, "transformer": {}}, "Transformer": {}}, family)
