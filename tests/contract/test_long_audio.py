"""Long audio, over every family without attention: by stretches the same, and never much at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import soundfile
import torch
from torch import Tensor, nn

from auricle.audio.inputs import sample_paths
from auricle.catalogue.family import FAMILIES
from auricle.models.base import Encoder
from auricle.nn import conv_stack
from auricle.nn.cpu import policy
from auricle.nn.cpu.policy import reference_kernels
from golden_cases import deviation, each_architecture, encoder_names, family, shared_encoder

NAMES = [
    name
    for name in encoder_names()
    if FAMILIES[family(name)].encoder_type().looks_ahead is not True
]
ROUNDING = 2e-5
"""In standard deviations; half of it is the difference of wav2vec's 32 bits from 64."""

NUM_STRETCHES = 8
NUM_SAMPLES, NUM_SAMPLES_OF_FEATURES = 20_000, 64_000
WIDER = {"npc": 160_000, "pase": 48_000}
"""Several stretches of each kind of encoder: those of convolutions over samples are shorter, and
those whose frames see far are longer."""


@contextmanager
def largest_output(encoder: Encoder) -> Iterator[list[int]]:
    """The bytes of the largest tensor that any layer of the encoder has given."""
    largest = [0]

    call = nn.Module.__call__

    def note(module: nn.Module, *inputs: object, **options: object) -> object:
        output = call(module, *inputs, **options)
        outputs = output if isinstance(output, tuple) else (output,)
        for tensor in outputs if module in leaves else ():
            if isinstance(tensor, Tensor):
                largest[0] = max(largest[0], tensor.numel() * tensor.element_size())
        return output

    leaves = {module for module in encoder.modules() if not list(module.children())}
    # Not by hooks: with one of those a layer is given the whole.
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(nn.Module, "__call__", note)
        yield largest


def encoded(
    encoder: Encoder, wavs: list[Tensor], is_plain: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """The default layer, and codes where there are any."""
    with torch.inference_mode(), reference_kernels() if is_plain else nullcontext():
        return encoder(wavs), encoder.codes(wavs) if encoder.codes_layer else []


def test_every_family_without_attention_is_here() -> None:
    assert [name for name in encoder_names() if not shared_encoder(name).looks_ahead] == NAMES


@pytest.mark.parametrize("name", each_architecture(NAMES))
@pytest.mark.parametrize("is_plain", [False, True])
def test_stretches_change_nothing_and_bound_what_is_computed_at_once(
    monkeypatch: pytest.MonkeyPatch, name: str, is_plain: bool
) -> None:
    encoder = shared_encoder(name)
    samples, _ = soundfile.read(sample_paths()[1], dtype="float32")
    speech = torch.from_numpy(samples)
    reads_features = hasattr(encoder.config, "features")
    usual = NUM_SAMPLES_OF_FEATURES if reads_features else NUM_SAMPLES
    wavs = [
        speech[: WIDER.get(encoder.family, usual)],
        speech[: encoder.min_samples],
        0.3 + speech[50_000:54_321],
    ]
    with largest_output(encoder) as largest:
        (whole, whole_codes), whole_bytes = encoded(encoder, wavs, is_plain), largest[0]
        monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", max(whole_bytes // NUM_STRETCHES, 8_000))
        monkeypatch.setattr(conv_stack, "HELD_BYTES", whole_bytes // 3)
        largest[0] = 0
        stretched, stretched_codes = encoded(encoder, wavs, is_plain)
        assert largest[0] <= 2 * whole_bytes / NUM_STRETCHES
    for ours, theirs in zip(stretched, whole, strict=True):
        assert deviation(ours, theirs) <= ROUNDING
    for ours, theirs in zip(stretched_codes, whole_codes, strict=True):
        assert torch.equal(ours, theirs)
