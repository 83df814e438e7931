#!/usr/bin/env bash
# transformers==5.24.0 against transformers==4.57.1, torch==2.13.0 (CPU), numpy==2.3.5
#
# The last of `hidden_states` of pre-norm wav2vec 2.0, HuBERT and WavLM (do_stable_layer_norm: Large,
# XLS-R) is another tensor in 5.x than in 4.x, for the same weights and input. In 4.57.1 it is
# `last_hidden_state`, after the encoder's final LayerNorm. In 5.24.0 it is the raw output of the last
# block, before that norm, which `last_hidden_state` still has. Nothing warns, the count of states is
# the same, and post-norm models (Base) are unchanged. Layers that were chosen as hidden_states[-1], or
# averages and weighted sums over all of them, change with the version.
#
# Seen:
#   4.57.1 Wav2Vec2Model post-norm: hidden_states[-1] is last_hidden_state
#   4.57.1 Wav2Vec2Model pre-norm: hidden_states[-1] is last_hidden_state
#   (the same for HubertModel and WavLMModel)
#   5.24.0 Wav2Vec2Model post-norm: hidden_states[-1] is last_hidden_state
#   5.24.0 Wav2Vec2Model pre-norm: hidden_states[-1] is last_hidden_state before the final norm
#   (the same for HubertModel and WavLMModel)
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
pip() { "$folder/env/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip torch==2.13.0 numpy==2.3.5
pip --target "$folder/old" transformers==4.57.1 numpy==2.3.5
pip --target "$folder/new" transformers==5.24.0 numpy==2.3.5

cat > "$folder/compare.py" <<'PYTHON'
import torch
import transformers

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "conv_dim": [8] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
}
torch.manual_seed(0)
for name in ("Wav2Vec2", "Hubert", "WavLM"):
    for is_pre_norm in (False, True):
        config = getattr(transformers, f"{name}Config")(
            do_stable_layer_norm=is_pre_norm, **SMALL,
            feat_extract_norm="layer" if is_pre_norm else "group",
        )
        model = getattr(transformers, f"{name}Model")(config).eval()
        norm = model.encoder.layer_norm
        torch.nn.init.normal_(norm.weight)
        with torch.no_grad():
            output = model(torch.randn(1, 8000), output_hidden_states=True)
            last = output.hidden_states[-1]
            if torch.allclose(last, output.last_hidden_state, atol=1e-6):
                relation = "is last_hidden_state"
            elif torch.allclose(norm(last), output.last_hidden_state, atol=1e-6):
                relation = "is last_hidden_state before the final norm"
            else:
                relation = "is something else"
        kind = "pre-norm" if is_pre_norm else "post-norm"
        print(f"{transformers.__version__} {name}Model {kind}: hidden_states[-1] {relation}")
PYTHON

expected() {
    for model in Wav2Vec2 Hubert WavLM; do
        echo "$1 ${model}Model post-norm: hidden_states[-1] is last_hidden_state"
        echo "$1 ${model}Model pre-norm: hidden_states[-1] is last_hidden_state$2"
    done
}

for version in old new; do
    PYTHONPATH="$folder/$version" "$folder/env/bin/python" -W ignore "$folder/compare.py" 2>/dev/null
done | tee "$folder/seen"
{ expected 4.57.1 ""; expected 5.24.0 " before the final norm"; } | diff - "$folder/seen"
