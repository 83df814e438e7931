"""Shapes that docstrings state, such as (B, T, D), hold in every call: a light jaxtyping.

A docstring states the shape of an argument after its name, `x` (B, C, T), or in its entry of
`Args:`, and that of the result first in its summary, `Returns:` or `Yields:`. A letter has
one size within a call, as has `x'` beside `x`; `D / H` is checked once D and H are known.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import importlib
import inspect
import operator
import pkgutil
import re
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

import auricle
from auricle.audio.inputs import sample_paths
from auricle.catalogue.family import FAMILIES, find_family
from auricle.nn import conv_stack
from auricle.nn.batch import Batch
from auricle.nn.cpu import policy
from auricle.nn.cpu.policy import reference_kernels
from golden_cases import encoder_names, family, shared_encoder

PACKAGES = tuple(
    f"auricle.{name}" for name in ("frontends", "inference", "models", "nn", "objectives")
)
MIN_FUNCTIONS, MIN_SHARE_CHECKED, MIN_CHECKS = 200, 0.8, 20_000
"""Floors: functions whose docstrings state shapes, share of them that is checked, and checks."""

OTHER_MODULES = ("modified_cpc", "npc_bottleneck", "pase_plus", "tera_fbank", "vq_wav2vec_gumbel", "vq_wav2vec_kmeans", "wav2vec2_base", "wav2vec2_large_lv60")  # fmt: skip
"""Encoders with modules that the one of their family that stands last may lack."""
STREAMING = {"apc", "cpc", "vq_apc", "vq_wav2vec", "wav2vec"}
TRAINED = {stem for stem, family in FAMILIES.items() if family.objective is not None}

SHAPE = re.compile(r"\(([^()`]*)\)")
SYMBOL = re.compile(r"[A-Za-z]\w*'?")
PRIME = "_prime"
"""What Python reads in place of an apostrophe."""

Shape = tuple[str, ...]


def parse_shape(inside: str) -> Shape | None:
    """The sizes in `inside`, what stands between parentheses; None where that is no shape."""
    dims = tuple(dim.strip() for dim in inside.split(","))
    if len(dims) < 2:
        return None
    dims = dims if dims[-1] else dims[:-1]  # (B,)
    is_shape = all(re.fullmatch(r"[A-Za-z0-9_' +*/-]+|\.\.\.", dim) for dim in dims)
    return dims if is_shape and any(re.search(r"\b[A-Z]\b", dim) for dim in dims) else None


@dataclasses.dataclass(frozen=True)
class Stated:
    """The shapes that a docstring states: of each argument, and of the parts of the result.

    Each is a list of alternatives.
    """

    arguments: dict[str, list[Shape]]
    result: list[list[Shape]]


def stated_shapes(docstring: str, parameters: list[str]) -> Stated:
    entries: dict[str, str] = {}
    key = section = ""
    for line in inspect.cleandoc(docstring).splitlines():
        if line and not line.startswith(" "):
            key = section = line if line.endswith(":") else ""
        entry = re.match(r" {4}(\w+): ", line) if section == "Args:" else None
        if entry:
            key = f"Args:{entry[1]}"
        entries[key] = f"{entries.get(key, '')} {line.strip()}"
    arguments: dict[str, list[Shape]] = {}
    results: dict[str, list[list[Shape]]] = {"": [], "Returns:": []}
    for key, text in entries.items():
        for start, shapes, name in mentioned(text, parameters):
            is_first_clause = not re.search(r"[`.]", text[:start])
            if key.startswith("Args:") and is_first_clause:
                arguments.setdefault(key.removeprefix("Args:"), shapes)
            elif key == "" and name:
                arguments.setdefault(name, shapes)
            elif key in ("", "Returns:", "Yields:") and is_first_clause:
                results["Returns:" if key else ""].append(shapes)
    arguments = {name: shapes for name, shapes in arguments.items() if name in parameters}
    return Stated(arguments, results["Returns:"] or results[""])


def mentioned(text: str, parameters: list[str]) -> Iterator[tuple[int, list[Shape], str | None]]:
    """Each shape in `text` with its alternatives ("or packed (1, N, D)"): where, and of what."""
    found: list[tuple[int, list[Shape], str | None]] = []
    end = 0
    for match in SHAPE.finditer(text):
        shape = parse_shape(match[1])
        if shape is None:
            continue
        if found and re.fullmatch(r",? or (\w+ )?", text[end : match.start()]):
            found[-1][1].append(shape)
        else:
            word = re.search(r"(`?)(\w+)\1 $", text[: match.start()])
            name = word[2] if word and word[2] in parameters else None
            found.append((match.start(), [shape], name))
        end = match.end()
    yield from found


class Sizes:
    """Sizes of the symbols of one call."""

    def __init__(self, known: dict[str, int]) -> None:
        self.known = known

    def reason_against(self, shapes: list[Shape], tensor: Tensor) -> str | None:
        """Why `tensor` has none of the shapes; the first that it has binds its symbols."""
        reasons = []
        for shape in shapes:
            known = dict(self.known)
            reason = reason_against(shape, tuple(tensor.shape), known)
            if reason is None:
                self.known = known
                return None
            reasons.append(reason)
        return " and ".join(reasons)


def reason_against(shape: Shape, sizes: tuple[int, ...], known: dict[str, int]) -> str | None:
    dims, matched = shape, sizes
    if shape[-1] == "...":
        dims, matched = shape[:-1], sizes[: len(shape) - 1]
    elif shape[0] == "...":
        dims = shape[1:]
        matched = sizes[len(sizes) - len(dims) :] if len(sizes) >= len(dims) else sizes
    if len(matched) != len(dims):
        return f"{sizes} is not {shape}"
    for dim, size in zip(dims, matched, strict=True):
        expected = evaluated(dim, known)
        if expected is None and SYMBOL.fullmatch(dim):
            known[dim] = size
        elif expected is not None and expected != size:
            return f"{sizes} is not {shape} with {dim} = {expected}"
    return None


def evaluated(dim: str, known: dict[str, int]) -> int | None:
    """The size that `dim` has, a product where it is "2 B"; None where that is not known."""
    tree = _parsed(dim)
    return None if tree is None else _computed(tree, known)


@functools.cache
def _parsed(dim: str) -> ast.expr | None:
    """The formula of a size; None for words."""
    text = re.sub(r"^(\w+) ([A-Za-z]\w*)$", r"\1 * \2", dim).replace(" / ", " // ")
    try:
        return ast.parse(text.replace("'", PRIME), mode="eval").body
    except SyntaxError:
        return None


OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def _computed(node: ast.expr, names: dict[str, int]) -> int | None:
    """The value of sums, products and quotients of known sizes; None for all else."""
    match node:
        case ast.Constant(value=int() as value):
            return value
        case ast.Name(id=name):
            return names.get(name.replace(PRIME, "'"))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            first, second = _computed(left, names), _computed(right, names)
            if first is None or second is None:
                return None
            return OPERATORS[type(op)](first, second)
    return None


class Checker:
    """Wraps functions whose docstrings state shapes; counts what it checks, and notes errors."""

    def __init__(self) -> None:
        self.stated: set[str] = set()
        self.checks: Counter[str] = Counter()
        self.errors: dict[str, str] = {}

    def wrapped(self, function: Callable[..., Any]) -> Callable[..., Any] | None:
        """`function` with checks; None where its docstring, or what it overrides, states none."""
        signature = inspect.signature(function)
        stated = stated_shapes(inspect.getdoc(function) or "", [*signature.parameters])
        if not (stated.arguments or stated.result):
            return None
        name = f"{function.__module__}.{function.__qualname__}"
        self.stated.add(name)

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            bound = signature.bind(*args, **options)
            bound.apply_defaults()
            arguments = bound.arguments
            sizes = Sizes({key: one for key, one in arguments.items() if type(one) is int})
            for key, shapes in stated.arguments.items():
                self._check(f"{name}: {key}", sizes, shapes, arguments[key])
            output = function(*args, **options)
            if isinstance(output, types.GeneratorType):
                return each(output, sizes)
            self._check_result(name, sizes, stated.result, output)
            return output

        def each(outputs: Iterator[Any], sizes: Sizes) -> Iterator[Any]:
            for output in outputs:
                self._check_result(name, Sizes(sizes.known), stated.result, output)
                yield output

        return call

    def _check_result(
        self, name: str, sizes: Sizes, stated: list[list[Shape]], output: Any
    ) -> None:
        parts = output if isinstance(output, tuple) else (output,)
        parts = tuple(part for part in parts if not isinstance(part, str))  # a layer's name
        # Where fewer shapes are stated than there are parts, the first is the first part's.
        for part, shapes in zip(parts, stated, strict=False):
            self._check(f"{name}: result", sizes, shapes, part)

    def _check(self, what: str, sizes: Sizes, shapes: list[Shape], value: Any) -> None:
        if isinstance(value, Batch):
            value = value.values
        is_list = isinstance(value, list | tuple)
        for tensor in value if is_list else [value]:
            if isinstance(tensor, Tensor):
                self.checks[what.partition(":")[0]] += 1
                # Tensors of a list have lengths of their own, as those of utterances are.
                own = {key: size for key, size in sizes.known.items() if key not in ("S", "T")}
                reason = (Sizes(own) if is_list else sizes).reason_against(shapes, tensor)
                if reason is not None:
                    self.errors.setdefault(what, reason)


def library_modules() -> list[types.ModuleType]:
    packages = [importlib.import_module(package) for package in PACKAGES]
    inner = [
        importlib.import_module(found.name)
        for package in packages
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    return [*packages, *inner]


def install(checker: Checker, patches: pytest.MonkeyPatch) -> None:
    """Put the checks into the place of the functions, wherever those were imported to."""
    wrappers: dict[Any, Any] = {}
    for module in library_modules():
        for value in vars(module).values():
            if getattr(value, "__module__", None) != module.__name__:
                continue
            if isinstance(value, types.FunctionType):
                wrappers[value] = checker.wrapped(value)
            elif isinstance(value, type):
                for name, part in [*vars(value).items()]:
                    if isinstance(part, types.FunctionType) and (found := checker.wrapped(part)):
                        patches.setattr(value, name, found)
    for module_name, module in [*sys.modules.items()]:
        if module_name.partition(".")[0] == auricle.__name__:
            for name, value in [*vars(module).items()]:
                if isinstance(value, types.FunctionType) and wrappers.get(value):
                    patches.setattr(module, name, wrappers[value])


def use(name: str, speech: Tensor) -> None:
    """Run an encoder in every way: alone, in batches, padded, in chunks, as a stream, with codes."""
    encoder = shared_encoder(name)
    wavs = [speech[:6_400], speech[: encoder.min_samples], speech[9_000:12_345]]
    lengths = torch.tensor([len(wav) for wav in wavs])
    waveforms = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    with torch.inference_mode():
        encoder(wavs[:1])
        # Frames of features are few, and those of convolutions over samples many.
        chunk_bytes = 3_000 if hasattr(encoder.config, "features") else 400_000
        for way in (nullcontext(), reference_kernels(), chunks_of(chunk_bytes)):
            with way:
                encoder.layers(wavs)
                if encoder.codes_layer is not None:
                    encoder.codes(wavs)
        encoder.forward_padded(waveforms, lengths)
        if family(name) in STREAMING:
            for normalisation in ("running", encoder.stream_statistics(wavs)):
                stream = encoder.stream(normalisation=normalisation)
                stream.push(speech[:6_400])
                stream.finish()


@contextmanager
def chunks_of(num_bytes: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(policy, "MAX_CHUNK_BYTES", num_bytes)
        patches.setattr(conv_stack, "HELD_BYTES", 0)
        yield


def train(name: str, speech: Tensor) -> None:
    """A step of the family's objective."""
    kind = find_family(family(name)).objective_type()
    objective = kind(copy.deepcopy(shared_encoder(name)), kind.config_type())
    objective.train()
    generator = torch.Generator().manual_seed(0)
    longest = max(objective.min_samples, 9_000) + 1_000
    waveforms = speech[: 2 * longest].view(2, -1).clone()
    waveforms[1, longest - 1_000 :] = 0.0
    lengths = [longest, longest - 1_000]
    objective(waveforms, lengths, step=0, generator=generator).value.backward()


