"""The golden cases: original checkpoints and what their reference implementation gives."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import auricle
from auricle.catalogue.family import FAMILIES
from auricle.models.base import Encoder
from auricle.nn.cpu.policy import reference_kernels

FOLDER = Path(__file__).parent / "golden" / "cases"
BATCH_LIMIT = 1e-4
"""Largest deviation of a batched from a lone representation, in standard deviations."""


@dataclasses.dataclass(frozen=True)
class GoldenCase:
    """One folder of `golden/cases`."""

    name: str

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @cached_property
    def facts(self) -> dict[str, object]:
        facts: dict[str, object] = json.loads((self.folder / "case.json").read_text())
        return facts

    @property
    def family(self) -> str:
        return str(self.facts["family"])

    @property
    def checkpoints(self) -> list[Path]:
        also = self.facts.get("also", [])
        assert isinstance(also, list)
        return [self.folder / str(name) for name in (self.facts["checkpoint"], *also)]

    @property
    def layers(self) -> list[str]:
        layers = self.facts["layers"]
        assert isinstance(layers, list)
        return layers

    @property
    def limit(self) -> float:
        """Largest deviation from the reference, in standard deviations of the reference."""
        return 3e-4 if FAMILIES[self.family].input == "mel" else 1e-4

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return load_file(self.folder / "golden.safetensors")

    @cached_property
    def wavs(self) -> dict[int, Tensor]:
        """Waveform by its number."""
        return {
            int(name.split(".")[1]): tensor
            for name, tensor in self.tensors.items()
            if name.startswith("wav.")
        }

    def references(self, number: int) -> dict[str | None, Tensor]:
        """Reference output of waveform `number` by layer name; None is the default layer."""
        references: dict[str | None, Tensor] = {None: self.tensors[f"out.{number}"]}
        for index, layer in enumerate(self.layers):
            if f"hidden.{index}.{number}" in self.tensors:
                references[layer] = self.tensors[f"hidden.{index}.{number}"]
        if f"codewords.{number}" in self.tensors:
            references["quantized"] = self.tensors[f"codewords.{number}"]
        return references

    def load(self, checkpoint: Path | None = None) -> Encoder:
        return auricle.load(checkpoint or self.checkpoints[0])

    def deviation(self, encoder: Encoder) -> float:
        """Worst deviation of any layer, each waveform alone; infinite where frames differ."""
        return max(
            value
            for number, wav in self.wavs.items()
            for _, value in self._deviations(encoder, [(number, wav)])
        )

    def red_layer(
        self, encoder: Encoder, *, padded: bool = False, guess: str | None = None
    ) -> str | None:
        """A layer that deviates by more than the limit in some waveform; None if none does.

        Each waveform is alone, or else in a padded batch on torch's own kernels. What costs least
        is encoded first, and the first excess ends the search.

        Args:
            guess: Layer to compute first, without those after it.
        """
        first, *others = sorted(self.wavs.items(), key=lambda item: len(item[1]))
        if padded:
            longer = torch.cat([first[1], first[1][:1_000]])
            batches = [[first, (None, longer)], [first, *others]]
        else:
            batches = [[item] for item in (first, *others)]
        for batch in batches:
            for layer in (None,) if guess is None else (guess, None):
                with reference_kernels() if padded else nullcontext():
                    for name, value in self._deviations(encoder, batch, layer):
                        if value > self.limit:
                            return name
        return None

    def _deviations(
        self, encoder: Encoder, batch: list[tuple[int | None, Tensor]], layer: str | None = None
    ) -> Iterator[tuple[str, float]]:
        """Layers, the first ones first, and their deviations in a batch, which is encoded once.

        Args:
            batch: Waveforms and their numbers; None for one without a reference.
            layer: The only layer to compute; None for all.
        """
        names = [info.name for info in encoder.layer_infos]
        references = [
            (names.index(name or encoder.default_layer), row, reference)
            for row, (number, _) in enumerate(batch)
            if number is not None
            for name, reference in self.references(number).items()
            if layer in (None, name or encoder.default_layer)
        ]
        references.sort(key=lambda reference: reference[:2])
        wanted = [names[index] for index in dict.fromkeys(index for index, *_ in references)]
        with torch.inference_mode():
            outputs = encoder.layers([wav for _, wav in batch], wanted)
        for index, row, reference in references:
            yield names[index], deviation(outputs[row][names[index]], reference)

    def codes_differ(self, encoder: Encoder) -> bool:
        return any(
            not torch.equal(encoder.codes([wav])[0], self.tensors[f"codeids.{number}"])
            for number, wav in self.wavs.items()
            if f"codeids.{number}" in self.tensors
        )


def deviation(output: Tensor, reference: Tensor) -> float:
    """Largest difference in standard deviations of the reference; infinite where shapes differ.

    Where the reference is constant nothing but equality will do.
    """
    if output.shape != reference.shape:
        return float("inf")
    difference = float((output.double() - reference.double()).abs().max())
    if difference == 0.0:
        return 0.0
    spread = float(reference.double().std()) if reference.numel() > 1 else 0.0
    # Not a number compares as infinite, never as small.
    ratio = difference / spread if spread > 0 else float("inf")
    return ratio if ratio == ratio else float("inf")


@lru_cache
def golden_cases() -> tuple[GoldenCase, ...]:
    """Every case, in order of name."""
    return tuple(GoldenCase(path.name) for path in sorted(FOLDER.iterdir()))


@lru_cache
def shared_encoder(name: str) -> Encoder:
    """An encoder that tests read but never change: a golden case's, or a baseline by name."""
    case = GoldenCase(name)
    return case.load() if case.folder.exists() else auricle.load(name)


