"""Encoders behave like modules: hooks, replaced parts and changed weights act at any length."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize, prune

import auricle
from auricle.audio.inputs import sample_paths
from auricle.errors import AudioError, AuricleError
from auricle.models.base import Encoder
from auricle.models.waveform_transformer import Wav2Vec2Config
from auricle.nn import conv_stack, waveform_extractor
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.cpu import policy
from auricle.nn.cpu.policy import reference_kernels
from auricle.nn.transformer import TransformerConfig
from auricle.nn.waveform_extractor import ExtractorConfig
from golden_cases import (
    deviation,
    each_set_of_modules,
    golden_cases,
    shared_encoder,
    without_dropout,
)

OF_FAMILIES = {case.family: case.name for case in golden_cases()}.values()
NAMES = each_set_of_modules(sorted(OF_FAMILIES))
SAMPLED = [str(one.values[0]) for one in NAMES if not one.marks]
"""Those that are taken where the whole is not asked for."""

SAME = 1e-3
"""In standard deviations: changed values are near nothing that a layer was trained on."""

SEEN = 10 * SAME

every_family = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def encoder(name: str) -> Encoder:
    return copy.deepcopy(shared_encoder(name))


@functools.cache
def speech() -> Tensor:
    samples, _ = soundfile.read(sample_paths()[0], dtype="float32")
    return torch.from_numpy(samples)


def wavs(encoder: Encoder) -> list[Tensor]:
    """A ragged batch, of several stretches of the smallest kind."""
    voice = speech()
    return [voice[4_000 : encoder.min_samples + 5_200], voice[: encoder.min_samples + 400]]


@contextmanager
def small_limits() -> Iterator[None]:
    """Every input is a long one."""
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(policy, "MAX_CHUNK_BYTES", 16_000)
        patches.setattr(conv_stack, "CPU_SHARE", 1)
        patches.setattr(conv_stack, "HELD_BYTES", 0)
        patches.setattr(waveform_extractor, "CHUNK_FRAMES", 2)
        yield


def outputs_of(encoder: Encoder) -> list[Tensor]:
    with torch.no_grad():
        return encoder(wavs(encoder))


def long_outputs_of(encoder: Encoder) -> list[Tensor]:
    with small_limits():
        return outputs_of(encoder)


def plain_outputs_of(encoder: Encoder) -> list[Tensor]:
    with reference_kernels():
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


def kind(encoder: Encoder, name: str) -> tuple[object, ...]:
    """What decides how a module is called: its name, numbers aside, its class and those around it."""
    places = name.split(".")
    around = [encoder.get_submodule(".".join(places[:end])) for end in range(len(places) + 1)]
    return re.sub(r"\d+", "", places[-1]), *map(type, around[-4:])


@functools.cache
def kinds(name: str) -> frozenset[object]:
    encoder = shared_encoder(name)
    return frozenset(kind(encoder, part) for part in examples(encoder))


class Adapted(nn.Module):
    """A module in the place of another, as adapters are."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, *inputs: Any) -> Any:
        return changed(self.base(*inputs))


@every_family
def test_whatever_is_done_to_a_module_acts_at_any_length(
    encoder: Encoder, name: str, is_whole: bool
) -> None:
    """Of a kind that several encoders have it is done in the first of them, or in each."""
    before = outputs_of(encoder)
    assert furthest(long_outputs_of(encoder), before) <= SAME
    earlier = () if is_whole else SAMPLED[: SAMPLED.index(name)]
    done = frozenset().union(*map(kinds, earlier))
    for part_name, part in examples(encoder).items():
        if kind(encoder, part_name) in done:
            continue
        calls: list[tuple[Tensor, Tensor]] = []

        def hook(_: nn.Module, __: Any, output: Any, calls: Any = calls) -> Any:
            first = output[0] if isinstance(output, tuple) else output
            calls.append((first, first.clone()))
            return changed(output)

        with part.register_forward_hook(hook):
            expected = plain_outputs_of(encoder)
            num_calls = len(calls)
            assert furthest(long_outputs_of(encoder), expected) <= SAME, part_name
        assert furthest(expected, before) > SEEN, part_name
        # It sees what it sees on other devices, and nothing is written into that later.
        assert len(calls) == 2 * num_calls, part_name
        assert all(torch.equal(*pair) for pair in calls), part_name
        shapes = [seen.shape for seen, _ in calls]
        assert shapes[num_calls:] == shapes[:num_calls], part_name

        part.forward = lambda *inputs, part=part: changed(type(part).forward(part, *inputs))
        assert furthest(long_outputs_of(encoder), expected) <= SAME, part_name
        del part.forward

        if not list(part.children()):
            parent, _, place = part_name.rpartition(".")
            setattr(encoder.get_submodule(parent), place, Adapted(part))
            assert furthest(long_outputs_of(encoder), expected) <= SAME, part_name
            setattr(encoder.get_submodule(parent), place, part)
    assert furthest(outputs_of(encoder), before) == 0.0


