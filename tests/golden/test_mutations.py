"""The golden cases see every weight and every option: a change of one turns them red.

It has to show in each waveform's own output, and in that of a padded batch. Of weights that several
layers have one is changed in both; for others one of the ways is enough. What the gradient of a
padded batch shows need not be changed for it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest
import torch
from torch import Tensor, nn

from auricle.checkpoints.checkpoint import Checkpoint
from auricle.errors import AuricleError
from auricle.models.base import Encoder
from auricle.nn.conv import SincConv
from auricle.nn.conv_features import ConvExtractor
from auricle.nn.cpu.policy import infers_on_cpu
from auricle.nn.waveform_extractor import WaveformExtractor
from golden_cases import GoldenCase, each_architecture, golden_cases

CASES = golden_cases()
every_case = pytest.mark.parametrize("name", each_architecture(case.name for case in CASES))

PARTS = [(0.618 * step) % 1 for step in range(24)]
"""Where in a tensor an element is changed, until one shows."""

UNSEEN_WEIGHTS = (
    "attention.key.bias",  # adds the same to every score of a query: softmax drops it
    "attention.k_proj.bias",  # the same
    "codebooks.*.vectors.weight",  # representations are taken before the quantiser
    "num_batches_tracked",  # a counter of training steps
)
UNSEEN_OPTIONS = {
    "commitment", "init_std", "gumbel_temperature", "num_future",  # for training, as all dropout
    "blackman_coeff", "high_hz",  # other windows; its mutation names the same edge
    "num_mfcc", "num_mels",  # only where the kind of feature has them
    "delta_window", "subtract_mean",  # only with deltas; undone by mean normalisation
    # what speech does not show: quiet bands, rounding (tests/frontends/test_fbank_stacked.py)
    "sample_scale", "double_precision", "epsilon_in_variance",
}  # fmt: skip


def rebuilt(encoder: Encoder, config: Any, weights: dict[str, Tensor]) -> Encoder:
    return Checkpoint(family=encoder.family, config=config, weights=weights).build()


def is_seen(name: str) -> bool:
    return not any(all(part in name for part in pattern.split("*")) for pattern in UNSEEN_WEIGHTS)


@every_case
def test_every_weight_is_seen(name: str, is_whole: bool) -> None:
    case = GoldenCase(name)
    encoder = case.load()
    ways = Ways(case)
    weights = {key: weight for key, weight in encoder.state_dict().items() if is_seen(key)}
    of_layers = {re.sub(r"\.\d+\.", ".N.", key): key for key in weights}  # the last of each kind
    both = set(weights) if is_whole else {*of_layers.values()}
    felt = set() if is_whole else felt_in_a_batch(case, encoder)
    changed = {key: weight for key, weight in weights.items() if key in both or key not in felt}
    with torch.no_grad(), remembered_convolutions():
        blind = [
            key
            for key, weight in changed.items()
            if not any(turns_red(ways, encoder, weight, part, key in both - felt) for part in PARTS)
        ]
    assert not blind
    assert not any(Ways(case).are_red(encoder))  # all is as it was


def felt_in_a_batch(case: GoldenCase, encoder: Encoder) -> set[str]:
    """Weights whose change by one is, to first order, an excess in a padded batch.

    The gradient of a mean of outputs with random signs, in standard deviations of the references,
    is at most the largest change of an output. Training computes as other devices do.
    """
    generator = torch.Generator().manual_seed(0)
    wavs = list(case.wavs.values())
    signed = []
    for number, output in zip(case.wavs, encoder.layers(wavs), strict=True):
        for layer, reference in case.references(number).items():
            ours = output[layer or encoder.default_layer]
            signs = torch.randint(0, 2, ours.shape, generator=generator) * 2 - 1
            spread = reference.double().std()
            if ours.requires_grad and spread > 0:
                signed.append((signs * ours.double() / spread).mean())
    torch.stack(signed).mean().backward()
    felt = {
        name
        for name, parameter in encoder.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > case.limit
    }
    encoder.zero_grad()
    return felt


@contextmanager
def remembered_convolutions() -> Iterator[None]:
    """Convolutions over samples are computed again only where input or weights have changed.

    They cost most, and most mutations are of what follows them. For a single encoder.
    """
    with pytest.MonkeyPatch.context() as patches:
        for kind in (ConvExtractor, SincConv, WaveformExtractor):
            patches.setattr(kind, "forward", remembered(kind.forward))
        yield


def remembered(forward: Callable[..., Any]) -> Callable[..., Any]:
    outputs: dict[object, tuple[list[int], Any]] = {}

    def call(module: nn.Module, x: Tensor, *arguments: object) -> Any:
        key = (infers_on_cpu(x), x.numpy().tobytes(), str(arguments))
        versions = [tensor._version for tensor in (*module.parameters(), *module.buffers())]
        if key not in outputs or outputs[key][0] != versions:
            outputs[key] = versions, forward(module, x, *arguments)
        return copy.deepcopy(outputs[key][1])  # which may be written over

    return call


class Ways:
    """A case, as the CPU infers and as other devices do.

    It begins with the layer in which the last mutation showed, for most weights are of the same.
    """

    def __init__(self, case: GoldenCase) -> None:
        self.case = case
        self._guesses: dict[bool, str | None] = {False: None, True: None}

    def are_red(self, encoder: Encoder, *, both: bool = True) -> Iterator[bool]:
        """Whether the case fails in each way, or in the first."""
        for padded, guess in [*self._guesses.items()][: 1 + both]:
            layer = self.case.red_layer(encoder, padded=padded, guess=guess)
            self._guesses[padded] = layer or guess
            yield layer is not None


def turns_red(ways: Ways, encoder: Encoder, weight: Tensor, part: float, both: bool) -> bool:
    """Whether a change of one element shows. After a dead unit it cannot."""
    original = weight.clone()
    flat = weight.view(-1)
    index = int(part * len(flat))
    flat[index] += 1.0
    red = all(ways.are_red(encoder, both=both))
    if not red and encoder.codes_layer is not None:
        flat[index] += 100.0
        red = ways.case.codes_differ(encoder)
    weight.copy_(original)
    return red


@every_case
def test_every_option_is_seen(name: str) -> None:
    case = GoldenCase(name)
    encoder = case.load()
    seen: dict[str, bool] = {}
    ways = Ways(case)
    with torch.no_grad():
        for path, config in mutated_configs(encoder.config):
            option = path.rpartition(".")[2]
            if option in UNSEEN_OPTIONS or "drop" in option or seen.get(path):
                continue
            if config is None:
                seen[path] = True
                continue
            try:
                mutant = rebuilt(encoder, config, encoder.state_dict())
            except AuricleError:
                seen[path] = True
            else:
                seen[path] = all(ways.are_red(mutant))
    blind = {name for name, is_seen in seen.items() if not is_seen}
    assert blind <= without_effect(encoder.config)


def without_effect(config: Any) -> set[str]:
    """Options that other options of the same config switch off."""
    blind = set()
    if not getattr(config, "normalize", True):
        blind.add("normalize_eps")
    if getattr(config, "rnn_dim", 0) is None:
        blind.add("num_rnn_layers")
    if "features" in config.__struct_fields__ and not getattr(config.features, "cmvn", True):
        blind.add("features.cmvn_epsilon")
    if "conformer" in config.__struct_fields__:
        if config.conformer.final_norm == "none" and "subsampling" in config.__struct_fields__:
            blind.add("conformer.layer_norm_eps")
        kind = config.conformer.positions.kind
        if kind != "key_table":
            blind |= {"conformer.positions.left", "conformer.positions.right"}
        if kind != "rotary":
            blind |= {"conformer.positions.rotary_base", "conformer.positions.rotary_rounding"}
    return blind


def mutated_configs(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Configs that differ in one option each, with its name; None where that is refused."""
    for field in msgspec.structs.fields(config):
        value = getattr(config, field.name)
        name = f"{prefix}{field.name}"
        if isinstance(value, msgspec.Struct):
            mutants = list(mutated_configs(value, f"{name}."))
        else:
            mutants = [(name, other) for other in mutated_values(value, field.type)]
        for inner, mutant in mutants:
            if isinstance(value, msgspec.Struct) and mutant is None:
                yield inner, None
                continue
            try:
                yield inner, msgspec.structs.replace(config, **{field.name: mutant})
            except ValueError:
                yield inner, None


def mutated_values(value: Any, kind: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 2 * value]
    if isinstance(value, float):
        return [value * 1.5 + 0.1]
    if isinstance(value, str) or value is None:
        return [choice for choice in literal_choices(kind) if choice != value]
    return []


def literal_choices(kind: Any) -> list[str]:
    """Every text that a type made of Literals allows."""
    if get_origin(kind) is Literal:
        return [choice for choice in get_args(kind) if isinstance(choice, str)]
    return [choice for part in get_args(kind) for choice in literal_choices(part)]
