"""Is a history of what several people did to one thing linearisable?

A history is *linearisable* if each event can be given one instant between its beginning and its
end, such that the events, done one after the other at their instants, give just the answers that
they gave. It is found out as Wing and Gong did (Testing and Verifying Concurrent Objects, 1993):
try as the next one each event that may come first, that is one which began before any of those
left had ended, and go back where that led nowhere. Two things keep this short:

- What was done already, with the state that it led to, is not tried twice (Lowe, 2017).
- An event that fits and changes nothing is taken at once: in every order of those left it can be
  moved to the front, since nothing that is left had ended before it began.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Event(Generic[S]):
    """What one did, from `began` to `ended` by one clock that never stands still."""

    what: str
    began: int
    ended: int
    act: Callable[[S], S | None]
    """The state after it, given that before it; None where its answer does not fit that."""


@dataclass(frozen=True, slots=True)
class _Way(Generic[S]):
    """Some events in an order that fits: all before `first`, and those in `ahead`."""

    first: int
    ahead: frozenset[int]
    state: S


def stuck_at(history: Sequence[Event[S]], state: S) -> list[str]:
    """Nothing if the history is linearisable from that state on.

    Else the events one of which has to come next, but fits nowhere, on the longest way found.
    """
    events = sorted(history, key=lambda event: event.began)
    ways, tried = [_Way(0, frozenset(), state)], set[_Way[S]]()
    longest, left = -1, list[int]()
    while ways:
        way = _shortened(ways.pop())
        if way.first == len(events):
            return []
        if way in tried:
            continue
        tried.add(way)
        nexts = _next_events(events, way)
        if way.first + len(way.ahead) > longest:
            longest, left = way.first + len(way.ahead), nexts
        ways += _goes_on(events, way, nexts)
    return [events[number].what for number in left]


def _shortened(way: _Way[S]) -> _Way[S]:
    first, ahead = way.first, way.ahead
    while first in ahead:
        ahead -= {first}
        first += 1
    return replace(way, first=first, ahead=ahead)


def _next_events(events: Sequence[Event[S]], way: _Way[S]) -> list[int]:
    """Those left that began before any of those left had ended."""
    found, earliest = list[int](), math.inf
    for number in range(way.first, len(events)):
        if events[number].began > earliest:
            break
        if number not in way.ahead:
            found.append(number)
            earliest = min(earliest, events[number].ended)
    return found


def _goes_on(events: Sequence[Event[S]], way: _Way[S], nexts: Sequence[int]) -> list[_Way[S]]:
    found = []
    for number in nexts:
        after = events[number].act(way.state)
        if after is None:
            continue
        further = _Way(way.first, way.ahead | {number}, after)
        if after == way.state:
            return [further]
        found.append(further)
    return found
