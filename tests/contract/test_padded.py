"""`forward_padded`: exact for every row, and a citizen of the rest of PyTorch."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils.checkpoint import checkpoint

import auricle
from auricle.errors import AudioError, LayerError
from auricle.models import base
from auricle.models.base import Encoder
from auricle.models.predictive_coding import ApcConfig, CpcConfig
from auricle.models.self_distilled import SpidRConfig
from auricle.models.waveform_transformer import Wav2Vec2Config, Wav2Vec2ConformerConfig
from auricle.models.whisper import WhisperConfig
from auricle.nn.conformer import ConformerConfig
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.cpu import policy
from auricle.nn.cpu.policy import reference_kernels
from auricle.nn.relative_positions import DistanceConfig
from auricle.nn.transformer import TransformerConfig
from auricle.nn.waveform_extractor import ExtractorConfig
from forks import Forked
from golden_cases import (
    BATCH_LIMIT,
    GoldenCase,
    deviation,
    each_architecture,
    encoder_names,
    shared_encoder,
)

every_encoder = pytest.mark.parametrize("name", each_architecture(encoder_names()))

LIMITS = {"spectrogram": 1e-3}
"""Larger deviations under a compiler: logarithms of bins that are rounding errors of others."""

WAYS = ("eager", "reference kernels", "traced")


@contextmanager
def traced() -> Iterator[None]:
    """Compute as under a compiler: lengths stay tensors, and nothing depends on their values."""
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(torch.compiler, "is_compiling", lambda: True)
        for module in (base, policy):
            patches.setattr(module, "is_traced", lambda: True)
        yield


def way_of(name: str) -> AbstractContextManager[None]:
    return {"eager": nullcontext, "reference kernels": reference_kernels, "traced": traced}[name]()


def padded(encoder: Encoder, filling: float = float("nan")) -> tuple[Tensor, Tensor]:
    """Waveforms (B, S) and lengths (B,): one row is whole, one has the minimum, all else is filled."""
    generator = torch.Generator().manual_seed(len(encoder.family))
    lengths = torch.tensor([6_400, encoder.min_samples, 3_201, 6_113])
    waveforms = 0.1 * torch.randn(len(lengths), 6_400, generator=generator)
    for row, length in zip(waveforms, lengths, strict=True):
        row[length:] = filling
    return waveforms, lengths


@every_encoder
def test_each_row_is_what_its_waveform_gives_alone(name: str) -> None:
    encoder = shared_encoder(name)
    for layer in (None, 0):
        info = encoder.layer_info(layer)
        waveforms, lengths = padded(encoder)
        with torch.inference_mode():
            expected = [
                encoder([row[:length]], layer)[0]
                for row, length in zip(waveforms, lengths.tolist(), strict=True)
            ]
            # What is not a number spreads farthest, where nothing replaces it.
            fillings = (float("nan"), 30.0) if layer is None else (float("nan"),)
            for way, filling in itertools.product(WAYS, fillings):
                waveforms, lengths = padded(encoder, filling)
                with way_of(way):
                    frames, num_frames = encoder.forward_padded(waveforms, lengths, layer=layer)
                size = encoder.num_frames(waveforms.shape[1], layer)
                assert frames.shape == (len(lengths), size, info.dim)
                assert num_frames.tolist() == [len(one) for one in expected]
                for row, alone in zip(frames, expected, strict=True):
                    limit = LIMITS.get(name, BATCH_LIMIT) if way == "traced" else BATCH_LIMIT
                    assert deviation(row[: len(alone)], alone) <= limit, (way, filling)
                    assert not row[len(alone) :].any()


def test_what_is_no_padded_batch_is_refused() -> None:
    encoder = auricle.load("fbank")
    x, lengths = torch.zeros(2, 800), torch.tensor([800, 400])
    wrong: dict[str, tuple[Any, Any]] = {
        "must be tensors, but are list and Tensor": ([x[0], x[1]], lengths),
        r"must be a dense floating-point tensor \(B, S\), but are \(800,\)": (x[0], lengths),
        "but are .*, torch.sparse_coo": (x.to_sparse(), lengths),
        "integer tensor .* torch.bool": (x, lengths > 0),
        "integer tensor .* torch.complex64": (x, lengths.to(torch.complex64)),
        "but are .*, torch.int16": (x.short(), lengths),
        r"integer tensor \(2,\), .* but are \(3,\)": (x, torch.tensor([1, 2, 3])),
        "integer tensor .* torch.float32": (x, lengths.float()),
        r"at least 400 .* at most 800 .*, but lengths\[1\] is 399: pad": (
            x,
            torch.tensor([800, 399]),
        ),
        r"but lengths\[0\] is 801": (x, torch.tensor([801, 400])),
    }
    for message, arguments in wrong.items():
        with pytest.raises(AudioError, match=message):
            encoder.forward_padded(*arguments)
    with pytest.raises(LayerError, match="no layer 'nothing'"):
        encoder.forward_padded(x, lengths, layer="nothing")
    with pytest.raises(LayerError, match="no layer 7"):
        encoder.padded_module(7)


def test_a_batch_without_rows_has_no_frames() -> None:
    for name in ("fbank", "apc"):
        encoder = shared_encoder(name)
        num_samples = encoder.min_samples + 800
        frames, num_frames = encoder.forward_padded(
            torch.zeros(0, num_samples), torch.zeros(0).long()
        )
        assert frames.shape == (0, encoder.num_frames(num_samples), encoder.layer_info(None).dim)
        assert num_frames.shape == (0,)


@pytest.mark.parametrize(
    "name", ["apc", "cpc", "npc", "pase", "tera", "wav2vec2_base", "hf_wavlm_base_plus"]
)
def test_training_gives_the_gradients_of_a_call(name: str) -> None:
    gradients = []
    for is_padded in (True, False):
        encoder = copy.deepcopy(shared_encoder(name)).train()
        waveforms, lengths = padded(encoder)
        waveforms.requires_grad_()
        torch.manual_seed(0)  # of dropout, and of layers that are left out
        if is_padded:
            frames, _ = encoder.forward_padded(waveforms, lengths)
        else:
            rows = [row[:length] for row, length in zip(waveforms, lengths.tolist(), strict=True)]
            frames = torch.cat(encoder(rows))
        frames.square().sum().backward()
        gradients.append([waveforms.grad, *(one.grad for one in encoder.parameters())])
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.isfinite().all()
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_hooks_act() -> None:
    encoder = copy.deepcopy(shared_encoder("wav2vec2_base"))
    waveforms, lengths = padded(encoder)
    last = encoder.get_submodule("transformer.layers.1")
    with torch.inference_mode():
        before, _ = encoder.forward_padded(waveforms, lengths)
        with last.register_forward_hook(lambda _, __, output: 0.5 * output):
            after, num_frames = encoder.forward_padded(waveforms, lengths)
    assert not torch.allclose(after, before)
    seen: list[Tensor] = []
    module = encoder.padded_module()
    with module.register_forward_hook(lambda _, __, output: seen.append(output[0])):
        module(waveforms, lengths)
    assert deviation(seen[0].detach(), before) <= 1e-5
    assert num_frames.tolist() == [encoder.num_frames(length) for length in lengths.tolist()]


@pytest.mark.parametrize("name", ["apc", "wav2vec2_base"])
def test_activations_may_be_recomputed_in_the_backward_pass(name: str) -> None:
    gradients = []
    for is_recomputed in (True, False):
        encoder = copy.deepcopy(shared_encoder(name)).train()
        waveforms, lengths = padded(encoder)
        torch.manual_seed(0)
        if is_recomputed:
            frames, _ = checkpoint(encoder.forward_padded, waveforms, lengths, use_reentrant=False)
        else:
            frames, _ = encoder.forward_padded(waveforms, lengths)
        frames.square().mean().backward()
        gradients.append([one.grad for one in encoder.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)


PARALLEL = """
import os
import sys
import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
import auricle
from auricle.models.predictive_coding import ApcConfig

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/ranks", rank=rank, world_size=2)
waveforms, lengths = torch.load(f"{folder}/batch.pt")
encoder = auricle.build(ApcConfig(num_layers=2, hidden_size=8)).eval()
parallel = DistributedDataParallel(encoder.padded_module())
rows = slice(2 * rank, 2 * rank + 2)
frames, _ = parallel(waveforms[rows], lengths[rows])
frames.square().sum(dim=(1, 2)).mean().backward()
torch.save([one.grad for one in encoder.parameters()], f"{folder}/gradients.{rank}.pt")
dist.destroy_process_group()
os._exit(0)  # to free a finished group of gloo sometimes waits for ever
"""


def test_two_processes_have_the_gradients_of_the_joined_batch(tmp_path: Path) -> None:
    encoder = auricle.build(ApcConfig(num_layers=2, hidden_size=8)).eval()
    waveforms, lengths = padded(encoder)
    torch.save((waveforms, lengths), tmp_path / "batch.pt")
    processes = [Forked(["-c", PARALLEL, str(tmp_path), str(rank)]) for rank in range(2)]
    try:
        for process in processes:
            _, stderr = process.communicate(timeout=240)
            assert process.returncode == 0, stderr
    finally:
        for process in processes:
            process.close()
    frames, _ = encoder.forward_padded(waveforms, lengths)
    frames.square().sum(dim=(1, 2)).mean().backward()
    for rank in range(2):
        gradients = torch.load(tmp_path / f"gradients.{rank}.pt")
        for ours, parameter in zip(gradients, encoder.parameters(), strict=True):
            torch.testing.assert_close(ours, parameter.grad, rtol=1e-4, atol=1e-6)


TINY_LAYERS = ((8, 10, 5), (8, 8, 8))


def tiny_transformer(
    config_type: type[Wav2Vec2Config | SpidRConfig] = Wav2Vec2Config,
    norm: Any = "group",
    **options: Any,
) -> Encoder:
    return auricle.build(
        config_type(
            extractor=ExtractorConfig(layers=TINY_LAYERS, norm=norm),
            transformer=TransformerConfig(
                hidden_size=8,
                num_layers=1,
                num_heads=2,
                ffn_size=8,
                positions=ConvPositionConfig(kernel_size=4, num_groups=2),
            ),
            **options,
        )
    ).eval()


def tiny_conformer() -> Encoder:
    return auricle.build(
        Wav2Vec2ConformerConfig(
            extractor=ExtractorConfig(layers=TINY_LAYERS),
            conformer=ConformerConfig(
                hidden_size=8,
                num_layers=1,
                num_heads=2,
                ffn_size=8,
                kernel_size=5,
                positions=DistanceConfig(kind="sinusoidal"),
            ),
        )
    ).eval()


SAMPLED = ("conformer", "convolutions of cpc", "wav2vec2", "whisper")
"""What is compiled and exported where the whole is not asked for.

