"""The current `transformers`, side by side, on small random models of every kind it writes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import auricle
from auricle.models.waveform_transformer import Wav2Vec2Config, WaveformTransformerConfig
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.cpu.policy import reference_kernels
from auricle.nn.transformer import TransformerConfig
from auricle.nn.waveform_extractor import ExtractorConfig
from golden_cases import GoldenCase, deviation

transformers = pytest.importorskip("transformers", reason="the group peers is not installed")

LIMIT = 1e-4
EXPORT_LIMIT = 2e-6
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [16, 16, 24],
    "conv_kernel": [10, 3, 2],
    "conv_stride": [5, 2, 2],
    "num_conv_pos_embedding_groups": 4,
}
PRE_NORM = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
KINDS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "wav2vec2_base": ("Wav2Vec2", False, {}),
    "wav2vec2_large": ("Wav2Vec2", True, PRE_NORM),
    "wav2vec2_odd": (
        "Wav2Vec2",
        True,
        {"hidden_act": "gelu_new", "feat_extract_activation": "relu", "num_conv_pos_embeddings": 7},
    ),
    "wav2vec2_mixed": ("Wav2Vec2", False, {"feat_extract_norm": "layer", "layer_norm_eps": 1e-3}),
    "hubert_base": ("Hubert", False, {}),
    "hubert_large": ("Hubert", True, {**PRE_NORM, "feat_proj_layer_norm": False}),
    "hubert_batch_norm": ("Hubert", False, {"conv_pos_batch_norm": True}),
    "wavlm_base": ("WavLM", False, {"num_buckets": 32, "max_bucket_distance": 50}),
    "wavlm_large": ("WavLM", True, {**PRE_NORM, "hidden_act": "swish"}),
    "data2vec": ("Data2VecAudio", True, {"conv_pos_kernel_size": 7, "num_conv_pos_embeddings": 3}),
    "data2vec_even": ("Data2VecAudio", False, {"conv_pos_kernel_size": 6, "conv_bias": True}),
}


def randomise(model: torch.nn.Module) -> None:
    """Weights that leave no part of the network without effect, unlike the initial ones."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                fan_in = tensor[0].numel() if tensor.dim() > 1 else 4
                noise = torch.randn(tensor.shape, generator=generator) / fan_in**0.5
                tensor.copy_(noise.abs() + 0.5 if tensor.dim() == 1 else noise)


def build(kind: str, head: str) -> tuple[Any, Any]:
    """A random model in evaluation mode, and its preprocessor."""
    name, do_normalize, options = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(**SIZES, **options)
    model = getattr(transformers, f"{name}{head}")(config).eval()
    randomise(model)
    return model, transformers.Wav2Vec2FeatureExtractor(do_normalize=do_normalize)


def waveforms() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(size, generator=generator) for size in (4_000, 160, 1_777)]


def hidden_states(model: Any, preprocessor: Any, wav: Tensor) -> list[Tensor]:
    inputs = preprocessor(wav.numpy(), sampling_rate=16_000, return_tensors="pt")
    output = model(inputs.input_values, output_hidden_states=True)
    # Versions differ in whether the last of the states is in front of a final norm or behind it.
    return [state[0] for state in (*output.hidden_states[:-1], output.last_hidden_state)]