class Tripled(nn.Module):
    """A parametrisation."""

    def forward(self, weight: Tensor) -> Tensor:
        return 3 * weight


@every_family
def test_pruned_and_parametrised_weights_are_the_ones_that_count(
    encoder: Encoder, name: str
) -> None:
    twin = copy.deepcopy(shared_encoder(name))
    part_name, part = next(
        (part_name, part)
        for part_name, part in examples(encoder).items()
        if isinstance(part, nn.Conv1d | nn.Linear | nn.GRU)
    )
    weight = "weight_ih_l0" if isinstance(part, nn.GRU) else "weight"
    outputs_of(encoder)  # now it is kept packed
    prune.l1_unstructured(part, weight, amount=0.5)
    with torch.no_grad():
        original, mask = getattr(part, f"{weight}_orig"), getattr(part, f"{weight}_mask")
        original.mul_(3.0)  # as an optimiser changes it
        getattr(twin.get_submodule(part_name), weight).copy_(original * mask)
    assert furthest(long_outputs_of(encoder), outputs_of(twin)) <= SAME
    for one in (encoder, twin):  # whose batch norms follow
        torch.manual_seed(0)
        for _ in range(2):  # a second backward pass finds a graph of its own
            one.train()(wavs(one))[0].square().mean().backward()
        one.eval()

    prune.remove(part, weight)
    if not isinstance(part, nn.GRU):  # torch's own take no parametrisation
        parametrize.register_parametrization(part, weight, Tripled())
        with torch.no_grad():
            getattr(twin.get_submodule(part_name), weight).mul_(3.0)
    assert furthest(long_outputs_of(encoder), outputs_of(twin)) <= SAME


@every_family
def test_weights_that_are_written_to_are_the_ones_that_count(encoder: Encoder) -> None:
    outputs_of(encoder)
    for parameter in encoder.parameters():
        index = parameter.numel() // 3
        parameter.data.view(-1)[index] += 1.0  # which no version counts
    changed_outputs = outputs_of(encoder)
    assert furthest(changed_outputs, plain_outputs_of(encoder)) <= SAME
    others = {name: 0.9 * one for name, one in encoder.named_parameters()}
    with torch.no_grad():
        ours = torch.func.functional_call(encoder, others, (wavs(encoder),))
        with reference_kernels():
            expected = torch.func.functional_call(encoder, others, (wavs(encoder),))
    assert furthest(ours, expected) <= SAME
    assert furthest(outputs_of(encoder), changed_outputs) == 0.0


@every_family
def test_a_frozen_encoder_infers_whatever_the_mode_of_gradients(encoder: Encoder) -> None:
    encoder.requires_grad_(False)
    with torch.inference_mode():
        expected = encoder(wavs(encoder))
    ours = encoder(wavs(encoder))
    assert all(torch.equal(*pair) for pair in zip(ours, expected, strict=True))
    assert not any(one.requires_grad for one in ours)

    parameters = [list(part.parameters()) for part in examples(encoder).values()]
    parameters = [some for some in parameters if some][-1]
    for parameter in parameters:
        parameter.requires_grad_(True)
    sum(one.square().sum() for one in encoder(wavs(encoder))).backward()
    gradients = [parameter.grad for parameter in parameters]
    encoder.requires_grad_(True).zero_grad()
    sum(one.square().sum() for one in encoder(wavs(encoder))).backward()
    for ours, parameter in zip(gradients, parameters, strict=True):
        assert torch.allclose(ours, parameter.grad, rtol=1e-4, atol=1e-4)


@every_family
def test_the_shortest_waveform_trains_or_says_what_to_do(encoder: Encoder) -> None:
    encoder.train()
    wav = wavs(encoder)[0][: encoder.min_samples]
    frames = encoder.num_frames(len(wav))
    has_batch_norm = any(isinstance(part, nn.BatchNorm1d) for part in encoder.modules())
    if has_batch_norm and frames == 1:
        with pytest.raises(AudioError, match=r"one frame in all.*encoder\.eval\(\)"):
            encoder([wav])
        encoder([wav, wav])
    else:
        encoder([wav])[0].sum().backward()


NOT_USED: dict[str, str | tuple[str, ...]] = {
    "dinosr": "heads.",
    "spidr": "heads.",
    "spin": ("heads.", "codebook."),
    "npc": "quantizer.codebooks.",
    "vq_apc": "quantizer.codebooks.",
    "vq_wav2vec_kmeans": "quantizer.vectors",
}
"""Parameters that the default layer does not use, as docs/fine-tuning.md has them."""