def test_a_wrong_shape_is_found() -> None:
    def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Output (B, N) of `x` (B, K).

        Args:
            weight: Matrix (K, N) or rows (K, N, 1).
            bias: (2 N,).
        """
        return x @ weight if bias is None else x

    checker = Checker()
    call = checker.wrapped(product)
    assert call is not None
    x, weight = torch.zeros(4, 3), torch.zeros(3, 2)
    call(x, weight)
    assert not checker.errors
    assert checker.checks.total() == 3
    call(x, weight, torch.zeros(5))
    name = f"{product.__module__}.{product.__qualname__}"
    assert checker.errors.keys() == {f"{name}: bias", f"{name}: result"}


def test_every_stated_shape_holds() -> None:
    samples, _ = soundfile.read(sample_paths()[0], dtype="float32")
    speech = torch.from_numpy(samples)
    by_family = {family(name): name for name in encoder_names()}
    checker = Checker()
    with pytest.MonkeyPatch.context() as patches:
        install(checker, patches)
        for name in dict.fromkeys((*by_family.values(), *OTHER_MODULES)):
            use(name, speech)
        for stem, name in by_family.items():
            if stem in TRAINED:
                train(name, speech)
    assert not checker.errors
    assert len(checker.stated) >= MIN_FUNCTIONS
    assert len(checker.checks) >= MIN_SHARE_CHECKED * len(checker.stated)
    assert checker.checks.total() >= MIN_CHECKS
