"""Every layer of every golden case equals its reference, alone and among any neighbours."""

from __future__ import annotations

import random
from contextlib import nullcontext

import pytest
import torch

from auricle.catalogue.family import FAMILIES
from auricle.nn.cpu.policy import reference_kernels
from golden_cases import GoldenCase, deviation, each_architecture, golden_cases, shared_encoder

CASES = golden_cases()
every_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def test_every_family_has_a_case() -> None:
    assert {case.family for case in CASES} == set(FAMILIES) - {"baseline"}


@every_case
def test_formats_are_recognised_and_every_layer_equals_the_reference(case: GoldenCase) -> None:
    for checkpoint in case.checkpoints:
        encoder = case.load(checkpoint)
        assert encoder.family == case.family
        assert set(case.layers) <= set(encoder.info.layers)
        assert case.deviation(encoder) <= case.limit


@every_case
def test_frames_are_the_reference_s(case: GoldenCase) -> None:
    encoder = shared_encoder(case.name)
    for number, wav in case.wavs.items():
        for layer, reference in case.references(number).items():
            assert encoder.num_frames(len(wav), layer) == len(reference)


@pytest.mark.parametrize("name", each_architecture(case.name for case in CASES))
def test_reference_holds_among_neighbours(name: str) -> None:
    case = GoldenCase(name)
    encoder = shared_encoder(case.name)
    rng = random.Random(case.name)
    generator = torch.Generator().manual_seed(7)
    shortest = encoder.min_samples
    speech = case.wavs[1]
    neighbours = [
        torch.zeros(shortest),
        torch.zeros(10_000),
        0.3 * torch.randn(shortest, generator=generator),
        0.3 * torch.randn(14_000, generator=generator),
        torch.cat([torch.zeros(4_000), speech, torch.zeros(3_000)]),
    ]
    for way in (nullcontext, reference_kernels):
        batch = [(None, wav) for wav in rng.sample(neighbours, rng.randint(1, len(neighbours)))]
        batch += list(case.wavs.items())
        rng.shuffle(batch)
        wavs = [wav for _, wav in batch]
        with torch.inference_mode(), way():
            everything = encoder.layers(wavs)
            default = encoder(wavs)
        for (number, _), layers, output in zip(batch, everything, default, strict=True):
            if number is None:
                continue
            for layer, reference in case.references(number).items():
                ours = output if layer is None else layers[layer]
                assert deviation(ours, reference) <= case.limit, layer


@every_case
def test_codes_equal_the_reference(case: GoldenCase) -> None:
    encoder = shared_encoder(case.name)
    numbers = [number for number in case.wavs if f"codeids.{number}" in case.tensors]
    if encoder.codes_layer is None:
        assert not numbers
        return
    assert numbers
    assert not case.codes_differ(encoder)
    batched = encoder.codes([torch.zeros(30_000), *(case.wavs[number] for number in numbers)])
    for number, codes in zip(numbers, batched[1:], strict=True):
        assert torch.equal(codes, case.tensors[f"codeids.{number}"])
