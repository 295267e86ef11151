"""A finding: one deviation of a stage from what was published, in words.

Its level says of which sort it is:

    damage     bytes or names that are not what was written, or are nowhere to be found
    foreign    what another tool did to the plain objects, as it may: the next mount takes it in
    waiting    unfinished work of a session: the next mount, or its own resume, goes on with it
    leftover   objects and uploads that nobody can need any more
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final


class Level(StrEnum):
    """Of which sort a finding is."""

    DAMAGE = "damage"
    FOREIGN = "foreign"
    WAITING = "waiting"
    LEFTOVER = "leftover"


@dataclass(frozen=True, slots=True)
class Finding:
    """One deviation, in words."""

    level: Level
    kind: str
    """What sort of deviation it is, for programs."""
    path: str
    """Of a file, or the key of another object."""
    what: str
    means: str
    remedy: str
    is_repairable: bool = False
    """Whether a repair has something to do about it."""


damage: Final = partial(Finding, Level.DAMAGE)
"""One of what is not as it was written."""
waiting: Final = partial(Finding, Level.WAITING)
"""One of what is not finished."""
