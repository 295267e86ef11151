"""A simulated machine: a user, a disk that survives crashes, and processes that don't."""

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

import trio

from pdfs.core import snapshot
from pdfs.core.content import Content
from pdfs.core.ids import Fence, RunId, SessionId
from pdfs.core.keys import StageKeys
from pdfs.core.lease import Claimant
from pdfs.core.timing import Timing
from pdfs.core.tree import Tree
from pdfs.disk import Buffer, OsDisk
from pdfs.errors import JournalFailed
from pdfs.local.journal import Appended
from pdfs.local.journal_tasks import SyncPoint
from pdfs.local.ledger import Ledger
from pdfs.local.replay import replay
from pdfs.session import StageSession
from pdfs.stage.context import Owner, Sizes, StageContext
from pdfs.stage.fetch import fetch_span
from pdfs.stage.work import Work
from pdfs.store.faulty import Fate, FaultyStore, Network, Request
from pdfs.store.memory import MemoryStore
from pdfs.store.objects import Listed
from pdfs.store.retry import Patience

EPOCH = 1_800_000_000.0
"""What the store's clock shows when a run begins, in seconds since 1970."""

SIZES = Sizes(small=64, pack=256, part=128, whole=512, parallel=3)
"""So small that contents of a few hundred bytes take every path."""

TIMING = Timing(
    renewal=60.0,
    answer=10.0,
    patience=25.0,
    backoff=0.5,
    backoff_limit=20.0,
    foreign_plan_wait=60.0,
    follow=300.0,
)


SKEWS = (-10 * 365 * 86400.0, -86400.0, -300.0, 0.0, 0.1, 3600.0, 86400.0, 10 * 365 * 86400.0)
"""By how much a machine's own clock can be wrong, in seconds."""


STALE = (0.0, 1.0, 60.0, 600.0, 7200.0)
"""By how much a stale listing is behind, for each key, in seconds."""


class Killed(BaseException):
    """The process is dead: it neither hears nor says anything more."""


@dataclass(frozen=True, slots=True)
class SimulatedRecord:
    """One record in a journal in memory."""

    sequence: int
    kind: int
    body: bytes
    segment: int
    data_offset: int
    data_size: int


@dataclass(slots=True)
class SimulatedDisk:
    """What one session keeps on a machine: a snapshot and a journal, both synced at once."""

    session: SessionId
    snapshot: bytes
    records: list[SimulatedRecord] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    is_held: bool = True
    """A live process has the session open (its flock)."""


class SimulatedJournal:
    """The journal of a live process on a `SimulatedDisk`; kill -9 loses nothing of it."""

    def __init__(self, disk: SimulatedDisk, is_dead: Callable[[], bool]) -> None:
        self._disk = disk
        self._is_dead = is_dead
        self._synced = self.last_sequence

    @property
    def last_sequence(self) -> int:
        return len(self._disk.records)

    @property
    def synced_sequence(self) -> int:
        return self._synced

    def append(self, kind: int, body: bytes, data: Buffer = b"", *, keep: int = 0) -> Appended:
        if self._is_dead():
            raise Killed
        at = len(self._disk.data)
        self._disk.data += data
        sequence = self.last_sequence + 1
        self._disk.records.append(SimulatedRecord(sequence, kind, body, 1, at, len(data)))
        return Appended(sequence, 1, at)

    def sync_point(self) -> SyncPoint:
        return SyncPoint(self.last_sequence, OsDisk(), ())

    def mark_synced(self, point: SyncPoint) -> None:
        self._synced = point.sequence

    def mark_failed(self, point: SyncPoint, error: BaseException) -> JournalFailed:
        raise AssertionError(f"nothing can fail here: {error}")

    def pinned(self) -> AbstractContextManager[None]:
        return nullcontext()

    def read(self, segment: int, offset: int, length: int) -> bytes:
        return bytes(self._disk.data[offset : offset + length])


@dataclass(slots=True)
class Ticking:
    """How many ids a run has given out."""

    count: int = 0


class Sender(Protocol):
    """A process, as far as the network knows it."""

    def fate_of(self, request: Request) -> Fate: ...

    def die(self) -> NoReturn: ...


