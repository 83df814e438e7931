from __future__ import annotations

import pytest
import torch

import auricle
from auricle.catalogue.family import FAMILIES
from auricle.models.waveform_transformer import Wav2Vec2, Wav2Vec2Config
from auricle.nn.batch import Batch
from auricle.nn.transformer import TransformerConfig
from auricle.nn.waveform_extractor import ExtractorConfig

PRESETS = FAMILIES["wav2vec2"].presets()

PUBLISHED_MILLIONS = {
    "wav2vec2_base_960": 95,
    "wav2vec2_large_960": 317,
    "wav2vec2_large_ll60k": 317,
    "wav2vec2_large_lv60_cv_swbd_fsh": 317,
    "xlsr_53": 317,
    "xls_r_300m": 317,
    "xls_r_1b": 965,
    "xls_r_2b": 2162,
}
"""With the quantiser, as the papers count (arXiv:2006.11477, 2111.09296)."""


def count_pretraining_head(width: int) -> int:
    """Quantiser (2 x 320), both projections and the mask (sections 2 and 4.2 of the paper)."""
    code_dim = 256 if width == 768 else 768
    quantizer = 640 * code_dim // 2 + 512 * 640 + 640
    projections = code_dim * code_dim + code_dim + width * code_dim + code_dim
    return quantizer + projections + width


@pytest.mark.parametrize("name", PRESETS)
def test_published_sizes(name: str) -> None:
    with torch.device("meta"):
        model = Wav2Vec2(PRESETS[name])
    count = sum(parameter.numel() for parameter in model.parameters())
    count += count_pretraining_head(PRESETS[name].transformer.hidden_size)
    assert count == pytest.approx(PUBLISHED_MILLIONS[name] * 1e6, rel=0.002)
    assert (model.min_samples, model.num_frames(16_000)) == (400, 49)


def test_large_lv60_has_its_norms_elsewhere_and_reads_normalised_waveforms() -> None:
    base, large = PRESETS["wav2vec2_base_960"], PRESETS["wav2vec2_large_ll60k"]
    assert (base.normalize, base.extractor.norm, base.transformer.pre_layer_norm) == (
        False,
        "group",
        False,
    )
    assert (large.normalize, large.extractor.norm, large.transformer.pre_layer_norm) == (
        True,
        "layer",
        True,
    )


def test_a_frozen_extractor_infers_within_training() -> None:
    encoder = auricle.build(
        Wav2Vec2Config(
            extractor=ExtractorConfig(layers=((8, 10, 5), (8, 3, 2))),
            transformer=TransformerConfig(
                hidden_size=16, num_layers=1, num_heads=2, ffn_size=8, layer_drop=0.0
            ),
        )
    ).train()
    encoder.extractor.requires_grad_(False)
    batch = Batch.of([torch.randn(800), torch.randn(500)])
    with torch.inference_mode():
        expected = encoder.latents(batch).values
    latents = encoder.latents(batch).values
    assert torch.equal(latents, expected)
    assert not latents.requires_grad
    encoder([torch.randn(800)])[0].sum().backward()
    assert encoder.projection.weight.grad is not None
    # What hangs on the extractor by a hook has weights of its own.
    scale = torch.ones((), requires_grad=True)
    with encoder.extractor.register_forward_hook(lambda _, __, x: x * scale):
        encoder([torch.randn(800)])[0].square().sum().backward()
    assert scale.grad is not None
