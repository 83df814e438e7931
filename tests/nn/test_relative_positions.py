from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from auricle.nn import relative_positions
from auricle.nn.batch import Layout, pad_rows
from auricle.nn.cpu import policy
from auricle.nn.cpu.policy import reference_kernels
from auricle.nn.relative_positions import DistanceConfig, RelativeAttention, along_diagonals

WIDTH, HEADS = 24, 3
SIZE = WIDTH // HEADS
CONFIGS = (
    DistanceConfig(left=3, right=2),
    DistanceConfig(left=0, right=0),
    DistanceConfig(left=40, right=60),
    DistanceConfig(kind="sinusoidal"),
    DistanceConfig(kind="rotary", rotary_base=100),
    DistanceConfig(kind="none"),
)
every_kind = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.kind}_{c.left}")


def attention_of(config: DistanceConfig) -> RelativeAttention:
    torch.manual_seed(0)
    module = RelativeAttention(WIDTH, num_heads=HEADS, dropout=0.0, positions=config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.4 * torch.randn_like(parameter))
    return module


def expected(module: RelativeAttention, x: Tensor) -> Tensor:
    """Output (T, D) for one utterance `x` (T, D), a pair of frames at a time."""
    config = module.positions
    inputs = x
    if config.kind == "rotary":
        inputs = x.clone()
        for frame in range(len(x)):
            for column in range(WIDTH):
                head, place = divmod(column, SIZE)
                half = SIZE // 2
                angle = frame * config.rotary_base ** (-2 * (place % half) / SIZE)
                partner = head * SIZE + (place + half) % SIZE
                sign = -1 if place < half else 1
                inputs[frame, column] = x[frame, column] * math.cos(angle) + sign * x[
                    frame, partner
                ] * math.sin(angle)
    query, key, value = module.query(inputs), module.key(inputs), module.value(x)
    output = torch.zeros_like(x)
    for head in range(HEADS):
        part = slice(head * SIZE, (head + 1) * SIZE)
        for i in range(len(x)):
            scores = torch.zeros(len(x))
            for j in range(len(x)):
                q, k = query[i, part], key[j, part]
                if config.kind == "key_table":
                    distance = min(max(j - i, -config.left), config.right) + config.left
                    scores[j] = q @ (k + module.table.weight[distance])
                elif config.kind == "sinusoidal":
                    angles = (i - j) * 10_000.0 ** (-torch.arange(0, WIDTH, 2) / WIDTH)
                    wave = torch.stack([angles.sin(), angles.cos()], 1).flatten()
                    position = (module.position.weight @ wave)[part]
                    scores[j] = (q + module.content_bias[head]) @ k
                    scores[j] += (q + module.position_bias[head]) @ position
                else:
                    scores[j] = q @ k
            output[i, part] = (scores / SIZE**0.5).softmax(0) @ value[:, part]
    result: Tensor = module.out(output)
    return result


def attended(module: RelativeAttention, rows: list[Tensor], *, is_packed: bool) -> list[Tensor]:
    padded = pad_rows(rows)
    layout = Layout([len(row) for row in rows], is_packed=is_packed)
    table = module.positions.table(
        padded.shape[1], width=WIDTH, head_size=SIZE, like=module.query.weight
    )
    x = layout.pack(padded) if is_packed else padded
    return layout.rows(module(x, layout, table))


@every_kind
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("is_long", [False, True])
def test_every_pair_of_frames_is_the_formula_s(
    config: DistanceConfig, is_packed: bool, is_long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_long:  # heads by themselves, and few queries at once
        monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 1_000)
        monkeypatch.setattr(relative_positions, "MAX_SCORE_ELEMENTS", 400)
    module = attention_of(config)
    rows = [torch.randn(length, WIDTH) for length in (13, 1, 6)]
    for way in (nullcontext, reference_kernels):
        with torch.no_grad(), way():
            outputs = attended(module, rows, is_packed=is_packed)
            for output, row in zip(outputs, rows, strict=True):
                torch.testing.assert_close(output, expected(module, row), rtol=1e-4, atol=2e-5)


@every_kind
def test_gradients_reach_every_weight(config: DistanceConfig) -> None:
    module = attention_of(config).train()
    rows = [torch.randn(length, WIDTH) for length in (5, 3)]
    outputs = attended(module, rows, is_packed=False)
    sum(output.square().sum() for output in outputs).backward()  # type: ignore[union-attr]
    cancelled = {"key.bias"} | ({"table.weight"} if config.left == config.right else set())
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert name in cancelled or parameter.grad.abs().max() > 1e-4, name


@pytest.mark.parametrize("size", [1, 2, 5])
def test_diagonals_are_a_view(size: int) -> None:
    rows = torch.randn(2, size, 7 + size)
    view = along_diagonals(rows)
    assert view.shape == (2, size, 7)
    assert view.untyped_storage().data_ptr() == rows.untyped_storage().data_ptr()
    for i in range(size):
        for j in range(7):
            assert torch.equal(view[:, i, j], rows[:, i, size - 1 + j - i])


@every_kind
def test_tables_do_not_depend_on_what_is_kept(
    config: DistanceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    like = torch.zeros(1, dtype=torch.float64)
    kept = config.table(37, width=WIDTH, head_size=SIZE, like=like)
    monkeypatch.setattr(relative_positions, "MAX_TABLE_FRAMES", 0)
    fresh = config.table(37, width=WIDTH, head_size=SIZE, like=like)
    assert (kept is None) == (fresh is None) == (config.kind in ("key_table", "none"))
    if kept is not None and fresh is not None:
        assert torch.equal(kept, fresh)
        assert kept.dtype == torch.float64


def test_what_does_not_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="left and right must be 0 or more"):
        DistanceConfig(left=-1)
    with pytest.raises(ValueError, match="rotary_base must be at least 1"):
        DistanceConfig(rotary_base=0)
