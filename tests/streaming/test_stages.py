from __future__ import annotations

import pytest
import torch
from torch import nn

from auricle.streaming.stages import PerFrame, Recurrent


def test_per_frame_stages_apply_their_function() -> None:
    stage = PerFrame(lambda x: x + 1)
    assert torch.equal(stage(torch.zeros(1, 2, 3), is_last=False), torch.ones(1, 2, 3))


@pytest.mark.parametrize("rnn_type", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("residual", [False, True])
def test_recurrence_goes_on_where_it_was(rnn_type: type[nn.RNNBase], residual: bool) -> None:
    torch.manual_seed(0)
    rnn = rnn_type(4, 4, num_layers=2, batch_first=True)
    x = torch.randn(1, 4, 30)
    with torch.inference_mode():
        expected = rnn(x.transpose(1, 2))[0].transpose(1, 2)
        expected = expected + x if residual else expected
        stage = Recurrent(rnn, residual=residual)
        parts = [stage(part, is_last=False) for part in x.split([1, 0, 7, 22], dim=2)]
        parts.append(stage(x[:, :, :0], is_last=True))
    torch.testing.assert_close(torch.cat(parts, dim=2), expected)