MORE_NAMES = each_set_of_modules(sorted({*OF_FAMILIES, *NOT_USED}))


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("name", MORE_NAMES)
def test_the_default_layer_gives_each_parameter_a_gradient(encoder: Encoder, name: str) -> None:
    encoder(wavs(encoder))[0].square().mean().backward()
    unused = {one for one, parameter in encoder.named_parameters() if parameter.grad is None}
    prefix = NOT_USED.get(name)
    named = {one for one, _ in encoder.named_parameters() if prefix and one.startswith(prefix)}
    assert unused == named


@pytest.mark.parametrize("name", MORE_NAMES)
def test_data_parallel_training_waits_for_no_parameter(
    encoder: Encoder, process_group: None
) -> None:
    twin = copy.deepcopy(encoder).train()
    parallel = DistributedDataParallel(encoder.train())
    for seed in range(3):  # a step finds out that the one before it has not been finished
        torch.manual_seed(seed)  # of dropout, and of layers that are left out
        parallel(wavs(encoder))[0].square().mean().backward()
        torch.manual_seed(seed)
        twin(wavs(encoder))[0].square().mean().backward()
    for ours, theirs in zip(encoder.parameters(), twin.parameters(), strict=True):
        expected = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
        assert torch.allclose(ours.grad, expected, rtol=1e-4, atol=1e-6)
    parallel(wavs(encoder), layer=0)[0].sum().backward()  # whatever deeper layers have
    parallel(wavs(encoder), layer=0)[0].sum().backward()


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")
@pytest.mark.parametrize("name", ["wav2vec2_base", "npc"])
def test_sharded_parameters_train_as_whole_ones(
    encoder: Encoder, name: str, process_group: None, tmp_path: Path
) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    encoder = without_dropout(encoder)  # whose masks are others where batches are padded
    twin = copy.deepcopy(encoder)
    mesh = init_device_mesh("cpu", (1,))
    for part_name, part in encoder.named_modules():
        if part_name.rpartition(".")[2].isdigit():
            fully_shard(part, mesh=mesh)
    fully_shard(encoder, mesh=mesh)
    for one in (encoder.train(), twin.train()):
        optimizer = torch.optim.SGD(one.parameters(), lr=1e-3)
        torch.manual_seed(0)
        for _ in range(2):
            optimizer.zero_grad()
            sum(output.square().mean() for output in one(wavs(one))).backward()
            optimizer.step()
    # Whole batches go through other kernels than utterances, twice there and back.
    assert furthest(outputs_of(encoder.eval()), plain_outputs_of(twin.eval())) <= 1e-4
    encoder.save(tmp_path / "gathered.safetensors")
    assert (
        furthest(outputs_of(auricle.load(tmp_path / "gathered.safetensors")), outputs_of(twin))
        <= 1e-4
    )


def test_a_compiled_encoder_gives_the_same() -> None:
    encoder = auricle.build(
        Wav2Vec2Config(
            extractor=ExtractorConfig(layers=((8, 10, 5), (8, 8, 8))),
            transformer=TransformerConfig(
                hidden_size=8,
                num_layers=1,
                num_heads=2,
                ffn_size=8,
                positions=ConvPositionConfig(kernel_size=4, num_groups=2),
            ),
        )
    ).eval()
    operations: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        operations.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    wav = wavs(encoder)[:1]
    compiled = torch.compile(encoder, backend=backend)
    try:
        with torch.no_grad():
            assert furthest(compiled(wav), encoder(wav)) <= SAME
    finally:
        torch._dynamo.reset()
    # Graphs begin anew in the middle of functions, and none may hold what no compiler takes.
    assert any("linear" in one for one in operations)
    assert not [one for one in operations if "mkldnn" in one]


@pytest.mark.parametrize("name", ["wav2vec"])
def test_what_a_stream_or_a_file_would_lose_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "whole.safetensors")
    conv = encoder.get_submodule("extractor.layers.0.conv")
    with conv.register_forward_hook(lambda *_: None):
        with pytest.raises(AuricleError, match=r"extractor\.layers\.0\.conv has a hook"):
            encoder.stream()
        encoder.save(tmp_path / "hooked.safetensors")
    encoder.stream()
    prune.l1_unstructured(conv, "weight", amount=0.5)
    with pytest.raises(AuricleError, match=r"0\.conv\.weight_mask.*prune\.remove"):
        encoder.save(tmp_path / "pruned.safetensors")
    prune.remove(conv, "weight")
    encoder.save(tmp_path / "pruned.safetensors")
    loaded = auricle.load(tmp_path / "pruned.safetensors")
    assert furthest(outputs_of(loaded), outputs_of(encoder)) == 0.0
