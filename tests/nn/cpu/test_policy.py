from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrizations, prune

import auricle
from auricle.nn.conv import Conv1d, Linear
from auricle.nn.cpu import policy


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Conv1d(3, 3, 1)
        self.linear = Linear(3, 3)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(self.conv(x))
        return y


Block.__module__ = "auricle.nn.test"  # as one of the library's own


class Foreign(Linear):
    pass


class Sharded(nn.Parameter):
    pass


def old_weight_norm(block: Block) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(block.linear)


HOOKS: dict[str, Callable[[Block], object]] = {
    "forward hook": lambda block: block.linear.register_forward_hook(lambda *_: None),
    "hook with keywords": lambda block: block.linear.register_forward_hook(
        lambda *_: None, with_kwargs=True
    ),
    "forward pre-hook": lambda block: block.linear.register_forward_pre_hook(lambda *_: None),
    "backward hook": lambda block: block.linear.register_full_backward_hook(lambda *_: None),
    "backward pre-hook": lambda block: block.linear.register_full_backward_pre_hook(
        lambda *_: None
    ),
    "hook of the whole": lambda block: block.register_forward_hook(lambda *_: None),
    "pruning": lambda block: prune.l1_unstructured(block.conv, "weight", amount=0.5),
    "old weight norm": old_weight_norm,
    "forward": lambda block: setattr(block.linear, "forward", lambda x: x),
}

CHANGES: dict[str, Callable[[Block], object]] = {
    **HOOKS,
    "parametrisation": lambda block: parametrizations.weight_norm(block.linear),
    "other class": lambda block: setattr(block, "linear", Foreign(3, 3)),
    "torch's class": lambda block: setattr(block, "linear", nn.Linear(3, 3)),
    "class of its own": lambda block: setattr(block.linear, "__class__", Foreign),
    "other kind of weight": lambda block: setattr(block.conv, "weight", Sharded(torch.ones(3))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_has_been_changed_is_not_bypassed(name: str) -> None:
    block = Block()
    assert policy.may_bypass(block)
    assert policy.first_change(block) is None
    CHANGES[name](block)
    assert not policy.may_bypass(block)
    assert policy.is_hooked(block) == (name in HOOKS)
    with torch.no_grad():
        assert not policy.may_overwrite(block)
    expected = None if name == "hook of the whole" else ("linear", "conv")
    assert policy.first_change(block) in (expected or (None,))


@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook", "full_backward_hook"])
def test_hooks_of_all_modules_are_hooks_of_each(kind: str) -> None:
    block = Block()
    register = getattr(nn.modules.module, f"register_module_{kind}")
    handle = register(lambda *_: None)
    try:
        assert policy.is_hooked(block)
        assert policy.acts(block)
        assert policy.first_change(block) is not None
        assert not policy.may_bypass(block)
    finally:
        handle.remove()
    assert policy.may_bypass(block)


def test_gradients_are_needed_where_something_could_ask_for_them() -> None:
    block, x = Block(), torch.ones(3)
    assert not policy.needs_gradients(block, [x])
    assert policy.needs_gradients(block, [x, x.clone().requires_grad_()])
    block.linear.bias.requires_grad_(True)
    assert policy.needs_gradients(block, [x])
    with torch.no_grad():
        assert not policy.needs_gradients(block, [x])
    block.requires_grad_(False)
    block.linear.scale = torch.ones(3, requires_grad=True)  # a plain attribute
    assert policy.needs_gradients(block, [x])
    block = Block()
    block.linear.register_forward_hook(lambda *_: None)  # which may bring a tensor of its own
    assert policy.needs_gradients(block, [x])


def test_transforms_of_functions_are_traced() -> None:
    x, block = torch.ones(2), Block()
    assert not policy.is_traced()
    assert policy.may_bypass(block)

    def seen(y: Tensor) -> Tensor:
        assert policy.is_traced()
        assert not policy.may_bypass(block)
        assert not policy.infers_on_cpu(y)
        return y.sum()

    with torch.no_grad():
        torch.func.vmap(seen)(torch.ones(2, 3))
        with forward_ad.dual_level():
            seen(x)
    torch.func.grad(seen)(x)


def test_frames_that_a_compiler_watches_are_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = torch._C._dynamo.eval_frame
    monkeypatch.setattr(frames, "get_eval_frame_callback", lambda: print)
    with torch.no_grad():
        assert not policy.infers_on_cpu(torch.ones(1))
        assert not policy.may_bypass(Block())


def test_reference_kernels_are_over_with_their_context() -> None:
    x = torch.ones(1)
    with torch.no_grad():
        assert policy.infers_on_cpu(x)
        with policy.reference_kernels():
            assert not policy.infers_on_cpu(x)
        assert policy.infers_on_cpu(x)
    assert not policy.infers_on_cpu(x)


@pytest.mark.parametrize("name", ["wav2vec2_mini", "tera_mini", "npc_mini"])
def test_a_call_looks_at_each_module_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = auricle.load(name)
    looked_at: list[nn.Module] = []
    is_unchanged = policy._is_unchanged

    def counting(module: nn.Module) -> bool:
        looked_at.append(module)
        return is_unchanged(module)

    monkeypatch.setattr(policy, "_is_unchanged", counting)
    for _ in range(2):
        looked_at.clear()
        with torch.inference_mode():
            encoder([torch.randn(4000), torch.randn(5000)])
        assert len(looked_at) == len({*looked_at}) == len([*encoder.modules()]) - 1
    assert not policy._are_known.get()
