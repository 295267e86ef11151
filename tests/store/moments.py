"""Rules for a relay that concern one request, chosen by its number: what happens to that one."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.store.relay import GIVE_UP, Answered, Asked, Forward, Rule, through


@dataclass(slots=True)
class AtRequest:
    """A rule: something happens to request number `at` of those that count, from `arm` on."""

    counts: Callable[[Asked], bool]
    at: int = 0
    happen: Rule = through
    counted: int = 0
    met: Asked | None = None
    """The request that it happened to."""
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, at: int, happen: Rule) -> None:
        """From now on requests are counted, from 1; with 0 nothing happens any more."""
        with self._turn:
            self.at, self.happen, self.counted, self.met = at, happen, 0, None

    def __call__(self, asked: Asked, forward: Forward) -> Answered | Iterator[bytes] | None:
        return (self.happen if self._is_it(asked) else through)(asked, forward)

    def _is_it(self, asked: Asked) -> bool:
        with self._turn:
            if not self.at or self.met is not None or not self.counts(asked):
                return False
            self.counted += 1
            if self.counted == self.at:
                self.met = asked
            return self.met is asked


def killing(kill: Callable[[], None], *, is_carried_out: bool) -> Rule:
    """Its sender dies: before the request reaches the server, or before the answer comes back."""

    def happen(asked: Asked, forward: Forward) -> None:
        if is_carried_out:
            forward(asked)
        kill()

    return happen


@dataclass(slots=True)
class Held:
    """It stays on its way until it is let go, however long that takes; then it arrives."""

    is_held: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    answer: Answered | None = None
    is_over: threading.Event = field(default_factory=threading.Event)

    def __call__(self, asked: Asked, forward: Forward) -> Answered:
        self.is_held.set()
        self.go_on.wait(GIVE_UP)
        try:
            self.answer = forward(asked)
        finally:
            self.is_over.set()
        return self.answer
