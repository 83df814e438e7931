from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn.conv import Linear
from auricle.nn.cpu import prepack
from auricle.nn.layers import WAVEFORM_ACTIVATIONS, WaveformActivation


@pytest.fixture(autouse=True)
def _checked_anew() -> Iterator[None]:
    yield
    prepack._is_right.cache_clear()
    prepack.int8_is_right.cache_clear()


@pytest.fixture
def layer() -> Linear:
    torch.manual_seed(0)
    return Linear(12, 7)


def test_this_machine_packs() -> None:
    with torch.no_grad():
        assert prepack.is_packable(torch.zeros(2, 3), torch.zeros(4, 3))
        assert prepack.is_packable(torch.zeros(2, 3).bfloat16(), torch.zeros(4, 3).bfloat16())


@pytest.mark.parametrize("activation", [None, *prepack.FUSED])
@pytest.mark.parametrize("has_bias", [True, False])
def test_it_is_the_product(activation: WaveformActivation | None, has_bias: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(400).as_strided((3, 30, 12), (100, 3, 1))  # rows overlap
    weight, bias = nn.Parameter(torch.randn(7, 12)), torch.randn(7) if has_bias else None
    expected = F.linear(x, weight, bias)
    if activation is not None:
        expected = WAVEFORM_ACTIVATIONS[activation](expected)
    with torch.no_grad():
        output = prepack.linear(prepack.Prepacking(), x, weight, bias, activation)
    assert output.shape == (3, 30, 7)
    assert torch.allclose(output, expected, atol=1e-5)
    assert torch.allclose(
        prepack.linear(prepack.Prepacking(), x, weight, bias, activation), expected, atol=1e-6
    )


def test_gradients_go_by_the_plain_product(layer: Linear) -> None:
    x = torch.randn(3, 12, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, layer.weight.sum(0).expand(3, 12))


@pytest.mark.parametrize(
    "x",
    [torch.zeros(2, 12, dtype=torch.float64), torch.zeros(2, 12, dtype=torch.float16)],
    ids=["float64", "float16"],
)
def test_types_that_are_not_checked_are_not_packed(x: Tensor) -> None:
    with torch.no_grad():
        assert not prepack.is_packable(x, torch.zeros(7, 12, dtype=x.dtype))
        assert not prepack.is_packable(x, torch.zeros(7, 12))


def _step(layer: Linear) -> None:
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer(torch.ones(1, 12)).sum().backward()
    optimiser.step()


def _one_weight(layer: Linear) -> None:
    with torch.no_grad():
        layer.weight[3, 5] += 1.0


def _by_data(layer: Linear) -> None:
    layer.weight.data.mul_(0.5)


def _other_data(layer: Linear) -> None:
    layer.weight.data = torch.zeros(7, 12)


def _load(layer: Linear) -> None:
    layer.load_state_dict(Linear(12, 7).state_dict())


@pytest.mark.parametrize("change", [_step, _one_weight, _by_data, _other_data, _load])
def test_a_weight_that_changes_is_packed_again(layer: Linear, change: object) -> None:
    x = torch.randn(4, 12)
    with torch.no_grad():
        before = layer(x)
    assert callable(change)
    change(layer)
    expected = F.linear(x, layer.weight, layer.bias)
    with torch.no_grad():
        assert torch.allclose(layer(x), expected, atol=1e-5)
    assert not torch.allclose(before, expected, atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 300), (300, 3), (40, 4, 5), (7,), (9000, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_element_changes_unseen(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    owner, weight = prepack.Prepacking(), nn.Parameter(torch.randn(shape, dtype=dtype))

    def made() -> Tensor:
        value: Tensor = owner.cached_from("copy", (weight,), lambda: weight.detach().clone())
        return value

    with torch.no_grad():
        for index in range(0, weight.numel(), 41):
            weight.data.view(-1)[index] *= 1.01
            assert torch.equal(made(), weight)
        rows = weight.data.flatten(1) if weight.dim() > 1 else weight.data.unsqueeze(0)
        rows.copy_(rows.flip(1).clone())  # whose sums are the same
        assert torch.equal(made(), weight)
        before = made()
        with prepack.unchanging():  # compares once, so what this promises has to hold
            assert made() is before
            weight.data.add_(1.0)
            assert made() is before
            weight.mul_(2.0)  # which its version counts
            assert torch.equal(made(), weight)
        weight.data.add_(1.0)
        assert torch.equal(made(), weight)


@pytest.mark.parametrize("shape", [(800, 80), (256, 256), (80, 768), (3500, 18)])
def test_rows_and_columns_change_places_or_signs_with_another_fingerprint(
    shape: tuple[int, int],
) -> None:
    weight = torch.randn(shape)
    before = prepack.fingerprint(weight)
    assert before.nbytes < weight.nbytes  # sums, not a copy
    for index in range(shape[0]):
        weight[index].neg_()
        assert not torch.equal(prepack.fingerprint(weight), before)
        weight[index].neg_()
        other = (index + 1) % shape[0]
        weight[[index, other]] = weight[[other, index]]
        assert not torch.equal(prepack.fingerprint(weight), before)
        weight[[index, other]] = weight[[other, index]]
    for index in range(shape[1] - 1):
        weight[:, [index, index + 1]] = weight[:, [index + 1, index]]
        assert not torch.equal(prepack.fingerprint(weight), before)
        weight[:, [index, index + 1]] = weight[:, [index + 1, index]]
    assert torch.equal(prepack.fingerprint(weight), before)


def test_a_weight_that_is_not_aligned_has_a_fingerprint() -> None:
    weight = torch.randn(80_001)[1:]
    before = prepack.fingerprint(weight)
    weight[70_000] += 1e-3
    assert not torch.equal(prepack.fingerprint(weight), before)


DROPS: dict[str, Callable[[Linear], object]] = {
    "train": lambda layer: layer.train(),
    "eval": lambda layer: nn.Sequential(layer).eval(),
    "to": lambda layer: nn.Sequential(layer).to(torch.bfloat16),
    "half": lambda layer: layer.half(),
    "load_state_dict": lambda layer: nn.Sequential(layer).load_state_dict(
        nn.Sequential(Linear(12, 7)).state_dict()
    ),
}


@pytest.mark.parametrize("name", DROPS)
def test_what_changes_a_module_drops_what_it_keeps(layer: Linear, name: str) -> None:
    with torch.no_grad():
        layer(torch.zeros(1, 12))
    assert layer._prepacked
    DROPS[name](layer)
    assert not layer._prepacked


def test_what_is_kept_goes_with_its_module(layer: Linear) -> None:
    with torch.no_grad():
        layer(torch.zeros(1, 12))
    packed = weakref.ref(next(iter(layer._prepacked.values())))
    copied, pickled = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    assert not copied._prepacked
    assert not pickled._prepacked
    assert list(layer.state_dict()) == ["weight", "bias"]
    layer._prepacked.clear()
    gc.collect()
    assert packed() is None


def test_a_graph_that_is_traced_is_plain(layer: Linear) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have other graphs
        traced = torch.jit.trace(layer, torch.zeros(2, 12))  # type: ignore[no-untyped-call]
    assert "aten::linear" in str(traced.graph)
    assert "mkldnn" not in str(traced.graph)


def test_for_many_rows_nothing_is_kept() -> None:
    layer = Linear(3, 2)
    x = torch.randn(prepack.MANY_ROWS, 3)
    with torch.no_grad():
        output = layer(x)
        assert not layer._prepacked
        assert torch.allclose(output, F.linear(x, layer.weight, layer.bias), atol=1e-6)


def test_of_a_large_encoder_nothing_is_kept(layer: Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 12)
    with torch.no_grad():
        expected = layer(x)
        layer.drop_prepacked()
        monkeypatch.setattr(prepack, "MAX_KEPT_BYTES", 10)
        with prepack.as_large(layer):
            assert torch.allclose(layer(x), expected, atol=1e-6)
        assert not layer._prepacked
        layer(x)
        assert layer._prepacked


def test_a_layer_that_has_packed_is_copied_and_pickled(layer: Linear) -> None:
    x = torch.randn(2, 12)
    with torch.no_grad():
        expected = layer(x)
        assert torch.equal(copy.deepcopy(layer)(x), expected)
        assert torch.equal(pickle.loads(pickle.dumps(layer))(x), expected)
    assert list(layer.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("fault", ["wrong", "gone"])
def test_a_kernel_that_is_wrong_is_not_used(
    layer: Linear, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> Tensor:
        if fault == "gone":
            raise NotImplementedError
        return torch.zeros(33, 17)

    monkeypatch.setattr(prepack, "packed_linear", broken)
    prepack._is_right.cache_clear()
    x = torch.randn(2, 12)
    with torch.no_grad():
        assert not prepack.is_packable(x, layer.weight)
        assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


def test_what_is_made_of_weights_is_made_again_when_one_changes() -> None:
    weights = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    owner, made = prepack.Prepacking(), []

    def make() -> Tensor:
        made.append(1)
        return weights[0] * weights[1]

    with torch.no_grad():
        owner.cached_from("product", weights, make)
        owner.cached_from("product", weights, make)
        assert len(made) == 1
        weights[1].mul_(2.0)
        product = owner.cached_from("product", weights, make)
        assert torch.equal(product, torch.full((3,), 2.0))
    assert owner.cached_from("product", weights, make).requires_grad


def test_this_machine_adds_up_8_bits() -> None:
    assert prepack.int8_is_right()


@pytest.mark.parametrize("fault", ["saturated", "shifted", "missing"])
def test_a_kernel_of_8_bits_that_is_wrong_is_found(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    true_product = prepack.int8_linear

    def wrong(owner: prepack.Prepacking, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if fault == "missing":
            raise RuntimeError("no such kernel")
        if fault == "shifted":
            return true_product(owner, x, weight, bias) + 0.01
        # Pairs of products are added in 16 bits first, as AVX2 does.
        steps, scale, zero_point = prepack._inputs_in_uint8(x)
        weight_steps, weight_scales = prepack._weight_steps(weight)
        products = steps.double().unsqueeze(1) * weight_steps.double()
        pairs = products.unflatten(2, (-1, 2)).sum(3).clamp(-32768, 32767).sum(2)
        sums = pairs - zero_point * weight_steps.double().sum(1)
        return (sums * scale * weight_scales).float() + (0 if bias is None else bias)

    monkeypatch.setattr(prepack, "int8_linear", wrong)
    assert not prepack.int8_is_right()