@pytest.fixture(autouse=True)
def ignore_the_peer_s_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are not ours to mend
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_alone_and_in_a_batch(kind: str, tmp_path: Path) -> None:
    model, preprocessor = build(kind, "Model")
    model.save_pretrained(tmp_path)
    preprocessor.save_pretrained(tmp_path)
    encoder = auricle.load(tmp_path)
    assert encoder.family == KINDS[kind][0].lower().removesuffix("audio")
    wavs = waveforms()
    with torch.inference_mode():
        references = [hidden_states(model, preprocessor, wav) for wav in wavs]
        together = encoder.layers(wavs)
        with reference_kernels():
            padded = encoder.layers(wavs)
        rows = zip(wavs, references, together, padded, strict=True)
        for wav, expected, batched, in_plain_batch in rows:
            (alone,) = encoder.layers([wav])
            for name, reference in zip(alone, expected, strict=True):
                assert deviation(alone[name], reference) <= LIMIT
                assert deviation(batched[name], reference) <= LIMIT
                assert deviation(in_plain_batch[name], reference) <= LIMIT


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exported_loads_to_the_same_numbers(kind: str, tmp_path: Path) -> None:
    model, preprocessor = build(kind, "Model")
    model.save_pretrained(tmp_path / "theirs")
    preprocessor.save_pretrained(tmp_path / "theirs")
    encoder = auricle.load(tmp_path / "theirs")
    auricle.export_to_transformers(encoder, tmp_path / "ours")
    again, info = transformers.AutoModel.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert type(again) is type(model)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    reader = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "ours")
    for wav in waveforms():
        with torch.inference_mode():
            expected = hidden_states(model, preprocessor, wav)
            states = hidden_states(again.eval(), reader, wav)
        for state, reference in zip(states, expected, strict=True):
            assert deviation(state, reference) <= EXPORT_LIMIT


@pytest.mark.parametrize("name", ["wav2vec2_base", "wav2vec2_large_lv60"])
def test_a_checkpoint_of_fairseq_exports(name: str, tmp_path: Path) -> None:
    encoder = GoldenCase(name).load()
    assert isinstance(encoder.config, WaveformTransformerConfig)
    auricle.export_to_transformers(encoder, tmp_path)
    model = transformers.AutoModel.from_pretrained(tmp_path).eval()
    reader = transformers.AutoFeatureExtractor.from_pretrained(tmp_path)
    (wav, *_) = waveforms()
    with torch.inference_mode():
        states = hidden_states(model, reader, wav)
        for state, reference in zip(states, encoder.layers([wav])[0].values(), strict=True):
            # What transformers adds to the variance of a waveform differs from fairseq's.
            limit = 1e-2 if encoder.config.normalize else LIMIT
            assert deviation(state, reference) <= limit


def test_without_a_projection_transformers_has_the_identity(tmp_path: Path) -> None:
    config = Wav2Vec2Config(
        extractor=ExtractorConfig(layers=((24, 10, 5), (24, 3, 2))),
        projection=False,
        transformer=TransformerConfig(
            hidden_size=24,
            num_layers=2,
            num_heads=2,
            ffn_size=8,
            activation="gelu_tanh",
            positions=ConvPositionConfig(kernel_size=6, num_groups=2),
        ),
    )
    encoder = auricle.build(config)
    auricle.export_to_transformers(encoder, tmp_path)
    model = transformers.AutoModel.from_pretrained(tmp_path).eval()
    reader = transformers.AutoFeatureExtractor.from_pretrained(tmp_path)
    (wav, *_) = waveforms()
    with torch.inference_mode():
        states = hidden_states(model, reader, wav)
        for state, reference in zip(states, encoder.layers([wav])[0].values(), strict=True):
            assert deviation(state, reference) <= LIMIT


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("wav2vec2_large", "ForPreTraining"),
        ("wav2vec2_base", "ForCTC"),
        ("hubert_base", "ForSequenceClassification"),
        ("wavlm_base", "ForXVector"),
        ("data2vec", "ForAudioFrameClassification"),
    ],
)
def test_models_with_a_head_load_as_the_encoder_in_them(
    kind: str, head: str, tmp_path: Path
) -> None:
    model, preprocessor = build(kind, head)
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    preprocessor.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors.index.json").exists()
    encoder = auricle.load(tmp_path)
    (wav, *_) = waveforms()
    with torch.inference_mode():
        inputs = preprocessor(wav.numpy(), sampling_rate=16_000, return_tensors="pt")
        reference = model.base_model(inputs.input_values).last_hidden_state[0]
        assert deviation(encoder([wav])[0], reference) <= LIMIT
