"""Bytes for each inode: memory grows by this much from a small stage to one of many files."""

import subprocess
import sys
from pathlib import Path

import pytest

from pdfs.core import manifest
from tests.conftest import Reached
from tests.core.memory import big_manifest
from tests.lengths import Length

MOST = 1024
"""Bytes."""
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


@pytest.mark.figure(name="H3")
def test_a_loaded_stage_takes_little_for_each_file(length: Length, reached: Reached) -> None:
    few, many = length.pick(
        sample=(5_000, 25_000), full=(100_000, 300_000), long=(100_000, 1_000_000)
    )
    each = (measured(many) - measured(few)) / (many - few)
    assert 300 < each < MOST, f"{each:.0f} bytes"
    reached(many, "files in memory")
