from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from auricle.nn.conv import Linear, activated


def test_fusing_keeps_hooks_and_other_modules() -> None:
    torch.manual_seed(0)
    layer = Linear(12, 7)
    x = torch.randn(2, 12)
    heard = []
    with torch.no_grad():
        expected = F.gelu(layer(x))
        assert torch.allclose(activated(layer, x, "gelu"), expected, atol=1e-6)
        doubled = nn.Sequential(layer, nn.Flatten())
        assert torch.allclose(activated(doubled, x, "gelu"), expected, atol=1e-6)
        layer.register_forward_hook(lambda *_: heard.append(1))
        assert torch.allclose(activated(layer, x, "gelu"), expected, atol=1e-6)
    assert heard == [1]
