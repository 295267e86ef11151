"""What a read-only mount has in the place of a journal: nothing is kept, so nothing is taken."""

from contextlib import AbstractContextManager, nullcontext
from typing import NoReturn

from pdfs.core.record import Drop
from pdfs.disk import Buffer
from pdfs.errors import JournalFailed
from pdfs.local.journal import Appended
from pdfs.local.journal_tasks import SyncPoint


class NoJournal:
    """Takes the records that only say what the kernel has forgotten, and forgets them, too."""

    last_sequence = 0
    synced_sequence = 0

    def append(self, kind: int, body: bytes, data: Buffer = b"", *, keep: int = 0) -> Appended:
        """Raises JournalFailed for whatever would have to be kept."""
        if kind != Drop.code:
            raise _none()
        return Appended(0, 0, 0)

    def sync_point(self) -> SyncPoint:
        raise _none()

    def mark_synced(self, point: SyncPoint) -> None:
        """There is none."""

    def mark_failed(self, point: SyncPoint, error: BaseException) -> JournalFailed:
        return JournalFailed(repr(error))

    def read(self, segment: int, offset: int, length: int) -> NoReturn:
        raise _none()

    def pinned(self) -> AbstractContextManager[None]:
        return nullcontext()


def _none() -> JournalFailed:
    return JournalFailed("a read-only mount has no journal")
