#!/usr/bin/env bash
# soundfile==0.14.0 (its wheel's libsndfile): a WAV of GSM 6.10 with an odd number of blocks ends in a
# block of noise when it is read.
#
# A block is 65 bytes for 320 samples. After an odd number of them the chunk is padded with one byte,
# which libsndfile takes for the begin of another block: 320 samples are read that were never written.
# The same samples in a W64, or an even number of blocks, are read as they were written.
#
# Seen: WAV, 24 blocks: 7680 samples written, 7680 read, the last 320 up to 0.34
#       WAV, 25 blocks: 8000 samples written, 8320 read, the last 320 up to 0.55
#       W64, 25 blocks: 8000 samples written, 8000 read, the last 320 up to 0.34
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6

"$folder/env/bin/python" - << 'PYTHON'
import io
import sys

import numpy as np
import soundfile

seen = []
for container, num_blocks in (("WAV", 24), ("WAV", 25), ("W64", 25)):
    samples = np.sin(np.arange(320 * num_blocks) / 9) / 3
    stream = io.BytesIO()
    soundfile.write(stream, samples, 8_000, format=container, subtype="GSM610")
    stream.seek(0)
    read, _ = soundfile.read(stream)
    seen.append(len(read) - len(samples))
    print(
        f"{container}, {num_blocks} blocks: {len(samples)} samples written, {len(read)} read, "
        f"the last 320 up to {abs(read[-320:]).max():.2f}"
    )
sys.exit(0 if seen == [0, 320, 0] else 1)
PYTHON
