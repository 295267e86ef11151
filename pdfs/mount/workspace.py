"""The session on this machine's disk, as `session.Workspace`, and the work that is served."""

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Final

import trio

from pdfs.core.content import Content
from pdfs.core.document import Malformed
from pdfs.core.ids import Fence, Inode, Sequence, SessionId
from pdfs.core.node import Node
from pdfs.core.record import Record
from pdfs.core.tree import Tree
from pdfs.disk import Disk
from pdfs.errors import DamageFound, DiskError, JournalDamaged, PdfsError
from pdfs.local.checkpoint_process import run_checkpoint_process
from pdfs.local.journal import Journal
from pdfs.local.journal_format import Header
from pdfs.local.ledger import Ledger
from pdfs.local.recovery import begin, recover, reopen
from pdfs.local.session_directory import SessionDirectory
from pdfs.local.sizes import JournalSizes, sizes_for
from pdfs.local.state import StateDirectory
from pdfs.local.upkeep import Evict, Upkeep

MADE: Final = "made_mountpoint"
"""In session.json: the mountpoint was made for the session, and goes with its mount."""

Fetch = Callable[[Content, int, int], Awaitable[bytes]]


class ServedWork:
    """A ledger whose commits from below are told to the kernel, once there is a mount."""

    def __init__(self, ledger: Ledger, fetch: Fetch) -> None:
        """`fetch` gets bases for a publish: it has all the time that the link needs."""
        self.ledger = ledger
        self._fetch = fetch
        self._commit: Callable[[Record], Sequence] = ledger.commit

    def serve_through(self, commit: Callable[[Record], Sequence]) -> None:
        """From now on commit by this call, until `unmounted`."""
        self._commit = commit

    def unmounted(self) -> None:
        """There is no kernel to be told any more."""
        self._commit = self.ledger.commit

    @property
    def tree(self) -> Tree:
        return self.ledger.tree

    @property
    def last(self) -> Sequence:
        return self.ledger.last

    def commit(self, record: Record) -> Sequence:
        return self._commit(record)

    async def sync(self) -> None:
        await self.ledger.sync()

    async def read(self, node: Node, start: int, stop: int) -> bytes:
        return await self.ledger.read(node, start, stop, fetch=self._fetch)

    def pinned(self) -> AbstractContextManager[None]:
        return self.ledger.pinned()

    def keep(self, node: Node, start: int, data: bytes) -> None:
        self.ledger.keep(node, start, data)

    def adopt(self, fence: Fence) -> None:
        self.ledger.adopt(fence)

    def new_inode(self) -> Inode:
        return self.ledger.new_inode()


