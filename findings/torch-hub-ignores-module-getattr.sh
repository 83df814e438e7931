#!/usr/bin/env bash
# torch==2.13.0
#
# A hubconf.py with a module-level `__getattr__` (PEP 562) cannot answer for names that it does not
# define: torch.hub looks for the name in `dir(module)` first and raises its own "Cannot find
# callable". So such a file needs a module-level `__dir__` too, which holds every name that it is to
# answer for.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install torch==2.13.0 2> "$folder/pip.log" \
    || { cat "$folder/pip.log" >&2; exit 1; }

mkdir "$folder/plain" "$folder/listed"
cat > "$folder/plain/hubconf.py" <<'PYTHON'
def __getattr__(name):
    if name == "late":
        return lambda: "made by __getattr__"
    raise AttributeError(name)
PYTHON
{ cat "$folder/plain/hubconf.py"; printf '\n\ndef __dir__():\n    return ["late"]\n'; } \
    > "$folder/listed/hubconf.py"

cd "$folder"
venv/bin/python - <<'PYTHON'
import torch

try:
    torch.hub.load("plain", "late", source="local")
except RuntimeError as error:
    message = str(error)
print("without __dir__:", message)
assert "Cannot find callable late" in message
answer = torch.hub.load("listed", "late", source="local")
print("with __dir__:", answer)
assert answer == "made by __getattr__"
PYTHON
