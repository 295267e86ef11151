"""What every step of the protocols needs to know, as one value."""

import math
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import trio

from pdfs.core.content import PART_SIZE, Digest
from pdfs.core.ids import ObjectName, Path, PublishId, RunId, SessionId
from pdfs.core.keys import StageKeys
from pdfs.core.manifest import Manifest
from pdfs.core.plan import Plan
from pdfs.core.settle import Outcome
from pdfs.core.timing import Timing
from pdfs.stage.aside import Aside
from pdfs.stage.uploads import Uploads
from pdfs.stage.wake import Wake
from pdfs.store.objects import ObjectStore
from pdfs.store.retry import Patience


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who works: a user on a machine, in one process of one session."""

    user: str
    machine: str
    session: SessionId
    run: RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Where contents are packed, sent whole, or cut into parts; in bytes."""

    small: int = 1 << 20
    """Contents below it share contents objects."""
    pack: int = 8 << 20
    """A contents object of small contents is sent when it has reached this size."""
    part: int = PART_SIZE
    """Smallest part of the grid of big contents."""
    whole: int = 16 << 20
    """Contents above it are sent in parts, where the store has conditions for that."""
    parallel: int = 10
    """Requests under way at once."""


T = TypeVar("T")


class Compute(Protocol):
    """Calls what only computes, of values that nobody changes meanwhile.

    Of a stage of 100,000 files that takes seconds: who serves one has it done in a thread, so that
    requests go on.
    """

    async def __call__(self, call: Callable[[], T], /) -> T: ...


async def at_once(call: Callable[[], T]) -> T:
    """Here and now: where nobody is served meanwhile."""
    await trio.lowlevel.checkpoint()
    return call()


class InThread:
    """In a thread, one after the other. Cancelled, nobody waits for what it does."""

    def __init__(self) -> None:
        self._limit = trio.CapacityLimiter(1)

    async def __call__(self, call: Callable[[], T], /) -> T:
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limit)


async def _forget(name: Digest, part: bytes) -> None:
    pass


@dataclass(slots=True)
class Unanswered:
    """Unconditional deletes of this process whose outcome is unknown: until when they are valid.

    Nothing is settled, or put, before that: such a delete could hit what is newer.
    """

    _until: float = -math.inf

    def note(self, seconds: float) -> None:
        """One is valid for so long from now."""
        self._until = max(self._until, trio.current_time() + seconds)

    async def wait_out(self) -> None:
        """Return when none is valid any more."""
        await trio.sleep_until(self._until)


@dataclass(slots=True)
class RootWrites:
    """How many writes to the root this process has begun, whatever became of them."""

    begun: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StageContext:
    """The stage, its store, who works on it, and the sources of time and chance."""

    store: ObjectStore
    keys: StageKeys
    owner: Owner
    timing: Timing
    sizes: Sizes
    now: Callable[[], float]
    """Seconds since 1970 by this machine's clock; for people, never compared with another's."""
    new_id: Callable[[], str]
    """A fresh UUID4 in hex."""
    patience: Patience
    uid: int
    gid: int
    """Who owns the files of a new mount."""
    version: str
    """Of PDFS, for the lock."""
    trees: MutableMapping[ObjectName, Manifest]
    """Manifests read or written lately; they are immutable."""
    plans: MutableMapping[ObjectName, Plan]
    applied: dict[PublishId, dict[Path, Outcome]] = field(default_factory=dict)
    """Steps of the plan that is being applied which this process has done."""
    aside: Aside = field(default_factory=Aside)
    """Steps that fail, and which of them a user wants left undone."""
    root_writes: RootWrites = field(default_factory=RootWrites)
    unanswered: Unanswered = field(default_factory=Unanswered)
    wake: Wake = field(default_factory=Wake)
    keep: Callable[[Digest, bytes], Awaitable[None]] = _forget
    """Keeps a part, by its name in the cache, where it can be read without the bucket."""
    compute: Compute = at_once
    uploads: Uploads = field(default_factory=Uploads)
    """How far the bytes are that go up; `patience` tells it of requests that failed."""

    def is_visible(self, path: Path) -> bool:
        """Whether a plain object can have this path."""
        return self.keys.why_invisible(path, self.store.max_key_bytes) is None