class Machine:
    """One machine of one user. `mount` runs one process of it, to its end or its death."""

    def __init__(
        self,
        name: str,
        user: str,
        *,
        store: MemoryStore,
        keys: StageKeys,
        rng: random.Random,
        nursery: trio.Nursery,
        fate_of: Callable[["Machine", Request], Fate],
    ) -> None:
        self.name = name
        self.user = user
        self.disks: dict[SessionId, SimulatedDisk] = {}
        self.claims: dict[RunId, Claimant] = {}
        """What each process said when it asked for the stage."""
        self.lateness: tuple[float, ...] = (1.0, 20.0, 40.0, 300.0, 7200.0)
        """How late its requests can be, and how long it can be frozen, in seconds."""
        self._skew = rng.choice(SKEWS)
        self._store = store
        self._keys = keys
        self._rng = rng
        self._nursery = nursery
        self._fate_of = fate_of

    @property
    def crashed(self) -> list[SimulatedDisk]:
        """Sessions whose process is dead, oldest first."""
        return [disk for disk in self.disks.values() if not disk.is_held]

    def fate_of(self, request: Request) -> Fate:
        """What befalls a request of a process that runs here."""
        return self._fate_of(self, request)

    async def mount(
        self,
        serve: "Serve",
        *,
        resume: SimulatedDisk | None = None,
        agreed: bool = False,
        take_over: bool = False,
    ) -> "Process":
        """Run one process; returns when it has ended or died. Raises what the session raises."""
        process = Process(self, resume)
        await process.run(serve, agreed=agreed, take_over=take_over)
        return process

    def new_id(self) -> str:
        return f"{self._rng.getrandbits(128):032x}"

    def stale(self, prefix: str) -> Sequence[Listed]:
        """A listing in which each key is as old as chance will have it."""
        now = self._store_time()
        return self._store.listed_at(prefix, lambda key: now - self._rng.choice(STALE))

    @staticmethod
    def _store_time() -> float:
        return EPOCH + trio.current_time()

    def context(self, process: "Sender", session: SessionId) -> StageContext:
        network = Network(
            fate_of=process.fate_of,
            latency=lambda: self._rng.uniform(0.005, 0.05),
            lateness=lambda: self._rng.choice(self.lateness),
            nursery=self._nursery,
            crash=process.die,
            stale=self.stale,
        )
        return StageContext(
            store=FaultyStore(self._store, network),
            keys=self._keys,
            owner=Owner(
                user=self.user, machine=self.name, session=session, run=RunId(self.new_id())
            ),
            timing=TIMING,
            sizes=SIZES,
            now=lambda: EPOCH + trio.current_time() + self._skew,
            new_id=self.new_id,
            patience=Patience(TIMING, self._rng.random),
            uid=1000,
            gid=1000,
            version="simulated",
            trees={},
            plans={},
        )


Serve = Callable[["Process", Work], Awaitable[None]]


class Process:
    """One run of one session. It is the session's `Workspace`, on the machine's disk."""

    def __init__(self, machine: Machine, resume: SimulatedDisk | None) -> None:
        self.machine = machine
        self.is_dead = False
        self.work: Ledger | None = None
        self.session: StageSession
        self._disk = resume
        self._scope = trio.CancelScope()
        session = SessionId(machine.new_id()) if resume is None else resume.session
        self.ctx = machine.context(self, session)

    def fate_of(self, request: Request) -> Fate:
        if self.is_dead:
            raise Killed
        return self.machine.fate_of(request)

    def die(self) -> NoReturn:
        """kill -9: what is on the disk stays, everything else is gone."""
        self.is_dead = True
        self._scope.cancel()
        if self._disk is not None:
            self._disk.is_held = False
        raise Killed

    async def run(self, serve: Serve, *, agreed: bool, take_over: bool) -> None:
        machine = self.machine
        crashed = frozenset(disk.session for disk in machine.crashed)
        if self._disk is not None:
            self._disk.is_held = True
            self.work = self._recover(self._disk)
        alive = frozenset(disk.session for disk in machine.disks.values() if disk.is_held)
        claimant = Claimant(
            user=machine.user,
            session=self.ctx.owner.session,
            run=self.ctx.owner.run,
            crashed=crashed,
            alive=alive - {self.ctx.owner.session},
            agreed=agreed,
            take_over=take_over,
        )
        machine.claims[claimant.run] = claimant
        self.session = StageSession(self.ctx, self, resumed=self.work)

        async def serve_this(work: Work) -> None:
            await serve(self, work)

        try:
            with self._scope:
                await self.session.run(claimant, serve_this)
        except BaseExceptionGroup as group:
            if group.split(Killed)[1] is not None:
                raise
        except Killed:
            pass
        finally:
            if self._disk is not None:
                self._disk.is_held = False

    # --- Workspace --------------------------------------------------------------------------------

    async def begin(self, tree: Tree, fence: Fence) -> Work:
        body = snapshot.encode(tree)
        self._disk = SimulatedDisk(self.ctx.owner.session, body)
        self.machine.disks[self._disk.session] = self._disk
        self.work = self._ledger(snapshot.decode(body), self._disk)
        self.work.adopt(fence)
        return self.work

    async def retire(self) -> None:
        self.machine.disks.pop(self.ctx.owner.session, None)
        self._disk = None

    async def discard(self) -> None:
        await self.retire()

    def _recover(self, disk: SimulatedDisk) -> Ledger:
        tree = snapshot.decode(disk.snapshot)
        replay(tree, disk.records)
        return self._ledger(tree, disk)

    def _ledger(self, tree: Tree, disk: SimulatedDisk) -> Ledger:
        async def fetch(content: Content, start: int, stop: int) -> bytes:
            return await fetch_span(self.ctx, content, start, stop)

        async def run_blocking(call: Callable[[], None]) -> None:
            call()
            await trio.lowlevel.checkpoint()

        return Ledger(
            tree,
            SimulatedJournal(disk, lambda: self.is_dead),
            fetch=fetch,
            run_blocking=run_blocking,
        )
