"""A stage on a journal of its own, as one process sees it, with a clock that stands still."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pdfs.core.content import Content
from pdfs.core.node import Node
from pdfs.errors import PdfsError
from pdfs.fs.error import FsError
from pdfs.fs.filesystem import StageFilesystem
from pdfs.fs.upward import Upward
from pdfs.local.ledger import Ledger
from tests.fs.process import Process, User
from tests.local.faulty_disk import FaultyDisk


class Stage(Process):
    """A root process on it; what went up; and `now`, in ns."""

    def __init__(self, ledger: Ledger, disk: FaultyDisk, contents: dict[Content, bytes]) -> None:
        self.now = 1_000_000_000_000
        self.ledger, self.disk, self.contents = ledger, disk, contents
        self.invalidated: list[tuple[int, bytes]] = []
        self.first_writes: list[Node] = []
        self.failures: list[PdfsError] = []
        self.upward = Upward(
            invalidate=lambda parent, name: self.invalidated.append((parent, name)),
            first_write=self.first_writes.append,
            failed=self.failures.append,
        )
        super().__init__(self.filesystem())

    def filesystem(self, largest: int = 1 << 40) -> StageFilesystem:
        """Another one on the same ledger."""
        return StageFilesystem(
            self.ledger,
            now_ns=lambda: self.now,
            room=lambda: os.statvfs("/"),
            upward=self.upward,
            largest=largest,
        )

    def anna(self) -> Process:
        """A process of somebody who is not root."""
        return Process(self.fs, User(1001, 1002))

    @contextmanager
    def refuses(self, code: int) -> Iterator[None]:
        """The block is refused with this errno, and leaves no record behind."""
        last = self.ledger.last
        with pytest.raises(FsError) as refused:
            yield
        assert errno.errorcode[refused.value.errno] == errno.errorcode[code]
        assert self.ledger.last == last
