"""Bugs that are planted in a copy of the source, each to be noticed by tests that it names.

A list of them lies beside the tests that hold what it switches off: `tests.simulation.planted` for
the protocol, `tests.local.planted` for the journal, `tests.stage.planted` for read-only mounts.
`tests/test_planted_bugs.py` plants some of
them, `scripts/planted` all, and writes the table of them.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_COPIED = ("pdfs", "tests")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?)(?:\[| - |$)", re.MULTILINE)
_RUN = re.compile(r"run (\d+) of this process")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """Replace `old` by `new` in `file`; `old` stands there exactly once."""

    what: str
    """What the product does wrong then."""
    rule: str
    """Which rule that breaks."""
    file: str
    old: str
    new: str
    where: str
    """The files of tests that notice it, with a space between them."""
    test: str
    """Which tests there, as pytest's `-k` selects them."""
    seed: int = 0
    """With which it was seen to be noticed."""
    is_by_stranger: bool = False
    """Planted by somebody who had not seen the tests."""

    @property
    def selection(self) -> "Selection":
        """The tests that notice it."""
        return Selection(self.where, self.test, self.seed)

    def plant(self, copy: Path) -> None:
        """Put it into a copy of the project."""
        target = copy / self.file
        text = target.read_text()
        assert text.count(self.old) == 1, f"planted bug {self.what!r} fits the source no more"
        target.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True, slots=True)
class Selection:
    """Some tests, and the seed of their chance."""

    where: str
    test: str
    seed: int

    def __str__(self) -> str:
        """As one types it behind `pytest`, in the directory of the tests."""
        return f"{self.where.replace('tests/', '')} -k '{self.test}'"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a selection of tests."""

    code: int
    """pytest's exit code: 1 = tests failed, others above 0 = they could not run."""
    said: str

    @property
    def first(self) -> str:
        """The test that failed first, and in which run of a simulation; empty for none."""
        failed, run = _FAILED.search(self.said), _RUN.search(self.said)
        name = failed[1].rpartition("::")[2] if failed else ""
        return f"{name}, run {run[1]}" if failed and run else name


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedBugs:
    """One list of them, as the documents tell it."""

    title: str
    about: str
    """Markdown."""
    bugs: Sequence[Planted]
    sample: int
    """So many are planted in each run of the tests; all of them in a full one."""


def copy_source(target: Path) -> None:
    """Make `target`, which is there, a copy of the project as far as tests need it."""
    for name in _COPIED:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", target)


def run_tests(copy: Path, selection: Selection) -> Outcome:
    """Run these tests of a copy on it, up to the first that fails."""
    where = selection.where.split()
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", *where, "-k", selection.test),
            f"--basetemp={copy / 'pytest'}",
        ],
        cwd=copy,
        env={
            **os.environ,
            "PYTHONPATH": str(copy),
            "PDFS_TEST_LENGTH": "sample",
            "PDFS_TEST_SEED": str(selection.seed),
        },
        capture_output=True,
        text=True,
    )
    return Outcome(run.returncode, run.stdout + run.stderr)
