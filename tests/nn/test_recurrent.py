from __future__ import annotations

import pytest
import torch
from torch import Tensor

from auricle.nn.cpu import policy
from auricle.nn.recurrent import GruStack, recur


def run_by_hand(stack: GruStack, x: torch.Tensor, *, residual: bool) -> list[torch.Tensor]:
    """GRU equations (Cho et al. 2014, as torch documents them), frame by frame."""
    outputs = []
    for index, layer in enumerate(stack.layers):
        hidden = torch.zeros(x.shape[0], layer.hidden_size)
        frames = []
        for frame in x.unbind(1):
            gates_x = frame @ layer.weight_ih_l0.T + layer.bias_ih_l0
            gates_h = hidden @ layer.weight_hh_l0.T + layer.bias_hh_l0
            reset_x, update_x, new_x = gates_x.chunk(3, dim=1)
            reset_h, update_h, new_h = gates_h.chunk(3, dim=1)
            update = torch.sigmoid(update_x + update_h)
            new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
            hidden = (1 - update) * new + update * hidden
            frames.append(hidden)
        y = torch.stack(frames, dim=1)
        x = x + y if residual and index > 0 else y
        outputs.append(x)
    return outputs


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.usefixtures("any_stretch")
def test_layers_and_residuals(residual: bool) -> None:
    torch.manual_seed(0)
    stack = GruStack(input_dim=3, hidden_dim=4, num_layers=3, dropout=0.5, residual=residual)
    x = torch.randn(2, 5, 3)
    expected = run_by_hand(stack.eval(), x, residual=residual)
    for ours, theirs in zip(stack(x), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_dropout_acts_in_training_on_all_layers_but_the_last() -> None:
    torch.manual_seed(0)
    stack = GruStack(input_dim=3, hidden_dim=64, num_layers=2, dropout=0.5, residual=False)
    first, last = stack.train()(torch.randn(1, 20, 3))
    assert 0.3 < (first == 0).float().mean() < 0.7
    assert (last != 0).all()


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
def test_states_are_carried_from_stretch_to_stretch(
    monkeypatch: pytest.MonkeyPatch, kind: type[torch.nn.RNNBase]
) -> None:
    torch.manual_seed(0)
    layers = kind(3, 4, num_layers=2, batch_first=True)
    x = torch.randn(2, 50, 3)
    lengths: list[int] = []
    forward = kind.forward

    def record(self: torch.nn.RNNBase, x: Tensor, state: object = None) -> object:
        lengths.append(x.shape[1])
        return forward(self, x, state)  # type: ignore[call-arg]

    monkeypatch.setattr(kind, "forward", record)  # a hook would see the whole
    whole = recur(layers, x)
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 400)
    with torch.inference_mode():
        assert torch.allclose(recur(layers, x), whole, atol=1e-6)
    assert lengths[0] == 50
    assert len(lengths) > 2
    assert max(lengths[1:]) < 50
