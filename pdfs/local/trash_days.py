"""How long discarded sessions were seen in the trash: an age that no wrong clock makes up.

    {"schema": 1, "sessions": {session: {"discarded": s, "at": s, "days": n}}}

A clock can be years ahead for a while: what it calls old is deleted and gone. So besides the age
by the clock there are the days on which somebody looked: whoever looks a day or more after the last
day that counted adds one, however far the clock went, and one that went back adds none. Damage, or
the file's loss, begins them anew: what is in the trash only stays longer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from pdfs.core.document import Malformed, Reader, parse, render
from pdfs.core.ids import SessionId

DAY: Final = 86400.0
_SCHEMA: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One discarded session."""

    discarded: float
    """When, in s since 1970, by the clock of then; who is discarded again begins anew."""
    at: float
    """When a day counted last, likewise."""
    days: int
    """So many have counted; each was a day or more after the one before."""


TrashDays = Mapping[SessionId, Seen]


def days_with(before: TrashDays, discarded: Mapping[SessionId, float], now: float) -> TrashDays:
    """The days after a look at `now` that found these sessions; those that are gone drop out."""
    return {
        session: _seen_again(before.get(session), when, now) for session, when in discarded.items()
    }


def _seen_again(before: Seen | None, discarded: float, now: float) -> Seen:
    if before is None or before.discarded != discarded:
        return Seen(discarded=discarded, at=now, days=0)
    if now < before.at:
        return replace(before, at=now)
    if now - before.at >= DAY:
        return replace(before, at=now, days=before.days + 1)
    return before


def encode_days(days: TrashDays) -> bytes:
    """The file's bytes."""
    fields = {
        session: {"discarded": seen.discarded, "at": seen.at, "days": seen.days}
        for session, seen in days.items()
    }
    return render({"schema": _SCHEMA, "sessions": fields})


def decode_days(raw: bytes) -> TrashDays:
    """What `encode_days` wrote; nothing where these bytes are anything else."""
    try:
        sessions = parse(raw, schema=_SCHEMA).mapping("sessions")
        return {SessionId(session): _decoded(Reader(each)) for session, each in sessions.items()}
    except Malformed:
        return {}


def _decoded(reader: Reader) -> Seen:
    return Seen(
        discarded=reader.number("discarded"), at=reader.number("at"), days=reader.whole("days")
    )
