"""Races for one lock, as a relay before the server saw them."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tests.e2e.machines import Bucket, server_bucket
from tests.store.relay import Answered, Asked, Exchange, Forward, Relay, Rule, relayed, through
from tests.store.servers import Server


@dataclass(slots=True)
class Meeting:
    """A rule: a network on which nobody's first lock arrives before as many are under way.

    Who waits `patience` s for the others goes on alone: they may have seen that they are too late.
    """

    expected: int
    patience: float
    behind: Rule = through
    _turn: threading.Condition = field(default_factory=threading.Condition)
    _runs: set[str] = field(default_factory=set)

    def meet(self, expected: int) -> None:
        """From now on so many new ones meet."""
        with self._turn:
            self.expected = expected
            self._runs.clear()

    def __call__(self, asked: Asked, forward: Forward) -> Answered | Iterator[bytes] | None:
        if is_of_lock(asked) and self._is_new(run_of(asked)):
            with self._turn:
                self._turn.notify_all()
                self._turn.wait_for(lambda: len(self._runs) >= self.expected, self.patience)
        return self.behind(asked, forward)

    def _is_new(self, run: str) -> bool:
        with self._turn:
            is_new = run not in self._runs
            self._runs.add(run)
            return is_new


def is_of_lock(asked: Asked) -> bool:
    """Whether it writes a stage's lock."""
    return asked.method == "PUT" and asked.key.endswith(".lock.json")


def run_of(asked: Asked) -> str:
    """Which process wrote this lock."""
    found: str = json.loads(asked.body)["run"]
    return found


def winner_of(exchanges: list[Exchange]) -> Exchange:
    """The first lock that was taken; fails where a second run took it, too."""
    won = [each for each in exchanges if is_of_lock(each.asked) and each.status == 200]
    assert len({run_of(each.asked) for each in won}) == 1, "the lock was given to two"
    return won[0]


def is_overlapping(exchanges: list[Exchange]) -> bool:
    """Whether somebody else's lock was sent before the winner's answer came."""
    winner = winner_of(exchanges)
    assert winner.answered is not None
    return any(
        is_of_lock(each.asked)
        and run_of(each.asked) != run_of(winner.asked)
        and each.asked.arrived < winner.answered
        for each in exchanges
    )


def late(seconds: float, behind: Rule = through) -> Rule:
    """A rule: every request is so long on its way, and every answer too."""

    def rule(asked: Asked, forward: Forward) -> Answered | Iterator[bytes] | None:
        time.sleep(seconds)
        answer = behind(asked, forward)
        time.sleep(seconds)
        return answer

    return rule


@contextmanager
def relayed_bucket(server: Server, prefix: str, rule: Rule) -> Iterator[tuple[Bucket, Relay]]:
    """A bucket of the server behind a relay of its own."""
    with relayed(server, rule) as relay:
        yield replace(server_bucket(relay.server, prefix), kind=server.kind), relay
