"""Do the files that a list names exist, and do they lie where they may?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from auricle.extraction.inputs.records import ProblemKind

NUM_THREADS = 16
"""Each waits for the file system, which on a network takes a millisecond a file."""

CHUNK = 2_000
"""Paths for a thread at a time, so that handing them over costs nothing."""

Verdict = tuple[ProblemKind, str]


class PathChecker:
    """Looks at paths, each once, without opening a file.

    A path lies below its fence if it does so once all links and `..` are resolved.
    """

    def __init__(self) -> None:
        self._real_folders: dict[str, str] = {}
        self._verdicts: dict[tuple[str, str | None], Verdict | None] = {}

    def check(self, paths: Iterable[tuple[str, str | None]]) -> None:
        """Look at (absolute path, fence) pairs in threads; a fence of None lets all paths pass."""
        todo = [pair for pair in dict.fromkeys(paths) if pair not in self._verdicts]
        chunks = [todo[i : i + CHUNK] for i in range(0, len(todo), CHUNK)]
        if len(chunks) < 2:
            for chunk in chunks:
                self._check_chunk(chunk)
            return
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            for _ in pool.map(self._check_chunk, chunks):
                pass

    def verdict(self, path: str, fence: str | None) -> Verdict | None:
        """What is wrong with a path, None if nothing is."""
        if (path, fence) not in self._verdicts:
            self._verdicts[path, fence] = self._look(path, fence)
        return self._verdicts[path, fence]

    def _check_chunk(self, pairs: list[tuple[str, str | None]]) -> None:
        for path, fence in pairs:
            self._verdicts[path, fence] = self._look(path, fence)

    def _look(self, path: str, fence: str | None) -> Verdict | None:
        try:
            path.encode()
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                real = os.path.realpath(path)
                status = Path(real).stat()
            else:
                folder, name = os.path.split(path)
                real = os.path.join(self._real_folder(folder), name)  # noqa: PTH118 - speed
        except UnicodeEncodeError:
            return "unreadable", f"the name {path!r} is not UTF-8: rename the file"
        except ValueError as error:  # a null character
            return "unreadable", f"{path!r} is no path: {error}"
        except OSError as error:
            return "missing", f"cannot find {path}: {error.strerror}"
        if fence is not None and not self._is_below(real, fence):
            return "escape", (
                f"{path} leads to {real}, outside of {fence}: copy it there, or name as root a "
                "folder that holds both"
            )
        if stat.S_ISDIR(status.st_mode):
            return "unreadable", f"{path} is a folder, expected a file"
        return None

    def _is_below(self, real: str, fence: str) -> bool:
        folder = self._real_folder(fence)
        return real.startswith(folder if folder.endswith(os.sep) else folder + os.sep)

    def _real_folder(self, folder: str) -> str:
        real = self._real_folders.get(folder)
        if real is None:
            real = self._real_folders[folder] = os.path.realpath(folder)
        return real
