#!/usr/bin/env bash
# transformers==5.24.0
#
# `layer_norm_eps` of a Wav2Vec2ConformerConfig reaches two norms: that of the feature projection and
# the last one. All five of every block are built without it and keep torch's 1e-5, with no warning,
# so whoever computes the model from its configuration is wrong where the option is not 1e-5. In
# Wav2Vec2Model the norms of the blocks follow the option.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install torch==2.13.0 transformers==5.24.0 2> "$folder/pip.log" \
    || { cat "$folder/pip.log" >&2; exit 1; }

"$folder/venv/bin/python" - <<'PYTHON'
import collections

import torch
import transformers

options = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "layer_norm_eps": 0.25,
    "conv_dim": (8,) * 7,
}
found = {}
for name in ("Wav2Vec2Conformer", "Wav2Vec2"):
    config = getattr(transformers, f"{name}Config")(**options)
    model = getattr(transformers, f"{name}Model")(config)
    found[name] = collections.Counter(
        ("block" if path.startswith("layers.") else "other", part.eps)
        for path, part in model.encoder.named_modules()
        if isinstance(part, torch.nn.LayerNorm)
    )
    print(name, dict(found[name]))
assert found["Wav2Vec2Conformer"] == {("block", 1e-5): 10, ("other", 0.25): 1}
assert found["Wav2Vec2"] == {("block", 0.25): 4, ("other", 0.25): 1}
PYTHON
