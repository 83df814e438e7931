from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from auricle.nn import recurrent
from auricle.nn.cpu import policy, prepack
from auricle.nn.recurrent import Gru, is_fast_gru, recur, run_gru


@pytest.mark.parametrize("by_blas", [True, False])
@pytest.mark.parametrize("gate_bytes", [1 << 26, 4 * 3 * 8 * 4 * 7])
@pytest.mark.parametrize(
    "lengths", [[30, 20, 20, 1], [3, 30, 1, 17], [30, 30, 30, 30], [29, 28], [30]]
)
def test_it_is_what_torch_computes_of_each_row(
    lengths: list[int], gate_bytes: int, by_blas: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurrent, "MAX_GATE_BYTES", gate_bytes)
    monkeypatch.setattr(recurrent, "is_fast_by_blas", lambda _: by_blas)
    torch.manual_seed(0)
    layer = Gru(5, 8, batch_first=True)
    x = torch.randn(len(lengths), 30, 5)
    with torch.no_grad():
        assert is_fast_gru(layer, x)
        output = run_gru(layer, x, lengths)
        assert output.shape == (len(lengths), 30, 8)
        for row, length in enumerate(lengths):
            expected, _ = layer(x[row : row + 1, :length])
            assert torch.allclose(output[row, :length], expected[0], atol=1e-6)
        assert not output[-1, lengths[-1] :].any()


def test_a_written_weight_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent, "is_fast_by_blas", lambda _: True)
    layer, x = Gru(5, 8, batch_first=True), torch.randn(2, 9, 5)
    with torch.no_grad():
        for _ in range(2):
            with prepack.unchanging():
                assert torch.allclose(run_gru(layer, x, [9, 9]), layer(x)[0], atol=1e-6)
            layer.get_parameter("weight_hh_l0").data.neg_()


@pytest.mark.parametrize(
    "layer",
    [
        Gru(5, 8, num_layers=2, batch_first=True),
        Gru(5, 8, bidirectional=True, batch_first=True),
        Gru(5, 8, bias=False, batch_first=True),
    ],
    ids=["two layers", "both ways", "no bias"],
)
def test_other_layers_are_left_to_torch(layer: Gru) -> None:
    with torch.no_grad():
        assert not is_fast_gru(layer, torch.zeros(2, 3, 5))
    assert not is_fast_gru(Gru(5, 8, batch_first=True), torch.zeros(2, 3, 5))


def test_training_gives_torchs_gradients() -> None:
    torch.manual_seed(0)
    layer = Gru(5, 4, batch_first=True).double()
    x = torch.randn(3, 7, 5, dtype=torch.float64, requires_grad=True)
    results = []
    for way in (nullcontext, policy.reference_kernels):
        with way():
            output = recur(layer, x)
        assert (type(output.grad_fn).__name__ == "TransposeBackward0") == (way is nullcontext)
        loss = (output * torch.arange(output.numel()).view(output.shape).cos()).sum()
        results.append((output, torch.autograd.grad(loss, [x, *layer.parameters()])))
    torch.testing.assert_close(*results)
