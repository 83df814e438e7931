#!/usr/bin/env bash
# pytest-xdist==3.8.0 with pytest==9.2.0
#
# `--dist loadgroup` promises that tests of one `xdist_group` run in one worker. With pytest 9.2 they
# run in all of them, without a warning: the plug-in marks the group by writing to a private
# attribute of the item, from which pytest no longer takes the item's identifier. Tests that share
# a port, a server or an expensive fixture by their group then run beside each other. The same
# file with pytest 9.0.2 keeps to one worker.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat > "$folder/test_group.py" <<'PYTHON'
import time
from pathlib import Path

import pytest


@pytest.mark.parametrize("case", range(12))
@pytest.mark.xdist_group("one")
def test_case(case, worker_id):
    with (Path(__file__).parent / "workers").open("a") as file:
        file.write(worker_id + "\n")
    time.sleep(0.2)
PYTHON

workers() {
    python3 -m venv "$folder/$1"
    "$folder/$1/bin/pip" -q install "pytest==$1" pytest-xdist==3.8.0 2> "$folder/pip.log" \
        || { cat "$folder/pip.log" >&2; exit 1; }
    rm -f "$folder/workers"
    (cd "$folder" && "$folder/$1/bin/pytest" -q -p no:cacheprovider -n 2 --dist loadgroup) > /dev/null
    sort -u "$folder/workers" | wc -l
}

before=$(workers 9.0.2)
now=$(workers 9.2.0)
echo "workers that ran the one group: $before with pytest 9.0.2, $now with pytest 9.2.0"
test "$before" = 1
test "$now" = 2
