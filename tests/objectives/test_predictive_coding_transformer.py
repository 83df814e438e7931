from __future__ import annotations

import torch
import torch.nn.functional as F

from auricle.objectives.predictive_coding import CausalTransformerLayer


def layer(num_distances: int = 4) -> CausalTransformerLayer:
    torch.manual_seed(0)
    module = CausalTransformerLayer(
        6, num_heads=2, ffn_dim=5, num_distances=num_distances, dropout=0.1
    )
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.eval()


def test_the_formulas_in_a_straight_line() -> None:
    module = layer()
    x = torch.randn(2, 7, 6)
    with torch.no_grad():
        output = module(x)
        for row in range(2):
            query, key, value = (
                x[row] @ part.weight.T for part in (module.query, module.key, module.value)
            )
            for frame in range(7):
                heads = []
                for columns in (slice(0, 3), slice(3, 6)):
                    scores = []
                    for other in range(frame + 1):
                        distance = module.distances[min(frame - other, 3)]
                        scores.append(query[frame, columns] @ (key[other, columns] + distance))
                    shares = (torch.stack(scores) / 3**0.5).softmax(dim=0)
                    heads.append(shares @ value[: frame + 1, columns])
                norm = module.attention_norm
                y = x[row, frame] + module.out.weight @ torch.cat(heads)
                y = F.layer_norm(y, (6,), norm.weight, norm.bias)
                y = y + module.ffn_out(module.ffn_in(y).relu())
                norm = module.ffn_norm
                expected = F.layer_norm(y, (6,), norm.weight, norm.bias)
                assert torch.allclose(output[row, frame], expected, atol=1e-5)


def test_it_does_not_look_ahead() -> None:
    module = layer()
    x = torch.randn(1, 9, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(x)[0, 4].square().sum(), x)
    assert (gradient[0].abs().sum(dim=1) > 0).tolist() == [True] * 5 + [False] * 4


def test_dropout_acts_in_training_alone() -> None:
    module = layer()
    x = torch.randn(1, 9, 6)
    assert torch.equal(module(x), module(x))
    module.train()
    assert not torch.equal(module(x), module(x))