def encoder_names() -> list[str]:
    """What the contract suite runs over: every golden case and every baseline."""
    return [*(case.name for case in golden_cases()), *FAMILIES["baseline"].sizes]


def each_architecture(names: Iterable[str]) -> list[Any]:
    """Names as parameters of a test, of which `make test` takes the first of each architecture.

    Checkpoints in several formats, and encoders of other names, often share one.
    """
    return _first_of_each(names, lambda encoder: _architecture(msgspec.to_builtins(encoder.config)))


def each_set_of_modules(names: Iterable[str]) -> list[Any]:
    """As `each_architecture`, of which several have the same kinds of modules."""
    return _first_of_each(
        names,
        lambda encoder: frozenset(type(part) for part in encoder.modules() if part != encoder),
    )


def _first_of_each(names: Iterable[str], kind: Callable[[Encoder], object]) -> list[Any]:
    kinds = {name: kind(shared_encoder(name)) for name in names}
    firsts = {one: name for name, one in reversed(kinds.items())}.values()
    return [
        pytest.param(name, marks=[] if name in firsts else [pytest.mark.whole]) for name in kinds
    ]


def _architecture(options: object) -> object:
    """Options of an encoder but for sizes and rates."""
    if isinstance(options, dict):
        kept = {
            name: _architecture(value)
            for name, value in options.items()
            if not isinstance(value, int | float) or isinstance(value, bool)
        }
        return tuple(kept.items())
    return None if isinstance(options, list | tuple) else options


def family(name: str) -> str:
    """The family of one of `encoder_names`, without loading it."""
    case = GoldenCase(name)
    return case.family if case.folder.exists() else "baseline"


def uneven_encoder(config: Any) -> Encoder:
    """An encoder whose norms and biases have an effect, unlike the initial ones."""
    encoder = auricle.build(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in encoder.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand(tensor.shape, generator=generator)
    return encoder


def gives_the_same(first: Encoder, second: Encoder) -> bool:
    """Whether two encoders give equal numbers in every layer."""
    wav = 0.1 * torch.randn(4_000, generator=torch.Generator().manual_seed(1)) + 0.02
    with torch.inference_mode():
        return all(map(torch.equal, *(one.layers([wav])[0].values() for one in (first, second))))


def without_dropout(encoder: Encoder) -> Encoder:
    """A copy of an encoder that leaves nothing out in training."""
    encoder = copy.deepcopy(encoder)
    for part in encoder.modules():
        for name, value in list(vars(part).items()):
            if "drop" in name and isinstance(value, float):
                setattr(part, name, 0.0)
            elif isinstance(value, msgspec.Struct):
                setattr(part, name, _zero_dropout(value))
    return encoder


def _zero_dropout(config: Any) -> Any:
    changes: dict[str, Any] = {}
    for name in config.__struct_fields__:
        value = getattr(config, name)
        if "drop" in name and isinstance(value, float):
            changes[name] = 0.0
        elif isinstance(value, msgspec.Struct):
            changes[name] = _zero_dropout(value)
    return msgspec.structs.replace(config, **changes)
