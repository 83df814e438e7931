#!/usr/bin/env bash
# soundfile==0.14.0 (libsndfile 1.2.2), numpy==2.4.0: of a chained Ogg file, and of MP3 files that
# were joined, the first recording alone is read, without an error.
#
# A chain, one Ogg stream after the other, is a valid Ogg file (RFC 3533, section 4), which is how
# radio streams and `cat` make them; players and ffmpeg go on with the next one. libsndfile says the
# length of the first and ends there. Of joined MP3s it reads as many samples as the first Xing
# frame counts.
#
# Seen: OGG VORBIS: 2 recordings of 32000 samples, 32000 read
#       OGG OPUS: 2 recordings of 32000 samples, 32000 read
#       MP3 MPEG_LAYER_III: 2 recordings of 32000 samples, 32000 read
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.0
cd "$folder"

"$folder/env/bin/python" - 2> /dev/null << 'PYTHON'
import io
import sys

import numpy as np
import soundfile

samples = np.random.default_rng(0).normal(0, 0.1, 32_000)
is_as_stated = True
for container, subtype in (("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")):
    stream = io.BytesIO()
    soundfile.write(stream, samples, 16_000, format=container, subtype=subtype)
    read, _ = soundfile.read(io.BytesIO(2 * stream.getvalue()))
    print(f"{container} {subtype}: 2 recordings of 32000 samples, {len(read)} read")
    is_as_stated &= len(read) == 32_000
sys.exit(0 if is_as_stated else 1)
PYTHON
