#!/usr/bin/env bash
# soundfile==0.14.0 (libsndfile 1.2.2), numpy==2.4.0: a file of which the end is missing is read as
# a shorter recording, without an error, though its header says how long it should be.
#
# libsndfile takes the smaller of what the header promises and what the file holds. That a copy
# broke off shows in none of `frames`, the samples or an exception; only HTK, CAF, FLAC and
# Ogg files that were cut are refused.
#
# Seen: of 16000 samples, 40 % of the bytes missing: WAV 9591, AIFF 9589, AU 9595, W64 9579,
#       RF64 9579, VOC 9591, AVR 9574, NIST 9395, SVX 9580, MAT4 9586, MAT5 9547, MPC2K 9591,
#       WVE 9587
# (no error for any of them)
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.0
cd "$folder"

"$folder/env/bin/python" - << 'PYTHON'
import io
import sys

import numpy as np
import soundfile

CONTAINERS = "WAV AIFF AU W64 RF64 VOC AVR NIST SVX MAT4 MAT5 MPC2K WVE".split()
samples = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000)
found = []
for container in CONTAINERS:
    stream = io.BytesIO()
    subtype, rate = ("ALAW", 8_000) if container == "WVE" else ("PCM_16", 16_000)
    soundfile.write(stream, samples, rate, format=container, subtype=subtype)
    contents = stream.getvalue()
    read, _ = soundfile.read(io.BytesIO(contents[: len(contents) * 6 // 10]))
    found.append(len(read))
pairs = ", ".join(f"{name} {count}" for name, count in zip(CONTAINERS, found, strict=True))
print(f"of 16000 samples, 40 % of the bytes missing: {pairs}")
sys.exit(0 if all(0 < count < 10_000 for count in found) else 1)
PYTHON