The others, recurrent ones too, are computed as a compiler traces them by the test of each row.
"""


def whole_unless(is_sampled: bool) -> list[pytest.MarkDecorator]:
    return [] if is_sampled else [pytest.mark.whole]


TINY: dict[str, Any] = {
    "apc": lambda: auricle.build(ApcConfig(num_layers=1, hidden_size=8)),
    "conformer": tiny_conformer,
    "cpc": lambda: auricle.build(CpcConfig(encoder_dim=8, context_dim=6)),
    "fbank": lambda: auricle.load("fbank"),
    "mel": lambda: auricle.load("mel"),
    "mockingjay": lambda: shared_encoder("mockingjay"),
    "pase": lambda: shared_encoder("pase"),
    "spidr": lambda: tiny_transformer(SpidRConfig, num_codebooks=1),
    "vq_wav2vec": lambda: shared_encoder("vq_wav2vec_gumbel"),
    "wav2vec": lambda: shared_encoder("wav2vec"),
    "wav2vec2": tiny_transformer,
    "wav2vec2 of layer norms": lambda: tiny_transformer(norm="layer"),
    "whisper": lambda: auricle.build(
        WhisperConfig(max_frames=60, hidden_size=8, num_layers=1, num_heads=2, ffn_size=8)
    ),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=whole_unless(n in SAMPLED)) for n in TINY])
def test_a_compiled_encoder_gives_the_same(name: str) -> None:
    encoder = TINY[name]()
    # Dynamo breaks the graph at recurrent layers.
    is_whole = not any(isinstance(part, nn.RNNBase) for part in encoder.modules())
    compiled = torch.compile(encoder.padded_module(), backend="aot_eager", fullgraph=is_whole)
    try:
        for lengths in ([4_000, 3_000], [2_000, 4_000]):
            waveforms = 0.1 * torch.randn(2, 4_000)
            batch = waveforms, torch.tensor(lengths)
            with torch.no_grad():
                expected, num_frames = encoder.forward_padded(*batch)
                ours, counts = compiled(*batch)
            assert torch.equal(counts, num_frames)
            assert deviation(ours, expected) <= 1e-5
    finally:
        torch._dynamo.reset()


EXPORTED = {
    # The case of each, its layer, and whether lengths of the batch may differ from the traced one:
    # torch unrolls recurrent layers.
    "context of cpc": ("modified_cpc", None, False),
    "convolutions of cpc": ("cpc", "encoder", True),
    "wav2vec": ("wav2vec", None, True),
    "vq_wav2vec": ("vq_wav2vec_gumbel", None, True),
    "vq_wav2vec of k-means": ("vq_wav2vec_kmeans", None, True),
    "pase": ("pase", None, True),
}


@pytest.mark.filterwarnings(
    "ignore:The tensor attributes self.encoder.rnn._flat_weights"
)  # torch's
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=whole_unless(name in SAMPLED)) for name in EXPORTED]
)
def test_convolutional_encoders_export_for_any_batch_and_length(name: str) -> None:
    case, layer, is_dynamic = EXPORTED[name]
    encoder = GoldenCase(case).load()
    time = {1: Dim("samples", min=1_000)} if is_dynamic else {}
    batch = Dim("batch")
    waveforms, lengths = padded(encoder, 0.0)
    program = torch.export.export(
        encoder.padded_module(layer),
        (waveforms, lengths),
        dynamic_shapes=({0: batch, **time}, {0: batch}),
    )
    for size, counts in ((6_400, lengths), (7_999, torch.tensor([4_000, 6_400]))):
        waveforms = 0.1 * torch.randn(len(counts), size if is_dynamic else 6_400)
        with torch.no_grad():
            frames, num_frames = program.module()(waveforms, counts)
            # Nor has the trace left anything in the encoder.
            expected, expected_counts = encoder.forward_padded(waveforms, counts, layer=layer)
        assert torch.equal(num_frames, expected_counts)
        assert deviation(frames, expected) <= BATCH_LIMIT
