"""Commits, up to the first that fails."""

from pdfs.core.ids import Sequence
from pdfs.core.record import Record
from pdfs.disk import Buffer
from pdfs.errors import DiskFull, JournalFailed, PdfsError
from pdfs.fs.upward import Upward
from pdfs.local.ledger import Ledger


class Commits:
    """The ledger's commits and syncs; after a failure neither is tried again.

    A full disk is no failure: nothing was taken, and the next commit may find room.
    """

    __slots__ = ("_ledger", "_upward", "failure")

    def __init__(self, ledger: Ledger, upward: Upward) -> None:
        self._ledger = ledger
        self._upward = upward
        self.failure: PdfsError | None = None
        """Why the journal takes nothing any more."""

    def check(self) -> None:
        """Raise the failure, if there was one."""
        if self.failure is not None:
            raise self.failure

    def commit(self, record: Record, data: Buffer = b"") -> Sequence:
        """Journal a record, then apply it. Raises DiskFull, or the failure."""
        if self.failure is not None:
            raise self.failure
        try:
            return self._ledger.commit(record, data)
        except DiskFull:
            raise
        except BaseException as error:
            # Also what `apply` raises: its record is in the journal, and a replay ends there.
            self.fail(error)
            raise

    async def sync(self) -> None:
        """Return when all that was committed survives a power cut. Raises the failure."""
        self.check()
        try:
            await self._ledger.sync()
        except JournalFailed as error:
            self.fail(error)
            raise

    def fail(self, error: BaseException) -> None:
        """Nothing is taken from here on; the first one says why."""
        if self.failure is None:
            self.failure = error if isinstance(error, PdfsError) else JournalFailed(repr(error))
            self._upward.failed(self.failure)
