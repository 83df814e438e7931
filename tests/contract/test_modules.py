"""Encoders behave like modules: hooks, replaced parts and changed weights act at any length."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor, nn

from auricle.audio.samples import sample_paths
from auricle.models.base import Encoder
from auricle.nn import chunks, conv_stack, waveform_extractor
from auricle.nn.fast_paths import plain
from golden_cases import deviation, golden_cases, shared_encoder

NAMES = sorted({case.family: case.name for case in golden_cases()}.values())
"""One case of each family."""

SAME = 1e-3
"""In standard deviations: changed values are near nothing that a layer was trained on."""

SEEN = 10 * SAME

every_family = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def encoder(name: str) -> Encoder:
    return copy.deepcopy(shared_encoder(name))


def wavs(encoder: Encoder) -> list[Tensor]:
    """A ragged batch, of several stretches of the smallest kind."""
    samples, _ = soundfile.read(sample_paths()[0], dtype="float32")
    speech = torch.from_numpy(samples)
    return [speech[4_000 : encoder.min_samples + 6_000], speech[: encoder.min_samples + 500]]


@contextmanager
def small_limits() -> Iterator[None]:
    """Every input is a long one."""
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(chunks, "MAX_CHUNK_BYTES", 16_000)
        patches.setattr(conv_stack, "CPU_SHARE", 1)
        patches.setattr(conv_stack, "HELD_BYTES", 0)
        patches.setattr(waveform_extractor, "STRETCH_FRAMES", 2)
        yield


def outputs_of(encoder: Encoder) -> list[Tensor]:
    with torch.no_grad():
        return encoder(wavs(encoder))


def long_outputs_of(encoder: Encoder) -> list[Tensor]:
    with small_limits():
        return outputs_of(encoder)


def plain_outputs_of(encoder: Encoder) -> list[Tensor]:
    with plain():
        return outputs_of(encoder)


def furthest(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return max(deviation(*pair) for pair in zip(ours, theirs, strict=True))


def examples(encoder: Encoder) -> dict[str, nn.Module]:
    """One module of each name, numbers aside, of those that are called for the default layer."""
    called: set[nn.Module] = set()
    handle = nn.modules.module.register_module_forward_hook(lambda one, *_: called.add(one))
    outputs_of(encoder)
    handle.remove()
    named = [(name, one) for name, one in encoder.named_modules() if name and one in called]
    # The last of its kind, for the first is often a case of its own.
    return dict({re.sub(r"\d+", "", name): (name, one) for name, one in named}.values())


def changed(output: Any) -> Any:
    """Other values in the same places; not what a norm after it would undo."""
    if isinstance(output, Tensor):
        return torch.tanh(2 * output) if output.is_floating_point() else output
    return type(output)(changed(one) for one in output) if isinstance(output, tuple) else output


class Adapted(nn.Module):
    """A module in the place of another, as adapters are."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, *inputs: Any) -> Any:
        return changed(self.base(*inputs))


@every_family
def test_whatever_is_done_to_a_module_acts_at_any_length(encoder: Encoder) -> None:
    before = outputs_of(encoder)
    assert furthest(long_outputs_of(encoder), before) <= SAME
    for name, part in examples(encoder).items():
        calls: list[tuple[Tensor, Tensor]] = []

        def hook(_: nn.Module, __: Any, output: Any, calls: Any = calls) -> Any:
            first = output[0] if isinstance(output, tuple) else output
            calls.append((first, first.clone()))
            return changed(output)

        with part.register_forward_hook(hook):
            expected = plain_outputs_of(encoder)
            num_calls = len(calls)
            assert furthest(long_outputs_of(encoder), expected) <= SAME, name
        assert furthest(expected, before) > SEEN, name
        # It sees what it sees on other devices, and nothing is written into that later.
        assert len(calls) == 2 * num_calls, name
        assert all(torch.equal(*pair) for pair in calls), name
        shapes = [seen.shape for seen, _ in calls]
        assert shapes[num_calls:] == shapes[:num_calls], name

        part.forward = lambda *inputs, part=part: changed(type(part).forward(part, *inputs))
        assert furthest(long_outputs_of(encoder), expected) <= SAME, name
        del part.forward

        if not list(part.children()):
            parent, _, place = name.rpartition(".")
            setattr(encoder.get_submodule(parent), place, Adapted(part))
            assert furthest(long_outputs_of(encoder), expected) <= SAME, name
            setattr(encoder.get_submodule(parent), place, part)
    assert furthest(outputs_of(encoder), before) == 0.0
