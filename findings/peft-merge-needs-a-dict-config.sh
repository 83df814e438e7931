#!/usr/bin/env bash
# peft==0.21.2 (torch==2.13.0, transformers==5.24.0, accelerate==1.15.0)
#
# get_peft_model wraps, runs and trains any nn.Module, also one whose attribute `config` is an object
# of the model's own (no dict, no dataclass, no `to_dict`). merge_and_unload() then fails on it with
# AttributeError: "'Config' object has no attribute 'get'", after the training is done: it asks the
# configuration for tied embeddings, which only a dict, a dataclass or a `to_dict` can answer.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install torch==2.13.0 peft==0.21.2 transformers==5.24.0 accelerate==1.15.0 \
    numpy 2>"$folder/pip.log" || { cat "$folder/pip.log"; exit 1; }

"$folder/venv/bin/python" - <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model
from torch import nn


class Config:
    width = 4


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.linear = nn.Linear(config.width, config.width)

    def forward(self, x):
        return self.linear(x)


model = get_peft_model(Model(Config()), LoraConfig(target_modules=["linear"]))
model(torch.ones(2, 4)).sum().backward()
print("wrapped, called and trained")
try:
    model.merge_and_unload()
except AttributeError as error:
    print(f"merge_and_unload: AttributeError: {error}")
    assert str(error) == "'Config' object has no attribute 'get'", error
else:
    raise SystemExit("merge_and_unload works: the behaviour has changed")

Config.to_dict = lambda self: {"width": self.width}
merged = model.merge_and_unload()
print(f"with a to_dict: {type(merged).__name__}")
assert type(merged) is Model
PYTHON
