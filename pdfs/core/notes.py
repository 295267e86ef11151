"""What a session's log tells of: each kind of event as a value.

A note carries what a person or a script wants to know afterwards, never what a file holds. Numbers
stand in it where an event comes once a file: fetches are counted, not listed.
"""

from dataclasses import dataclass, fields
from typing import ClassVar

from pdfs.core.ids import Fence, Path
from pdfs.core.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """The session is in another state now."""

    event: ClassVar[str] = "state"
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Somebody wants the session published or ended: a command, or a signal by its name."""

    event: ClassVar[str] = "asked"
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockTaken:
    """The stage is this session's; also when it is taken once more to find out a lost answer."""

    event: ClassVar[str] = "lock_taken"
    fence: Fence


@dataclass(frozen=True, slots=True, kw_only=True)
class LockNotRenewed:
    """The lock stays as it was written before; it is tried again."""

    event: ClassVar[str] = "lock_not_renewed"
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockTakenAway:
    """The stage is another's; nothing more is uploaded."""

    event: ClassVar[str] = "lock_lost"
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockReleased:
    """The stage is free; so much of this session waits here unpublished."""

    event: ClassVar[str] = "lock_released"
    files: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """Processes see the stage."""

    event: ClassVar[str] = "mounted"
    mountpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmounted:
    """No process sees it any more."""

    event: ClassVar[str] = "unmounted"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenIn:
    """What other tools did to the plain objects is in the tree."""

    event: ClassVar[str] = "taken_in"
    changes: int
    skipped: int
    """Keys that no file can be shown for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """So much came from the bucket since the last such line."""

    event: ClassVar[str] = "fetched"
    parts: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishBegun:
    """So much of the session is to become a generation."""

    event: ClassVar[str] = "publish_begun"
    files: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The commit point is passed. Missing where its answer was lost: `published` tells it then."""

    event: ClassVar[str] = "committed"
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """All of it is verified in the bucket."""

    event: ClassVar[str] = "published"
    generation: int
    files: int | None
    """None where an earlier process began it; its `publish_begun` says it."""
    bytes: int | None
    missing: int
    """Files of that generation whose bytes are nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """Objects that nobody could need any more are gone from the bucket."""

    event: ClassVar[str] = "collected"
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCollected:
    """Why such objects are still there; a later session tries again."""

    event: ClassVar[str] = "not_collected"
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictCopied:
    """Another tool changed the same file: ours is at `path`."""

    event: ClassVar[str] = "conflict"
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRemoved:
    """It was removed here, but another tool had changed it: theirs stays."""

    event: ClassVar[str] = "not_removed"
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PutAside:
    """A user wants the publish to end without the plain object of `path`."""

    event: ClassVar[str] = "set_aside"
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Troubled:
    """Something keeps the session from getting on; it goes on trying."""

    event: ClassVar[str] = "trouble"
    kind: str
    """The error's class in `errors`."""
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """So many tries of the same have failed; told at 2, 4, 8, …"""

    event: ClassVar[str] = "retry"
    tries: int
    what: str
    """Why the last of them did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubleOver:
    """Nothing does any more."""

    event: ClassVar[str] = "trouble_over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The process ends before its session does; what is unpublished stays for recovery."""

    event: ClassVar[str] = "failed"
    kind: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CameTo:
    """The session is over: what its end answers to who waits for it."""

    event: ClassVar[str] = "outcome"
    exit_code: int
    is_aborted: bool
    """It was ended without publishing."""
    missing: int
    """Files whose bytes are nowhere."""
    damage: str
    """What was found damaged, in words; or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """What the daemon printed as a warning or an error."""

    event: ClassVar[str] = "message"
    level: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Discarded:
    """The session was given up after a crash; its work is in the trash."""

    event: ClassVar[str] = "discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class BroughtBack:
    """A session that was given up waits for recovery again."""

    event: ClassVar[str] = "brought_back"


Note = (
    StateChanged
    | Asked
    | LockTaken
    | LockNotRenewed
    | LockTakenAway
    | LockReleased
    | Mounted
    | Unmounted
    | TakenIn
    | Fetched
    | PublishBegun
    | Committed
    | Published
    | Collected
    | NotCollected
    | ConflictCopied
    | NotRemoved
    | PutAside
    | Troubled
    | Retried
    | TroubleOver
    | Failed
    | CameTo
    | Warned
    | Discarded
    | BroughtBack
)


def fields_of(note: Note) -> dict[str, object]:
    """The fields of a note, by name."""
    return {field.name: getattr(note, field.name) for field in fields(note)}
