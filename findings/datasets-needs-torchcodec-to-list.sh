#!/usr/bin/env bash
# datasets==5.2.0 (torch not needed for it): an `Audio(decode=False)` column cannot be written without
# torchcodec, although nothing is encoded.
#
# `Audio.encode_example` imports torch and torchcodec.encoders before it looks at what it was given,
# so that a path, or the bytes of a file, which it stores as they are, fail as well: with them every
# `load_dataset` of a folder of audio files. The same cells in a column of plain bytes and paths are
# written, and can be cast to Audio(decode=False) afterwards.
#
# Seen: as Audio(decode=False): To support encoding audio data, please install 'torchcodec'.
#       as plain bytes, cast to Audio(decode=False): {'bytes': b'RIFF', 'path': 'a.wav'}
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0

HF_HOME="$folder/home" "$folder/env/bin/python" - << 'PYTHON'
import sys

from datasets import Audio, Dataset, Features

cells = {"audio": [{"bytes": b"RIFF", "path": "a.wav"}]}
try:
    Dataset.from_dict(cells, features=Features({"audio": Audio(decode=False)}))
    direct = "written"
except ImportError as error:
    direct = str(error)
cast = Dataset.from_dict(cells).cast_column("audio", Audio(decode=False))[0]["audio"]
print("as Audio(decode=False):", direct)
print("as plain bytes, cast to Audio(decode=False):", cast)
sys.exit(0 if "torchcodec" in direct and cast == cells["audio"][0] else 1)
PYTHON
