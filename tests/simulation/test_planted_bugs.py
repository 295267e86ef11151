"""Each safety mechanism of the protocol is switched off in a copy of the source, and is missed.

A planted bug that the simulation doesn't notice is a rule that nothing holds. That the same tests
pass on the source as it is, `test_protocol` shows.
"""

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.simulation.planted import PLANTED, PROTOCOL, ROOT, Planted

TABLE = ROOT / "docs/reference/planted-bugs.md"


def chosen() -> Sequence[Planted]:
    """All of them, or some that the seed chooses."""
    if os.environ.get("PDFS_TEST_LENGTH") == "full":
        return PLANTED
    return random.Random(os.environ.get("PDFS_TEST_SEED", "0")).sample(PLANTED, 10)


@pytest.mark.parametrize("planted", chosen(), ids=lambda planted: planted.what)
def test_the_simulation_notices_that(planted: Planted, tmp_path: Path) -> None:
    planted.plant(tmp_path)
    run = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "-x", PROTOCOL, "-k", planted.test),
            f"--basetemp={tmp_path / 'pytest'}",
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path),
            "PDFS_TEST_LENGTH": "sample",
            "PDFS_TEST_SEED": str(planted.seed),
        },
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1, f"nothing was noticed:\n{run.stdout[-2000:]}"


def test_a_planted_bug_fits_the_source_it_is_planted_in() -> None:
    for planted in PLANTED:
        text = (ROOT / planted.file).read_text()
        assert text.count(planted.old) == 1, planted.what
        assert text.replace(planted.old, planted.new) != text, planted.what


def test_the_table_in_the_docs_names_every_planted_bug_and_the_rule_that_it_breaks() -> None:
    rows = [line.split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    named = [(row[0].removeprefix("| "), row[1]) for row in rows[1:]]
    assert named == [(planted.what, planted.rule) for planted in PLANTED], "scripts/planted"
