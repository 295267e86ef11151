"""Prints what the simulation hit: each step of the protocol against each fault of the network."""

from collections.abc import Iterator

import pytest

from pdfs.store.faulty import Fate
from pdfs.store.step import Step

HITS = "hits of a step"
"""Property of a test: (step, fault, how often a request of that step had that fault)."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    hits = {(step, fate): count for step, fate, count in _hits(terminalreporter)}
    if hits:
        terminalreporter.section("step × fault: requests that had it; · where it can't be")
        for line in _table(hits):
            terminalreporter.write_line(line)


def _hits(terminalreporter: pytest.TerminalReporter) -> Iterator[tuple[str, str, int]]:
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == HITS:
                    step, fate, count = str(value).split("|")
                    yield step, fate, int(count)


def _table(hits: dict[tuple[str, str], int]) -> Iterator[str]:
    fates = [fate for fate in Fate if fate is not Fate.FINE]
    yield " " * 32 + "".join(f"{fate:>14}" for fate in fates)
    for step in Step:
        yield f"{step:<32}" + "".join(f"{hits.get((step, fate), '·'):>14}" for fate in fates)
