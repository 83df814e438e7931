#!/usr/bin/env bash
# pyarrow==26.0.1 (numpy==1.26.4): it refuses NumPy 1.x when it is imported, but says so nowhere in
# its metadata.
#
# pyarrow works without NumPy, so it requires none; pip therefore installs it beside any NumPy, and
# `pip check` finds nothing wrong. The import then raises ImportError, that of pyarrow.parquet too.
# pyarrow==24.0.0 still imports beside NumPy 1.26.
#
# Seen: pip check: No broken requirements found.
#       24.0.0: imported
#       26.0.1: pyarrow requires NumPy 2.0 or newer, found 1.26.4
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for python in python3.12 python3.11 python3.10; do # NumPy 1.26 has no wheels for later ones
    if "$python" --version > /dev/null 2>&1; then break; fi
done
"$python" -m venv "$folder/env"

try_import() {
    "$folder/env/bin/pip" install --quiet --disable-pip-version-check numpy==1.26.4 "pyarrow==$1"
    "$folder/env/bin/python" -c '
try:
    import pyarrow
    print("imported")
except ImportError as error:
    print(error)'
}

older=$(try_import 24.0.0)
newer=$(try_import 26.0.1)
check=$("$folder/env/bin/pip" --disable-pip-version-check check)
echo "pip check: $check"
echo "24.0.0: $older"
echo "26.0.1: $newer"
[[ "$check" == "No broken requirements found." && "$older" == imported ]]
[[ "$newer" == "pyarrow requires NumPy 2.0 or newer, found 1.26.4" ]]
