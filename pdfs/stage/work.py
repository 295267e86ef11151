"""What the protocols ask of a session's journal and tree. `local.ledger` is what answers."""

from contextlib import AbstractContextManager
from typing import Protocol

from pdfs.core.ids import Fence, Inode, Sequence
from pdfs.core.node import Node
from pdfs.core.record import Record
from pdfs.core.tree import Tree


class Work(Protocol):
    """A session's journal and the tree that it makes."""

    @property
    def tree(self) -> Tree:
        """As of the newest record."""

    @property
    def last(self) -> Sequence:
        """The number of the newest record."""

    def commit(self, record: Record) -> Sequence:
        """Journal a record, then apply it. Raises DiskError, and nothing was changed then."""

    async def sync(self) -> None:
        """Return when everything journaled so far survives a power cut. Raises JournalFailed."""

    async def read(self, node: Node, start: int, stop: int) -> bytes:
        """Bytes of a file as it is now. Raises ContentLost, StoreError, DiskError."""

    def pinned(self) -> AbstractContextManager[None]:
        """To the end of the block, what was written before it can be read where it lies now."""

    def keep(self, node: Node, start: int, data: bytes) -> None:
        """Journal bytes that a file has from its base; it reads as before. Raises DiskError."""

    def adopt(self, fence: Fence) -> None:
        """From now on, inode numbers are those of this fence."""

    def new_inode(self) -> Inode:
        """An inode number that was never used in this stage."""
