"""Each safety mechanism of protocol and journal is switched off in a copy of the source.

A planted bug that no test notices is a rule that nothing holds. That the same tests pass on the
source as it is, their own run shows.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.planted import JOURNAL
from tests.planted import ROOT, Planted, PlantedBugs, copy_source, run_tests
from tests.simulation.planted import PROTOCOL
from tests.stage.planted import READING

LISTS = (PROTOCOL, JOURNAL, READING)
TABLE = ROOT / "docs/reference/planted-bugs.md"


def chosen(planted: PlantedBugs) -> Iterator[Planted]:
    """All of them, or some that the seed chooses."""
    if os.environ.get("PDFS_TEST_LENGTH", "sample") != "sample":
        yield from planted.bugs
    else:
        choice = random.Random(os.environ.get("PDFS_TEST_SEED", "0"))
        yield from choice.sample(planted.bugs, planted.sample)


@pytest.mark.parametrize(
    "planted", [bug for each in LISTS for bug in chosen(each)], ids=lambda planted: planted.what
)
def test_the_tests_notice_that(planted: Planted, tmp_path: Path) -> None:
    copy_source(tmp_path)
    planted.plant(tmp_path)
    outcome = run_tests(tmp_path, planted.selection)
    assert outcome.code == 1, f"nothing was noticed:\n{outcome.said[-2000:]}"


@pytest.mark.parametrize("planted", LISTS, ids=lambda planted: planted.title)
def test_a_planted_bug_fits_the_source_it_is_planted_in(planted: PlantedBugs) -> None:
    for bug in planted.bugs:
        text = (ROOT / bug.file).read_text()
        assert text.count(bug.old) == 1, bug.what
        planted_in = text.replace(bug.old, bug.new)
        assert planted_in != text, bug.what
        compile(planted_in, bug.file, "exec")


def test_the_table_in_the_docs_names_every_planted_bug_and_the_rule_that_it_breaks() -> None:
    rows = [line.split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    named = [(row[0].removeprefix("| "), row[1]) for row in rows if row[0] != "| what goes wrong"]
    assert named == [(bug.what, bug.rule) for each in LISTS for bug in each.bugs], "scripts/planted"
