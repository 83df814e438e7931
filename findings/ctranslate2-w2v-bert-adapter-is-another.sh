#!/usr/bin/env bash
# ctranslate2==4.8.5 (transformers==5.24.0, torch==2.13.0): a w2v-BERT 2.0 with an adapter, as it is
# fine-tuned to recognise speech, gives other logits than in transformers.
#
# Features, weights (random) and precision (float32) are the same, and so are the shapes.
#
# Seen: logits deviate by 3.9 of their standard deviations, and correlate by 0.70
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" --quiet --disable-pip-version-check install \
    torch==2.13.0 transformers==5.24.0 ctranslate2==4.8.5

cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import json
import sys
from pathlib import Path

import ctranslate2
import numpy as np
import torch
import transformers

torch.manual_seed(0)
config = transformers.Wav2Vec2BertConfig(
    num_hidden_layers=1, add_adapter=True, num_adapter_layers=1, vocab_size=8
)
model = transformers.Wav2Vec2BertForCTC(config).eval()
for weight in model.parameters():
    if weight.dim() > 1:
        torch.nn.init.normal_(weight, std=0.02)
folder = Path("model")
model.save_pretrained(folder)
extractor = transformers.SeamlessM4TFeatureExtractor()
extractor.save_pretrained(folder)
tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", "a", "b", "c"]
(folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
transformers.Wav2Vec2CTCTokenizer(folder / "vocab.json").save_pretrained(folder)
ctranslate2.converters.TransformersConverter(str(folder)).convert("converted")

noise = np.random.default_rng(0).standard_normal(32_000).astype(np.float32) / 10
features = extractor(noise, sampling_rate=16_000, return_tensors="pt").input_features
with torch.no_grad():
    expected = model(features).logits.numpy()
converted = ctranslate2.models.Wav2Vec2Bert("converted", compute_type="float32")
view = ctranslate2.StorageView.from_array(features.numpy())
found = np.array(converted.encode(view, to_cpu=True))
deviation = np.abs(found - expected).max() / expected.std()
correlation = np.corrcoef(found.ravel(), expected.ravel())[0, 1]
print(f"logits deviate by {deviation:.1f} of their standard deviations, and correlate by {correlation:.2f}")
sys.exit(0 if found.shape == expected.shape and deviation > 0.5 else 1)
PYTHON
