"""`auricle verify`: whether what is cached is still what came."""

from __future__ import annotations

import argparse

from auricle.hub.verification import shown, verify


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each file; the status is 1 where one has changed,
    or where nothing is there of what was named.

    Raises:
        UnknownModelError: There is no such model.
    """
    counts = {"whole": 0, "changed": 0, "unknown": 0}
    for finding in verify(arguments.names):
        counts[finding.state] += 1
        line = f"{finding.state:<8} {finding.name}  {shown(finding.path)}"
        print(f"{line}: {finding.reason}" if finding.reason else line)
        if finding.remedy:
            print(f"{'':<8} mend it: {finding.remedy}")
    if not any(counts.values()):
        print("nothing of that is on this machine")
        return 1 if arguments.names else 0  # what was asked for by name is not whole
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    return 1 if counts["changed"] else 0
