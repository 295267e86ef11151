"""Writes docs/reference/conformance.md from what a full run of all suites has found."""

import json
import sys
from pathlib import Path

from tests.conformance.suites import ALL, SKIPPED

_HEAD = """# What outside suites say of a mount

Written by `scripts/conformance`, which runs each suite in a plain directory and in a mount. Nothing
that passes there may fail here. What a suite leaves is then the same after `kill -9` and on another
machine, and `pdfs check --read` finds no damage.

| suite | passed | skipped | failed | in a plain directory: passed | skipped | failed |
|---|---|---|---|---|---|---|
"""
_CASES = """
Skipped here alone:

| case | why |
|---|---|
"""


def table(results: Path) -> str:
    """The document. Raises FileNotFoundError where a suite did not run."""
    rows = ""
    for name in ALL:
        found = json.loads((results / f"{name}.json").read_text())
        counts = [
            len(found[place][outcome])
            for place in ("mount", "plain")
            for outcome in ("passed", "skipped", "failed")
        ]
        rows += f"| {name} | {' | '.join(f'{count:,}' for count in counts)} |\n"
    return _HEAD + rows + _CASES + "".join(f"| {case} | {why} |\n" for case, why in SKIPPED.items())


if __name__ == "__main__":
    sys.stdout.write(table(Path(sys.argv[1])))
