#!/usr/bin/env bash
# soundfile==0.14.0 (libsndfile 1.2.2), numpy==2.4.0: the length of an MP3 without a Xing frame is
# an estimate, and what lies after it cannot be read.
#
# libmpg123 multiplies the size of the first frame; libsndfile reports that as `frames` and reads no
# further. A file with a variable bit rate that begins loud loses its end without an error, and one
# that begins silent seems several times as long as it is. (Encoders leave the Xing frame out when
# they write to a pipe, and editors that cut without encoding drop it.)
#
# Seen: loud first: 97344 samples in its frames, 27144 said, 27144 read
#       silent first: 97344 samples in its frames, 221184 said, 97344 read
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

RATE, FRAME_SAMPLES = 16_000, 576  # MPEG 2, layer III
KBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def frames(contents):
    """Where each frame begins, by the headers."""
    position = 0
    while position < len(contents):
        assert contents[position] == 0xFF and contents[position + 1] >> 3 == 0b11110
        yield position
        third = contents[position + 2]
        position += 72 * KBITS[third >> 4] * 1000 // RATE + (third >> 1 & 1)


times = np.arange(6 * RATE) / RATE
noise = np.random.default_rng(0).normal(0, 0.1, len(times))
silent_first = np.where(times < 1, 0.0, np.where(times < 3, 0.3 * np.sin(2000 * times), noise))
is_as_stated = True
for name, samples in (("loud first", silent_first[::-1]), ("silent first", silent_first)):
    stream = io.BytesIO()
    options = {"bitrate_mode": "VARIABLE", "compression_level": 0.5}
    soundfile.write(stream, samples, RATE, format="MP3", **options)
    starts = list(frames(stream.getvalue()))
    bare = stream.getvalue()[starts[1] :]  # the first frame is the tag
    held = FRAME_SAMPLES * (len(starts) - 1)
    with soundfile.SoundFile(io.BytesIO(bare)) as file:
        said, read = file.frames, 0
        while blocks := len(file.read(10_000)):
            read += blocks
    print(f"{name}: {held} samples in its frames, {said} said, {read} read")
    is_as_stated &= read < held / 2 if name == "loud first" else said > 2 * held
sys.exit(0 if is_as_stated else 1)
PYTHON
