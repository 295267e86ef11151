"""The stage lock: what it says, and who may take it.

`{stage}.lock.json`, a JSON object for people and machines:

    schema    1
    user, machine          who has the stage, and where; `machine` is for people, it decides nothing
    since, renewed, expires   UTC, ISO 8601, by the owner's clock; only their differences count
    session, run           a lock is ours if both are
    fence                  of the Start that took it
    state                  active, draining (unmounted, still publishing), offline, released
    pending                {files, bytes} not yet published
    pdfs                   version that wrote it
    id                     fresh in every write, so that no two versions have equal ETags

The *age* of a lock is measured by one clock: the store's answer's Date minus the object's
Last-Modified. No local clock is compared with another machine's.
"""

from collections.abc import Set
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pdfs.core import document
from pdfs.core.document import Malformed, Reader
from pdfs.core.ids import MOST_FENCE, Fence, RunId, SessionId
from pdfs.core.timing import Timing
from pdfs.errors import LockUnreadable

SCHEMA = 1
MOST_BYTES = 1 << 16
"""A lock is below 1 KiB; more is something else."""


class LockState(StrEnum):
    """What the owner is doing with the stage."""

    ACTIVE = "active"
    DRAINING = "draining"
    OFFLINE = "offline"
    RELEASED = "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpublished:
    """How much of a session's work is not yet a generation."""

    files: int = 0
    bytes: int = 0

    def __bool__(self) -> bool:
        return self.files > 0 or self.bytes > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """One version of the lock object. Times are seconds since 1970 by its writer's clock."""

    id: str
    user: str
    machine: str
    since: float
    renewed: float
    expires: float
    session: SessionId
    run: RunId
    fence: Fence
    state: LockState
    pending: Unpublished
    pdfs: str

    @property
    def lifetime(self) -> float:
        """Seconds after its last renewal at which anybody may take it."""
        return self.expires - self.renewed


def encode(lock: Lock) -> bytes:
    """The bytes of a lock."""
    return document.render(
        {
            "schema": SCHEMA,
            "user": lock.user,
            "since": moment(lock.since),
            "machine": lock.machine,
            "expires": moment(lock.expires),
            "session": lock.session,
            "run": lock.run,
            "renewed": moment(lock.renewed),
            "fence": lock.fence,
            "state": lock.state,
            "pending": {"files": lock.pending.files, "bytes": lock.pending.bytes},
            "pdfs": lock.pdfs,
            "id": lock.id,
        }
    )


def decode(key: str, body: bytes) -> Lock:
    """The lock in `body`. Raises LockUnreadable, naming `key`, for anything else."""
    try:
        reader = document.parse(body, schema=SCHEMA, most=MOST_BYTES)
        pending = reader.child("pending")
        return Lock(
            id=_shown(reader, "id"),
            user=_shown(reader, "user"),
            machine=_shown(reader, "machine"),
            since=seconds_of(reader.text("since")),
            renewed=seconds_of(reader.text("renewed")),
            expires=seconds_of(reader.text("expires")),
            session=SessionId(_shown(reader, "session")),
            run=RunId(_shown(reader, "run")),
            fence=_fence(reader),
            state=LockState(reader.text("state")),
            pending=Unpublished(files=pending.whole("files"), bytes=pending.whole("bytes")),
            pdfs=_shown(reader, "pdfs"),
        )
    except ValueError as error:
        raise LockUnreadable(
            f"the lock {key!r} is not one that this PDFS can read: {error}",
            remedy="find out who wrote it; if nobody works on the stage: --take-over",
        ) from error


def _shown(reader: Reader, name: str) -> str:
    text = reader.text(name)
    text.encode("utf-8", "surrogateescape")  # half a character is a ValueError, too
    return text


def _fence(reader: Reader) -> Fence:
    fence = reader.whole("fence", least=1)
    if fence > MOST_FENCE:
        raise Malformed(f"fence {fence} leaves no room for the next ones")
    return Fence(fence)


def moment(seconds: float) -> str:
    """A time in seconds since 1970 as people and programs read it: UTC, ISO 8601, with ms."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def seconds_of(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise Malformed(f"{text!r} has no time zone")
        return moment.timestamp()
    except OverflowError as error:
        raise Malformed(f"{text!r} is out of range") from error


_RENEWALS = 5
"""Who has missed so many renewals may be gone."""


def is_lately_renewed(lock: Lock, age: float, timing: Timing) -> bool:
    """Whether its owner lives, as far as a lock that was renewed `age` seconds ago can say."""
    return lock.state is not LockState.RELEASED and age < _RENEWALS * timing.renewal


# --- who may take it ----------------------------------------------------------------------------


class Right(StrEnum):
    """Why a lock may be taken."""

    FREE = "there is none"
    RELEASED = "it was released"
    ENDED = "its session has ended: a late write made the lock again"
    OWN = "it is ours"
    EXPIRED = "its owner has not renewed it in time"
    SAME_MACHINE = "our own crashed session here holds it"
    SAME_USER = "the same user holds it elsewhere and agreed"
    TAKEN_OVER = "a take-over was asked for"


class Refusal(StrEnum):
    """Why it may not."""

    HELD = "another user holds it"
    ALIVE = "a live process on this machine holds it"
    RECENT = "the same user holds it elsewhere and was seen lately"
    OFFLINE = "the same user took it offline elsewhere"
    ASK = "the same user holds it elsewhere: ask"
    WORK_WAITS = "it was released while work waits unpublished elsewhere: ask"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """Who wants the lock, and what is known on this machine."""

    user: str
    session: SessionId
    run: RunId
    crashed: Set[SessionId] = frozenset()
    """Sessions whose state is on this machine and whose process is dead (its flock is free)."""
    alive: Set[SessionId] = frozenset()
    """Sessions whose process lives on this machine."""
    agreed: bool = False
    """The user answered the question of `Refusal.ASK` or `Refusal.WORK_WAITS` with yes."""
    take_over: bool = False


def judge(
    lock: Lock | None,
    age: float,
    claimant: Claimant,
    timing: Timing,
    *,
    has_ended: bool = False,
) -> Right | Refusal:
    """Whether `claimant` may take the stage from `lock`, last renewed `age` seconds ago.

    `has_ended` says that by the root the session of the lock is over: see `Root.has_ended`.
    """
    if lock is None:
        return Right.FREE
    if (lock.session, lock.run) == (claimant.session, claimant.run):
        return Right.OWN
    if claimant.take_over:
        return Right.TAKEN_OVER
    if lock.state is LockState.RELEASED:
        return _judge_released(lock, claimant)
    if lock.session in claimant.alive:
        return Refusal.ALIVE
    if lock.user == claimant.user and lock.session in claimant.crashed:
        return Right.SAME_MACHINE
    if has_ended:
        return Right.ENDED
    if age > lock.lifetime:
        return Right.EXPIRED
    if lock.user != claimant.user:
        return Refusal.HELD
    return _judge_same_user_elsewhere(lock, age, claimant, timing)


def _judge_released(lock: Lock, claimant: Claimant) -> Right | Refusal:
    waits = lock.pending and lock.session not in claimant.crashed
    return Refusal.WORK_WAITS if waits and not claimant.agreed else Right.RELEASED


def _judge_same_user_elsewhere(
    lock: Lock, age: float, claimant: Claimant, timing: Timing
) -> Right | Refusal:
    if lock.state is LockState.OFFLINE:
        return Refusal.OFFLINE
    if age < timing.same_user_elsewhere:
        return Refusal.RECENT
    return Right.SAME_USER if claimant.agreed else Refusal.ASK
