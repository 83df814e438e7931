"""Many processes, killed processes and other users: the cache never fails, and never lies."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forks import run
from golden_cases import GoldenCase

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")

PROGRAM = Path(__file__).with_name("forked_loads.py")
TERA = GoldenCase("tera").checkpoints[0]
APC = GoldenCase("apc").checkpoints[0]


@pytest.fixture
def shared_cache() -> Iterator[Path]:
    """A folder that other users may read, which those of pytest may not be."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "cache"


def forked(scenario: str, url: str, cache: Path, *arguments: str) -> Any:
    environment = {**os.environ, "AURICLE_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    result = run([PROGRAM, scenario, url, cache, *arguments], env=environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_twenty_processes_download_and_convert_once(
    server: Any, reply: Any, shared_cache: Path
) -> None:
    url = server.say("/model.ckpt", reply(body=TERA.read_bytes(), etag='"a"'))
    found = forked("many", url, shared_cache)
    assert found["loads"] == [found["loads"][0]] * 20
    assert found["loads"][0][1] == sha256(TERA)
    assert found["written"] == 1
    assert len(server.requests) == 1


def test_a_load_killed_at_any_moment_leaves_a_cache_that_works_and_is_true(
    server: Any, reply: Any, shared_cache: Path, is_whole: bool
) -> None:
    num_moments = 50 if is_whole else 8
    url = server.say("/model.ckpt", *two_versions(reply))
    found = forked("killed", url, shared_cache, str(num_moments))
    assert len(found["outcomes"]) == num_moments
    # Most of them died in the middle; some had nothing to do, or were done.
    assert sum(not outcome["survived"] for outcome in found["outcomes"]) > num_moments / 2
    assert_true(found)


def test_a_load_killed_at_any_line_that_puts_files_in_place_leaves_a_cache_that_is_true(
    server: Any, reply: Any, shared_cache: Path
) -> None:
    url = server.say("/model.ckpt", *two_versions(reply))
    found = forked("killed_keeping", url, shared_cache)
    assert len(found["outcomes"]) >= 8
    assert not any(outcome["survived"] for outcome in found["outcomes"])
    assert_true(found)


def two_versions(reply: Any) -> Iterable[Any]:
    """A file that changes from one request to the next, so that a splice or a stale digest shows."""
    versions = [
        reply(body=TERA.read_bytes(), etag='"a"'),
        reply(body=APC.read_bytes(), etag='"b"'),
    ]
    return itertools.islice(itertools.cycle(versions), 1000)


def assert_true(found: Any) -> None:
    """Nothing that is not what was served, no wrong note, no debris."""
    served = found["served"]
    assert sorted(file for _, file in served) == sorted(map(sha256, (TERA, APC)))
    for outcome in found["outcomes"]:
        assert outcome["changed"] == []
        first, second = outcome["loads"]
        assert first in served
        assert second == first
        names = {Path(name).suffix for name in outcome["left"]}
        assert names == {".lock", ".safetensors", ".json"}, "debris is swept by the next writer"
        assert len(outcome["left"]) == 3


def test_a_cache_that_may_only_be_read_works_or_says_what_to_do(
    server: Any, reply: Any, shared_cache: Path
) -> None:
    url = server.say("/model.ckpt", reply(body=TERA.read_bytes()))
    found = forked("read_only", url, shared_cache)
    assert found["converted"] == {"result": found["own"], "warnings": []}
    assert found["original"]["result"] == found["own"]
    (warning,) = found["original"]["warnings"]
    assert "not kept, so the next load converts it again: Permission denied" in warning
    assert "AURICLE_CACHE" in warning
    for way in ("missing", "refreshed"):
        assert "Permission denied" in found[way]["error"]
        assert "let your group write there, or set AURICLE_CACHE" in found[way]["error"]
