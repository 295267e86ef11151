"""What can be seen of a session while it goes on: its lock, what is unpublished, what went wrong.

Whoever shows a session to people asks here. Nothing here changes it: its life is `session`, the
lock is `stage.hold`, and the publishes are `stage.publishing`.
"""

from collections.abc import Callable

from pdfs.core.ids import Path
from pdfs.core.lease import Lock, Unpublished
from pdfs.core.root import SessionEntry
from pdfs.errors import LockLost, LockUnreadable, PdfsError
from pdfs.stage.context import StageContext
from pdfs.stage.hold import Hold
from pdfs.stage.publishing import Publishing


class SessionView:
    """One session, as it is now. All calls belong on its thread."""

    def __init__(self, ctx: StageContext, hold: Hold, publishing: Publishing) -> None:
        self._ctx = ctx
        self._hold = hold
        self._publishing = publishing

    @property
    def lock(self) -> Lock | None:
        """The lock as this session wrote it last; None before it has one."""
        return self._hold.lock

    @property
    def left_lock(self) -> LockUnreadable | None:
        """Why the lock could not be released, though everything is in the bucket."""
        return self._hold.left_lock

    @property
    def lost(self) -> LockLost | None:
        """Why nothing is uploaded any more; None while the stage is ours."""
        return self._hold.lost

    @property
    def trouble(self) -> PdfsError | None:
        """What keeps the session from getting on with the bucket; None while nothing does."""
        return self._hold.trouble

    @property
    def unpublished(self) -> Unpublished:
        """What of this session is in no generation."""
        return self._publishing.unpublished

    @property
    def invisible(self) -> list[Path]:
        """Files that no other tool sees, since no key can hold their name."""
        return self._publishing.invisible

    @property
    def conflicts(self) -> list[Path]:
        """Conflict copies that were made of this session's files."""
        return self._publishing.conflicts

    @property
    def not_removed(self) -> list[Path]:
        """Names that this session removed, and that stay: another tool changed what is there."""
        return self._publishing.not_removed

    @property
    def missing(self) -> list[Path]:
        """Files of the current generation whose bytes are nowhere to be found."""
        return self._publishing.missing

    @property
    def aside(self) -> tuple[Path, ...]:
        """Names whose plain object is not what the generation says, by a user's word."""
        return self._publishing.aside

    @property
    def refused(self) -> dict[Path, str]:
        """Why the latest try of a step failed, of the publish under way."""
        return {path: str(error) for path, error in sorted(self._ctx.aside.failed.items())}

    @property
    def unended(self) -> list[SessionEntry]:
        """Other sessions that had not ended when this one took the stage: work may wait there."""
        return self._hold.others

    def hear_of_loss(self, call: Callable[[LockLost], None]) -> None:
        """Have it called once, when the stage is lost."""
        self._hold.on_lost = call
