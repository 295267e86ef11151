"""The ledger: a session's tree and journal, changed together and in this order only.

    validated request → record → append to the journal → apply to the tree → reply

`commit` is the only caller of either, on the one thread that serves; between validating a request
and its commit lies no await. After the append nothing can fail. Bytes are in one place each: those
that were written in the journal, the others in the base that `fetch` gets.

Of the space that the journal has allocated, each record leaves some to those that matter more when
the disk is full: first what makes room there, then what ends the session.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Protocol

import trio

from pdfs.core import record as core_record
from pdfs.core.content import Content
from pdfs.core.ids import Fence, Inode, Sequence, first_inode
from pdfs.core.intervals import NOWHERE, Position
from pdfs.core.node import Based, Node, Written, Zeros
from pdfs.core.record import (
    Brought,
    Drop,
    Echoed,
    Found,
    Gone,
    Publishing,
    Record,
    Rename,
    SetAttributes,
    Settled,
    Unlink,
)
from pdfs.core.tree import Tree
from pdfs.disk import Buffer
from pdfs.errors import ContentLost, DiskError, JournalFailed
from pdfs.local.journal import Appended
from pdfs.local.journal_tasks import SyncPoint

Fetch = Callable[[Content, int, int], Awaitable[bytes]]
"""Bytes start … stop of a base. Raises ContentLost, StoreError."""

_PIECE = 1 << 20
"""Bytes that one `Brought` record holds at most."""

RunBlocking = Callable[[Callable[[], None]], Awaitable[None]]
"""Runs a call that waits for the disk where it holds nobody up."""

_MAKES_ROOM = (Unlink, Rename, Drop, SetAttributes)
_ENDS_SESSION = (Publishing, Settled, Found, Gone, Echoed)


class Journal(Protocol):
    """What the ledger asks of a journal: that of `local.journal`, or its twin in a simulation."""

    @property
    def last_sequence(self) -> int: ...
    @property
    def synced_sequence(self) -> int: ...
    def append(self, kind: int, body: bytes, data: Buffer = b"", *, keep: int = 0) -> Appended: ...
    def sync_point(self) -> SyncPoint: ...
    def mark_synced(self, point: SyncPoint) -> None: ...
    def mark_failed(self, point: SyncPoint, error: BaseException) -> JournalFailed: ...
    def read(self, segment: int, offset: int, length: int) -> bytes: ...
    def pinned(self) -> AbstractContextManager[None]: ...


class Ledger:
    """A session's tree and the journal that makes it. All calls belong on one thread."""

    def __init__(
        self,
        tree: Tree,
        journal: Journal,
        *,
        fetch: Fetch,
        run_blocking: RunBlocking,
        reserve: int = 0,
    ) -> None:
        """`reserve` allocated bytes of the journal are left by what only takes room."""
        self._reserve = reserve
        self._kept: dict[type[Record], int] = {
            **dict.fromkeys(_MAKES_ROOM, reserve // 2),
            **dict.fromkeys(_ENDS_SESSION, 0),
        }
        self.tree = tree
        self._journal = journal
        self._fetch = fetch
        self._run_blocking = run_blocking
        self._next_inode = 0
        self._syncing: trio.Event | None = None
        self._refused: Exception | None = None

    @property
    def last(self) -> Sequence:
        """The number of the newest record."""
        return Sequence(self._journal.last_sequence)

    def adopt(self, fence: Fence) -> None:
        """From now on, inode numbers are those of this fence."""
        taken = [ino for ino in self.tree.nodes if ino >> 32 == fence]
        self._next_inode = max([first_inode(fence), *(ino + 1 for ino in taken)])

    def new_inode(self) -> Inode:
        """An inode number that was never used in this stage."""
        ino = Inode(self._next_inode)
        self._next_inode += 1
        return ino

    def commit(self, record: Record, data: Buffer = b"") -> Sequence:
        """Journal a record, then apply it; it survives a crash of the process from here on.

        Raises DiskFull and JournalFailed; nothing was changed then. A record that the tree refuses
        is a bug, and ends a later replay; one that memory did not suffice for is in the journal or
        is not. Nothing is taken after either.
        """
        if self._refused is not None:
            raise JournalFailed(f"the journal ends with a record that is none: {self._refused!r}")
        code, body = core_record.encode(record)
        keep = self._kept.get(type(record), self._reserve)
        try:
            appended = self._journal.append(code, body, data, keep=keep)
            at = Position(appended.segment, appended.data_offset)
            self.tree.apply(record, at, len(data))
        except DiskError:
            raise
        except Exception as error:
            self._refused = error
            raise
        return Sequence(appended.sequence)

    def keep(self, node: Node, start: int, data: bytes) -> None:
        """Journal bytes that a file has from its base: it reads as before, also without that.

        Raises as `commit` does; a part of them may be kept then.
        """
        for offset in range(0, len(data), _PIECE):
            self.commit(Brought(ino=node.ino, start=start + offset), data[offset : offset + _PIECE])

    async def sync(self) -> None:
        """Return when every record so far survives a power cut; callers share one fdatasync.

        Raises JournalFailed after one failed sync, for ever.
        """
        wanted = self._journal.last_sequence
        while self._journal.synced_sequence < wanted:
            if self._syncing is None:
                await self._sync_now()
            else:
                await self._syncing.wait()

    async def _sync_now(self) -> None:
        point = self._journal.sync_point()
        self._syncing = trio.Event()
        try:
            with trio.CancelScope(shield=True):  # half a sync would count as a failed one
                await self._run_blocking(point.run)
        except BaseException as error:
            failed = self._journal.mark_failed(point, error)
            if isinstance(error, OSError):
                raise failed from error
            raise
        else:
            self._journal.mark_synced(point)
        finally:
            self._syncing.set()
            self._syncing = None

    def pinned(self) -> AbstractContextManager[None]:
        """To the end of the block, what was written before it can be read where it lies now."""
        return self._journal.pinned()

    async def read(self, node: Node, start: int, stop: int, *, fetch: Fetch | None = None) -> bytes:
        """Bytes start … min(stop, size) of a file as it is now; bases come by `fetch`.

        The layers are looked at anew after each wait, so that a write meanwhile is seen whole.
        Raises ContentLost, StoreError, DiskError.
        """
        based: dict[tuple[Content, int, int], bytes] = {}
        while True:
            missing = self._missing(node, start, stop, based)
            if missing is None:
                return self._joined(node, start, stop, based)
            content, first, last = missing
            based[missing] = await (fetch or self._fetch)(content, first, last)

    def _missing(
        self, node: Node, start: int, stop: int, based: dict[tuple[Content, int, int], bytes]
    ) -> tuple[Content, int, int] | None:
        for layer in node.layers(start, stop):
            if isinstance(layer, Based):
                wanted = (node.base, layer.start, layer.stop)
                if wanted not in based:
                    return wanted
        return None

    def _joined(
        self, node: Node, start: int, stop: int, based: dict[tuple[Content, int, int], bytes]
    ) -> bytes:
        pieces: list[bytes] = []
        for layer in node.layers(start, stop):
            match layer:
                case Written(extent) if extent.at.segment == NOWHERE.segment:
                    raise ContentLost(f"bytes of inode {node.ino} were lost in a damaged journal")
                case Written(extent):
                    length = extent.stop - extent.start
                    pieces.append(self._journal.read(extent.at.segment, extent.at.offset, length))
                case Based(first, last):
                    pieces.append(based[node.base, first, last])
                case Zeros(first, last):
                    pieces.append(bytes(last - first))
        return b"".join(pieces)
