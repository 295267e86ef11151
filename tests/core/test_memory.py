"""Bytes for each inode: memory grows by this much from a small stage to one of many files."""

import subprocess
import sys
from pathlib import Path

from pdfs.core import manifest
from tests.core.memory import big_manifest

MOST = 1450
"""Bytes. The 1,024 of H3 are not reached, so no test has that figure's name for it; semantics.md
says what a mount takes."""
ROOT = Path(__file__).parents[2]


def measured(files: int) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "tests.core.memory"],
        input=manifest.encode(big_manifest(files)),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    before, after, nodes, _ = map(int, done.stdout.split())
    assert nodes > files
    return after - before


def test_a_loaded_stage_takes_little_for_each_file(is_full: bool) -> None:
    few, many = (100_000, 300_000) if is_full else (5_000, 25_000)
    each = (measured(many) - measured(few)) / (many - few)
    assert 300 < each < MOST, f"{each:.0f} bytes"
