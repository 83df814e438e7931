from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.nn import attention as module
from auricle.nn.attention import Alibi, AlibiConfig, alibi_slopes, attend, attend_packed
from auricle.nn.batch import Layout


@pytest.mark.parametrize("kind", ["all", "seen", "bias"])
@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)]
)
def test_it_is_the_formula(dtype: torch.dtype, atol: float, kind: str) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 9, 4).to(dtype) for _ in range(3))
    scores = query.double() @ key.double().transpose(2, 3) / 2
    mask = None
    if kind == "seen":
        mask = torch.rand(2, 1, 1, 9) < 0.7
        scores = scores.masked_fill(~mask, -torch.inf)
    elif kind == "bias":
        mask = torch.randn(2, 3, 9, 9).to(dtype)
        scores = scores + mask.double()
    expected = F.softmax(scores, dim=3) @ value.double()
    output = attend(query, key, value, mask)
    assert output.dtype == dtype
    assert torch.allclose(output.double(), expected, atol=atol, rtol=atol)


@pytest.mark.parametrize(
    ("width", "dtype", "is_copied"),
    [(1024, torch.float32, True), (1024, torch.bfloat16, True), (2048, torch.float32, True),
     (768, torch.float32, False), (512, torch.float32, False)],
)  # fmt: skip
def test_frames_that_push_each_other_out_of_the_cache_are_copied(
    width: int, dtype: torch.dtype, is_copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    shape = (1, 6, 4, width // 4)
    parts = [torch.randn(shape).to(dtype).transpose(1, 2).requires_grad_() for _ in range(3)]
    seen: list[bool] = []
    kernel = F.scaled_dot_product_attention

    def watched(*arguments: Any) -> Tensor:
        seen.extend(one.is_contiguous() for one in arguments[:3])
        return kernel(*arguments)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    expected = attend(*parts)
    assert not any(seen), "training keeps what it has"
    seen.clear()
    with torch.no_grad():
        assert torch.equal(attend(*parts), expected)
    assert seen == [is_copied] * 3


def packed_parts(lengths: list[int], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, 2, sum(lengths), 8).to(dtype) for _ in range(3)]


@pytest.mark.parametrize("lengths", [[5, 1, 9], [7]])
def test_packed_utterances_attend_to_themselves(lengths: list[int]) -> None:
    query, key, value = packed_parts(lengths)
    layout = Layout(lengths, is_packed=True)
    context = attend_packed(query, key, value, layout)
    for one in layout.slices:
        alone = attend(query[:, :, one], key[:, :, one], value[:, :, one])
        assert torch.equal(context[:, :, one], alone)


def of_variable_length(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, ends: Tensor, *longest: int
) -> Tensor:
    """What torch's kernel does, by its documentation: (N, H, D) with boundaries (B + 1,)."""
    assert starts is ends
    assert starts.dtype == torch.int32
    assert longest == (int(starts.diff().max()),) * 2
    pieces = []
    for first, last in itertools.pairwise(starts.tolist()):
        rows = [part[first:last].transpose(0, 1) for part in (query, key, value)]
        pieces.append(F.scaled_dot_product_attention(*rows).transpose(0, 1))
    return torch.cat(pieces)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A stand-in for torch's kernel, which runs on GPUs alone."""
    stand_in = SimpleNamespace(varlen_attn=of_variable_length)
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", stand_in)
    module._varlen_is_right.cache_clear()
    yield stand_in
    module._varlen_is_right.cache_clear()


def test_the_kernel_of_variable_length_is_given_what_it_takes(
    kernel: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = [5, 1, 9]
    query, key, value = packed_parts(lengths)
    expected = attend_packed(query, key, value, Layout(lengths, is_packed=True))
    monkeypatch.setattr(module, "_has_varlen", lambda _: True)
    assert module._varlen_is_right(torch.device("cpu"), torch.bfloat16, 64)
    context = attend_packed(query, key, value, Layout(lengths, is_packed=True))
    assert context.shape == expected.shape
    assert torch.allclose(context, expected, atol=1e-6)


def wrong(query: Tensor, *rest: Any) -> Tensor:
    return query


def other_arguments(query: Tensor) -> Tensor:
    return query


@pytest.mark.parametrize("broken", [wrong, other_arguments, None])
def test_a_kernel_that_is_wrong_or_missing_is_not_used(
    kernel: SimpleNamespace, broken: object
) -> None:
    if broken is None:
        del kernel.varlen_attn
    else:
        kernel.varlen_attn = broken
    assert not module._varlen_is_right(torch.device("cpu"), torch.bfloat16, 64)


def test_torch_s_own_kernel_is_not_for_the_cpu() -> None:
    module._varlen_is_right.cache_clear()
    assert not module._varlen_is_right(torch.device("cpu"), torch.bfloat16, 64)
    assert not module._has_varlen(packed_parts([3, 4], torch.bfloat16)[0])


def test_slopes_of_linear_biases() -> None:
    assert alibi_slopes(1) == (2**-8,)
    assert alibi_slopes(8) == tuple(2.0**-power for power in range(1, 9))
    # Every second one of 16 heads' slopes follows the 8 of 8 heads.
    expected = [2.0**-power for power in range(1, 9)] + [2.0 ** -(0.5 + k) for k in range(4)]
    assert alibi_slopes(12) == pytest.approx(expected)
    assert len(alibi_slopes(13)) == 13


def test_a_linear_bias_falls_with_distance() -> None:
    alibi = Alibi(AlibiConfig(num_heads=2, per_layer=True), num_layers=2, num_heads=3)
    with torch.no_grad():
        alibi.scale.copy_(torch.tensor([[1.0, 2.0], [-1.0, 3.0]]).view(2, 1, 2, 1, 1))
        biases = [alibi(4, layer).flip(1) for layer in (0, 1)]
    distance = (torch.arange(4)[:, None] - torch.arange(4)).abs()
    slopes = alibi_slopes(2)
    factors = [(slopes[0], 2 * slopes[1], 0.0), (0.0, 3 * slopes[1], 0.0)]
    for bias, factor in zip(biases, factors, strict=True):
        assert torch.allclose(bias, -torch.tensor(factor)[:, None, None] * distance)
