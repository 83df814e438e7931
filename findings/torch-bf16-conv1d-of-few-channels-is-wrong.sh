#!/usr/bin/env bash
# torch==2.13.0+cpu (oneDNN 3.12.0) on a CPU with AMX (Sapphire Rapids and later), numpy not needed
#
# In bfloat16 `F.conv1d` gives other numbers, without an error or a warning, where the input channels of a
# group are even and fewer than 16 and the kernel's size is a multiple of 8: the difference from float32 is
# as large as the result, where rounding makes 0.3 %. Under torch.autocast it is the same. Such are the
# positional convolutions of small wav2vec 2.0 and HuBERT models: 192 columns in 16 groups and 32 taps.
# Training goes on and the loss falls a little; it cost hours to see that only bfloat16 was to blame.
# ONEDNN_MAX_CPU_ISA=AVX512_CORE_FP16 (no AMX) gives the right numbers.
#
# Seen (relative difference from float32, by input channels of a group and taps):
#   11 channels, 32 taps: 0.003
#   12 channels, 31 taps: 0.003
#   12 channels, 32 taps: 1.1
#   16 channels, 32 taps: 0.003
# On a CPU without AMX all four are 0.003: there the script says so and tries nothing.
set -euo pipefail

if ! grep -qs amx_bf16 /proc/cpuinfo; then
    echo 'this CPU has no AMX: nothing to see'
    exit 0
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0

"$folder/env/bin/python" - << 'PYTHON'
import sys

import torch
import torch.nn.functional as F


def difference(channels: int, taps: int) -> float:
    torch.manual_seed(0)
    x, weight = torch.randn(2, channels, 122), torch.randn(channels, channels, taps)
    exact = F.conv1d(x, weight)
    rounded = F.conv1d(x.bfloat16(), weight.bfloat16()).float()
    return float((rounded - exact).norm() / exact.norm())


for channels, taps in ((11, 32), (12, 31), (12, 32), (16, 32)):
    print(f"{channels} channels, {taps} taps: {difference(channels, taps):.2g}")
sys.exit(0 if difference(12, 32) > 0.5 and difference(12, 31) < 0.01 else 1)
PYTHON
