from __future__ import annotations

import pytest
import torch
from torch import Tensor

from auricle.nn.recurrent import PARALLEL_FRAMES, QrnnStack, running_average

LENGTHS = (1, 2, PARALLEL_FRAMES - 1, PARALLEL_FRAMES, PARALLEL_FRAMES + 1, 3 * PARALLEL_FRAMES + 5)


def average_by_hand(x: Tensor, weight: Tensor) -> Tensor:
    """QRNN, equation 4, frame by frame."""
    state = torch.zeros_like(x[:, 0])
    states = []
    for value, forget in zip(x.unbind(1), weight.unbind(1), strict=True):
        state = forget * value + (1 - forget) * state
        states.append(state)
    return torch.stack(states, dim=1)


@pytest.mark.parametrize("num_frames", LENGTHS)
def test_running_average(num_frames: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, num_frames, 3), torch.rand(2, num_frames, 3)
    # Weights near zero keep what was long ago; exact ends of the range divide by nothing.
    weight[..., 0] *= 1e-3
    weight[:, num_frames // 2, 1], weight[:, num_frames // 2, 2] = 0.0, 1.0
    assert torch.allclose(running_average(x, weight), average_by_hand(x, weight), atol=1e-6)


def test_an_average_goes_on_from_where_it_was() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 200, 3), torch.rand(2, 200, 3)
    whole = running_average(x, weight)
    for cut in (1, PARALLEL_FRAMES, 77):
        later = running_average(x[:, cut:], weight[:, cut:], whole[:, cut - 1])
        assert torch.allclose(later, whole[:, cut:], atol=1e-6)


def test_a_frame_does_not_depend_on_the_length_of_the_sequence() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(3, 300, 4), torch.rand(3, 300, 4)
    long = running_average(x, weight)
    for num_frames in LENGTHS:
        short = running_average(x[1:2, :num_frames], weight[1:2, :num_frames])
        assert torch.equal(short, long[1:2, :num_frames])


def test_half_precision_keeps_its_digits() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 200, 4).bfloat16()
    weight = torch.full((1, 200, 4), 0.01).bfloat16()
    average = running_average(x, weight)
    expected = average_by_hand(x.double(), weight.double())
    assert average.dtype == torch.bfloat16
    assert (average - expected).abs().max() < 0.005 * expected.abs().max()


def test_gradients() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, PARALLEL_FRAMES + 3, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(1, PARALLEL_FRAMES + 3, 2, dtype=torch.float64, requires_grad=True)
    ours = torch.autograd.grad(running_average(x, weight).square().sum(), [x, weight])
    theirs = torch.autograd.grad(average_by_hand(x, weight).square().sum(), [x, weight])
    for grad, expected in zip(ours, theirs, strict=True):
        assert torch.allclose(grad, expected, atol=1e-10)


@pytest.mark.usefixtures("any_stretch")
def test_layers_follow_the_equations() -> None:
    torch.manual_seed(0)
    stack = QrnnStack(input_dim=3, hidden_dim=4, num_layers=2, dropout=0.5).eval()
    x = torch.randn(2, 70, 3)
    expected = x
    for layer in stack.layers:
        before = torch.cat([torch.zeros_like(expected[:, :1]), expected[:, :-1]], dim=1)
        gates = torch.cat([expected, before], dim=2) @ layer.weight.T + layer.bias
        average = average_by_hand(torch.tanh(gates[..., :4]), torch.sigmoid(gates[..., 4:8]))
        expected = torch.sigmoid(gates[..., 8:]) * average
    assert torch.allclose(stack(x), expected, atol=1e-6)


def test_dropout_acts_in_training_between_layers() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 50, 8)
    single = QrnnStack(input_dim=8, hidden_dim=8, num_layers=1, dropout=0.5).train()
    assert torch.equal(single(x), single(x))
    double = QrnnStack(input_dim=8, hidden_dim=8, num_layers=2, dropout=0.5)
    assert not torch.equal(double.train()(x), double(x))
    assert torch.equal(double.eval()(x), double(x))
