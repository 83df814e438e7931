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
    counts = {"whole": 0, "changed": 0, "unknown": 0, "missing": 0}
    for name in arguments.names or (None,):
        num_found = 0
        for finding in verify(() if name is None else (name,)):
            num_found += 1
            counts[finding.state] += 1
            line = f"{finding.state:<8} {finding.name}  {shown(finding.path)}"
            print(f"{line}: {finding.reason}" if finding.reason else line)
            if finding.remedy:
                print(f"{'':<8} mend it: {finding.remedy}")
        if name is not None and not num_found:
            counts["missing"] += 1
            print(f"missing  {name}: nothing of it is on this machine")
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    return 1 if counts["changed"] or counts["missing"] else 0
