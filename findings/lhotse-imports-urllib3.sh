#!/usr/bin/env bash
# lhotse==1.33.0 (torch==2.13.0): importing it imports urllib3, which its metadata does not require.
#
# In an environment that holds only what pip installs for lhotse, the import ends in
# "ModuleNotFoundError: No module named 'urllib3'". Most environments have urllib3 through requests,
# so that it shows in lean ones alone.
#
# Seen: requires urllib3: no
#       installed: no
#       No module named 'urllib3'
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 lhotse==1.33.0

"$folder/env/bin/python" - << 'PYTHON'
import sys
from importlib.metadata import requires
from importlib.util import find_spec

is_required = any(text.lower().startswith("urllib3") for text in requires("lhotse"))
is_installed = find_spec("urllib3") is not None
print("requires urllib3:", "yes" if is_required else "no")
print("installed:", "yes" if is_installed else "no")
try:
    import lhotse
except ModuleNotFoundError as error:
    print(error)
    sys.exit(0 if error.name == "urllib3" and not (is_required or is_installed) else 1)
print("imported")
sys.exit(1)
PYTHON
