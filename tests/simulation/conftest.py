"""Prints what the simulation hit: each step of the protocol against each fault of the network, and
how long its schedules are.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import pytest

from pdfs.store.faulty import Fate
from tests.conftest import ExpectedWarnings
from tests.simulation.table import CELLS, SESSION_STEPS
from tests.simulation.world import World

HITS = "hits of a step"
"""Property of a test: (step, fault, how often a request of that step had that fault)."""
SCHEDULES = "schedules"
"""Property of a test: for each of its schedules, how many publishes and requests it has."""

LEAST_PUBLISHES, LEAST_REQUESTS = 2, 40
"""Of the median schedule."""


@dataclass(slots=True)
class Schedules:
    """The runs of one test, by what happens in them."""

    counted: list[tuple[int, int]] = field(default_factory=list)
    """Publishes and requests of each."""

    def add(self, world: World) -> None:
        """One run that is over."""
        self.counted.append((world.publishes, world.requests))

    def check(self) -> None:
        """The median schedule is no trifle."""
        if not self.counted:
            return  # the first of them failed
        publishes, requests = medians(self.counted)
        assert publishes >= LEAST_PUBLISHES, self.counted
        assert requests >= LEAST_REQUESTS, self.counted


def medians(counted: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Publishes and requests of the median schedule."""
    publishes, requests = zip(*counted, strict=True)
    return median(publishes), median(requests)


@pytest.fixture(autouse=True)
def _readers_in_trouble(expected_warnings: ExpectedWarnings) -> Iterator[None]:
    """A read-only mount that a fault hits warns of it, and looks again."""
    yield
    expected_warnings.records[:] = [
        record
        for record in expected_warnings.records
        if "no newer generation can be shown" not in record.getMessage()
    ]


@pytest.fixture
def schedules(record_property: Callable[[str, object], None]) -> Iterator[Schedules]:
    """To which a test adds each of its runs."""
    found = Schedules()
    record_property(SCHEDULES, found.counted)
    yield found
    found.check()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = [str(value).split("|") for value in _properties(terminalreporter, HITS)]
    hits = {(step, fate): int(count) for step, fate, count in told}
    if hits:
        terminalreporter.section(
            f"step × fault: {len(hits)} of {len(CELLS)} cells; – where it can't be"
        )
        for line in _table(hits):
            terminalreporter.write_line(line)
    counted = [each for values in _properties(terminalreporter, SCHEDULES) for each in values]
    if counted:
        publishes, requests = medians(counted)
        terminalreporter.write_line(
            f"{len(counted):,} schedules; the median has {publishes:g} publishes and"
            f" {requests:g} requests"
        )


def _properties(terminalreporter: pytest.TerminalReporter, wanted: str) -> Iterator[Any]:
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == wanted:
                    yield value


def _table(hits: dict[tuple[str, str], int]) -> Iterator[str]:
    fates = [fate for fate in Fate if fate is not Fate.FINE]
    yield " " * 28 + "".join(f"{fate:>13}" for fate in fates)
    for step in SESSION_STEPS:
        row = (hits.get((step, fate), "·" if (step, fate) in CELLS else "–") for fate in fates)
        yield f"{step:<28}" + "".join(f"{hit:>13}" for hit in row)
