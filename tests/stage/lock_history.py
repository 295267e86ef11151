"""What people at one lock did and were told, as histories of two registers: the lock and the root.

Both go from owner to owner, and the fence orders them. A Start takes the lock first and the root a
moment later, each at one instant of its own: so each register has its own history, in which what
one does to the other has no place.

    the lock     took, was refused (by whom), renewed, gave back; or: found it gone
    the root     took, committed; or: found it gone

Two events are done without being told. A Start that lost the root to another goes round once more,
and so takes the lock more than once; so does one whose first try was carried out, answered to
nobody, and taken away; each answers with the last fence only. And who gave back, whose
answer was lost, and who was then replaced, is told that the stage is another's. What ever stood in
the bucket is known, so these are added: some time during what their owners did.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field

from tests.stage.linear import Event, stuck_at


@dataclass(frozen=True, slots=True)
class Held:
    """Who has it."""

    run: str
    fence: int


@dataclass(frozen=True, slots=True)
class Register:
    """The lock, or the root, at one instant."""

    owner: Held | None = None
    fence: int = 0
    """The highest so far."""
    is_echo: bool = False
    """The owner's had been raised above elsewhere before it arrived: it protects nothing."""


Act = Callable[[Register], Register | None]


def takes(mine: Held, *, by_force: bool) -> Act:
    """Free, one's own by an earlier fence, or taken by force; under a fence above all before."""

    def act(now: Register) -> Register | None:
        if mine.fence <= now.fence or not _may_take(mine, now, by_force=by_force):
            return None
        return Register(mine, mine.fence)

    return act


def also_takes(mine: Held, *, by_force: bool) -> Act:
    """The same; but what was sent long ago may arrive when the fence was raised elsewhere.

    Its sender then loses the root, and whoever looks there sees that this lock protects nothing.
    """

    def act(now: Register) -> Register | None:
        if not _may_take(mine, now, by_force=by_force):
            return None
        return Register(mine, max(mine.fence, now.fence), is_echo=mine.fence <= now.fence)

    return act


def _may_take(mine: Held, now: Register, *, by_force: bool) -> bool:
    return by_force or now.owner is None or now.is_echo or now.owner.run == mine.run


def is_of(whose: Held) -> Act:
    """It is his: he keeps it, or another is refused because of him."""
    return lambda now: now if now.owner == whose else None


def is_gone(mine: Held) -> Act:
    return lambda now: now if now.owner != mine else None


def gives_back(mine: Held) -> Act:
    """It is free, if it was still his."""
    return lambda now: Register(None, now.fence) if now.owner == mine else now


@dataclass(slots=True)
class Recorder:
    """Collects the events. Times are numbers in the order in which all of it happened."""

    lock: list[Event[Register]] = field(default_factory=list)
    root: list[Event[Register]] = field(default_factory=list)
    refused_to_former: int = 0
    """How often one who had lost the stage was told so."""
    _times: Iterator[int] = field(default_factory=lambda: itertools.count())
    _starts: dict[str, tuple[int, int, bool]] = field(default_factory=dict)
    """Of each run: when its Start began and ended, and whether by force."""
    _in_vain: dict[Held, tuple[int, int]] = field(default_factory=dict)
    """When who gave back in vain, as he was told, began and ended that."""

    @property
    def count(self) -> int:
        return len(self.lock) + len(self.root)

    def begin(self) -> int:
        return next(self._times)

    def took(self, began: int, mine: Held, *, by_force: bool) -> None:
        ended = self._started(began, mine.run, by_force=by_force)
        act = takes(mine, by_force=by_force)
        self.lock.append(Event(f"took {mine}", began, ended, act))
        self.root.append(Event(f"took {mine}", began, ended, takes(mine, by_force=True)))

    def was_refused(self, began: int, run: str, whose: Held) -> None:
        ended = self._started(began, run, by_force=False)
        self.lock.append(Event(f"{run} refused by {whose}", began, ended, is_of(whose)))

    def renewed(self, began: int, mine: Held) -> None:
        self.lock.append(Event(f"renewed {mine}", began, next(self._times), is_of(mine)))

    def committed(self, began: int, mine: Held) -> None:
        self.root.append(Event(f"committed {mine}", began, next(self._times), is_of(mine)))

    def lost_lock(self, began: int, mine: Held) -> None:
        self.refused_to_former += 1
        self.lock.append(Event(f"lost lock {mine}", began, next(self._times), is_gone(mine)))

    def lost_root(self, began: int, mine: Held) -> None:
        self.refused_to_former += 1
        self.root.append(Event(f"lost root {mine}", began, next(self._times), is_gone(mine)))

    def gave_back(self, began: int, mine: Held) -> None:
        """Its session has ended in the root, from when on its lock counts no more."""
        self.lock.append(Event(f"gave back {mine}", began, next(self._times), gives_back(mine)))

    def gave_back_in_vain(self, began: int, mine: Held) -> None:
        self.lost_root(began, mine)
        self._in_vain[mine] = (began, self.root[-1].ended)

    def stood_there(self, locks: Sequence[Held], roots: Sequence[Held], over: Set[Held]) -> None:
        """Who came to own lock and root in the bucket, and whose session the root called over.

        To be told last.
        """
        for register, found in ((self.lock, locks), (self.root, roots)):
            told = Counter(event.what for event in register)
            for each in found:
                told[f"took {each}"] -= 1
                if told[f"took {each}"] < 0:
                    began, ended, by_force = self._starts[each.run]
                    act = also_takes(each, by_force=by_force or register is self.root)
                    register.append(Event(f"also took {each}", began, ended, act))
        for mine in over & self._in_vain.keys():
            self.lock.append(Event(f"gave back {mine}", *self._in_vain[mine], gives_back(mine)))

    def stuck_at(self) -> list[str]:
        """Nothing if both histories are linearisable, else where one is not."""
        return stuck_at(self.lock, Register()) or stuck_at(self.root, Register())

    def _started(self, began: int, run: str, *, by_force: bool) -> int:
        ended = next(self._times)
        self._starts[run] = (began, ended, by_force)
        return ended
