#!/usr/bin/env bash
# lhotse==1.33.0 returns a sample that the file does not hold, without a word.
#
# A cut's start and its duration are rounded to samples one by one, halves upwards. Where both are
# rounded up, a cut that ends with its recording is one sample longer than what is left of it, and
# `load_audio` appends a mirror image (numpy.pad, mode "reflect") up to a tolerance of 25 ms. It
# takes no odd numbers: a cut from 6.91 s to the end of 10 s at 22 050 Hz is enough.
#
# Seen: the file holds 68134 samples after the start, the cut says and loads 68135; the last two are
# 220499 and 220498 in a file that counts its samples upwards, where 220499 is the last one.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    lhotse==1.33.0 urllib3==2.8.0 soundfile==0.14.0 numpy==2.4.6 torch==2.13.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import soundfile as sf
from lhotse import MonoCut, Recording

sf.write("a.wav", np.arange(220_500) / 2.0**18, 22_050, subtype="FLOAT")
recording = Recording.from_file("a.wav")
cut = MonoCut(id="cut", start=6.91, duration=3.09, channel=0, recording=recording)
(samples,) = cut.load_audio()
first, *_, before, last = (round(float(x) * 2**18) for x in samples)
left = recording.num_samples - first
print(f"left in the file: {left}; num_samples: {cut.num_samples}; loaded: {len(samples)}")
print(f"the last two: {before}, {last}")
seen = (left, cut.num_samples, len(samples), before, last)
raise SystemExit(0 if seen == (68_134, 68_135, 68_135, 220_499, 220_498) else 1)
PYTHON