class DiskWorkspace:
    """One session's directory, journal and ledger. `close` must be called."""

    def __init__(
        self,
        disk: Disk,
        state: StateDirectory,
        header: Header,
        description: Mapping[str, object],
        fetch: Fetch,
        patient_fetch: Fetch,
    ) -> None:
        """`fetch` serves programs, within a bound; `patient_fetch` serves a publish."""
        self._disk = disk
        self._state = state
        self._header = header
        self._description = {**description, "pid": os.getpid(), "started": time.time()}
        self._fetch = fetch
        self._patient_fetch = patient_fetch
        self._directory: SessionDirectory | None = None
        self._journal: Journal | None = None
        self._upkeep: Upkeep | None = None
        self._syncs = trio.CapacityLimiter(2)
        self.work: ServedWork | None = None
        self.torn: str = ""
        """What is damaged in the journal of a resumed session, for people; it goes to the trash."""
        self.is_over = False
        """The session has ended: there is nothing left here that could be resumed."""

    def prepare(self) -> None:
        """Hold a directory for the session before it asks for the lock.

        A process that dies between lock and journal is known by it on this machine, and its user
        gets the stage again at once. Raises DiskError, and there is no such directory then.
        """
        self._directory = self._state.create_session(self._header.session)
        try:
            self._directory.describe(self._description)
        except BaseException:
            with suppress(DiskError):
                self.forget()
            raise

    @property
    def has_made_mountpoint(self) -> bool:
        """Whether the mountpoint was made for this session, by this process or an earlier one."""
        return self._description.get(MADE) is True

    def note_mountpoint_made(self) -> None:
        """Whoever goes on with the session shall know. Raises DiskError."""
        self.describe(**{MADE: True})

    def describe(self, **fields: object) -> None:
        """Change what people want to know of the session. Raises DiskError."""
        assert self._directory is not None
        self._description |= fields
        self._directory.describe(self._description)

    def forget(self) -> None:
        """The session never got the stage: nothing of it stays. Raises DiskError."""
        if self._directory is not None and self._journal is None:
            self._state.remove(self._directory)
            self._directory = None
            self.is_over = True

    async def begin(self, tree: Tree, fence: Fence) -> ServedWork:
        """A new journal that starts from `tree`; returns when that survives a power cut."""
        if self._directory is None:
            self.prepare()
        assert self._directory is not None
        ledger, self._journal = begin(
            self._disk,
            self._directory,
            self._header,
            tree,
            fetch=self._fetch,
            run_blocking=self._run_blocking,
            sizes=self._sizes(),
        )
        ledger.adopt(fence)
        self.work = ServedWork(ledger, self._patient_fetch)
        return self.work

    def resume(self, session: SessionId) -> ServedWork | None:
        """The work of a crashed session, in new files; None if it died before it had any.

        Raises LockError where its process lives, DamageFound, DiskError; whoever wants it may have
        it then.
        """
        self._directory = self._state.open_session(session)
        try:
            self.work = self._resumed(self._directory)
        except BaseException:
            self.close()
            raise
        return self.work

    def _resumed(self, directory: SessionDirectory) -> ServedWork | None:
        recovered = recover(self._disk, directory)
        if recovered is None:
            self._state.remove(directory)
            self._directory = None
            return None
        self._check_own(recovered.header)
        if recovered.damage:
            self.torn = recovered.damage
        elif directory.has_damage:
            self.torn = "an earlier recovery of this session found damage in its journal"
        if self._has_made_before(directory):
            self._description[MADE] = True
        directory.describe(self._description)
        ledger, self._journal = reopen(
            self._disk,
            directory,
            self._header,
            recovered,
            fetch=self._fetch,
            run_blocking=self._run_blocking,
            sizes=self._sizes(),
        )
        return ServedWork(ledger, self._patient_fetch)

    def _has_made_before(self, directory: SessionDirectory) -> bool:
        """Whether an earlier run of the session made the directory that it is mounted at now."""
        try:
            before = directory.description()
            if before is None or not before.has(MADE) or not before.flag(MADE):
                return False
            return before.text("mountpoint", "") == self._description.get("mountpoint")
        except (DamageFound, Malformed):
            return False

    def _check_own(self, found: Header | None) -> None:
        """The journal says itself whose it is, and `session.json` can be another session's."""
        if found is None:
            return
        ours = self._header
        theirs, here = (f"{header.project}/{header.stage}" for header in (found, ours))
        if theirs != here:
            raise JournalDamaged(
                f"the journal of session {ours.session} is of {theirs}; what is written beside it "
                f"says {here}",
                remedy="nothing was changed: bring the session.json of that session back, or copy "
                f"the work out: pdfs recover rescue {ours.session[:8]} DIR",
            )

    async def keep(self, tell: Callable[[PdfsError], None], evict: Evict) -> None:
        """Keep the journal ready for more, until cancelled; `tell` hears of what finds no room.

        `evict` frees bytes of the file system that the state directory is on.
        """
        assert self.work is not None
        assert self._journal is not None
        self._upkeep = Upkeep(
            self.work.ledger,
            self._journal,
            make=partial(run_checkpoint_process, self._journal.directory),
            run_blocking=self._run_blocking,
            tell=tell,
            evict=evict,
        )
        await self._upkeep.run()

    def freeable(self) -> int:
        """Bytes of the journal that `make_room` would free."""
        return 0 if self._upkeep is None else self._upkeep.freeable()

    def unprepared(self) -> int:
        """Bytes that the journal will take as soon as there is room, before any write gets them."""
        return 0 if self._upkeep is None else self._upkeep.unprepared

    async def make_room(self) -> bool:
        """A record found the disk full: whether another try is worth it. Raises JournalFailed."""
        return self._upkeep is not None and await self._upkeep.make_room()

    @property
    def is_deleted(self) -> bool:
        """Somebody deleted the journal: it has what was written only as long as this process."""
        return self._journal is not None and self._journal.is_deleted

    async def retire(self) -> None:
        """All of it is in the bucket: the journal goes."""
        if self.torn:  # what lies behind the damage may still be wanted
            await self.discard()
            return
        is_deleted = self.is_deleted
        self.seal()
        if self._directory is not None and not is_deleted:
            self._state.remove(self._directory)
            self._directory = None
        self.is_over = True

    async def discard(self) -> None:
        """The user wants none of it: the journal goes to the trash, with what was kept for it."""
        is_deleted = self.is_deleted
        self.seal()
        assert self._directory is not None
        if not is_deleted:
            self._state.discard(self._directory)
        self.close()
        self.is_over = True

    def note_end(self, why: str) -> None:
        """Write down why the session was cut short, for who finds it. Raises DiskError."""
        if self._directory is not None:
            self._directory.describe({**self._description, "ended": time.time(), "why": why})

    def seal(self) -> None:
        """Make the journal whole, for whoever resumes the session. Raises DiskError."""
        if self._journal is not None:
            self._journal.close()

    def close(self) -> None:
        """Give the session back to this machine; its files stay. Idempotent."""
        if self._journal is not None:
            self._journal.abandon()
        if self._directory is not None:
            self._directory.close()
            self._directory = None

    def _sizes(self) -> JournalSizes:
        room = os.statvfs(self._state.path)
        return sizes_for(room.f_bavail * room.f_frsize)

    async def _run_blocking(self, call: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(call, limiter=self._syncs)
