"""The session's log as the daemon keeps it: nothing about the log takes the session down.

What goes wrong with it is told once, on the daemon's standard error and as `trouble`, and the
session goes on. Warnings and errors that the daemon prints are in the log, too, up to a number.
"""

import logging
import os
from dataclasses import replace
from pathlib import PurePath
from typing import Final

from pdfs.core.notes import Failed, Fetched, Note, Warned
from pdfs.disk import Disk, OsDisk
from pdfs.errors import PdfsError
from pdfs.local.session_log import SessionLog
from pdfs.local.session_log_format import LogHeader
from pdfs.mount.request import MountRequest
from pdfs.stage.contents import Received
from pdfs.stage.context import StageContext
from pdfs.stage.together import cause_of

logger = logging.getLogger(__name__)

_PACKAGE: Final = "pdfs"
_MOST_WARNINGS: Final = 1000
"""A bucket that is gone makes one for each request; they are all on standard error."""


class Logbook(logging.Handler):
    """One process's part of a session's log. No method raises."""

    def __init__(
        self,
        directory: PurePath,
        request: MountRequest,
        ctx: StageContext,
        received: Received,
        *,
        disk: Disk | None = None,
    ) -> None:
        super().__init__(logging.WARNING)
        self._disk = disk or OsDisk()
        self._directory = directory
        self._header = _header_of(request, ctx)
        self._now = ctx.now
        self._received = received
        self._noted = Received()
        """What of it is in the log."""
        self._log: SessionLog | None = None
        self._warnings = 0
        self.trouble: PdfsError | None = None
        """Why the log is not whole, or not there; None while it is."""

    def open(self) -> None:
        """Begin the log, or take it up; this process holds the session."""
        try:
            self._log = SessionLog(self._disk, self._directory, self._header, now=self._now)
        except PdfsError as error:
            self._tell(error)
        else:
            logging.getLogger(_PACKAGE).addHandler(self)

    def note(self, note: Note) -> None:
        """Write one line."""
        if self._log is None:
            return
        try:
            self._log.write(note)
        except PdfsError as error:
            self._tell(error)

    def note_failure(self, error: BaseException) -> None:
        """Say why the process ends before the session does."""
        cause = cause_of(error)
        self.note(Failed(kind=type(cause).__name__, what=str(cause)))

    def note_fetched(self) -> None:
        """Say how much came from the bucket since the last time."""
        parts = self._received.parts - self._noted.parts
        count = self._received.bytes - self._noted.bytes
        self._noted = replace(self._received)
        if parts:
            self.note(Fetched(parts=parts, bytes=count))

    def finish(self, *, is_over: bool) -> None:
        """The process ends; with `is_over`, the session does, too. Idempotent."""
        logging.getLogger(_PACKAGE).removeHandler(self)
        self.note_fetched()
        log, self._log = self._log, None
        if log is None:
            return
        if not is_over:
            log.abandon()
            return
        try:
            log.close()
        except PdfsError as error:
            self._tell(error)

    def emit(self, record: logging.LogRecord) -> None:
        """Write down what the daemon prints."""
        self._warnings += 1
        if self._warnings <= _MOST_WARNINGS:
            self.note(Warned(level=record.levelname.lower(), what=record.getMessage()))

    def _tell(self, error: PdfsError) -> None:
        if self.trouble is None:
            self.trouble = error
            logger.error("the session goes on, but its log is not whole: %s", error)


def _header_of(request: MountRequest, ctx: StageContext) -> LogHeader:
    owner = ctx.owner
    return LogHeader(
        session=owner.session,
        run=owner.run,
        project=ctx.keys.project,
        stage=ctx.keys.stage,
        user=owner.user,
        machine=owner.machine,
        bucket=request.configuration.bucket,
        mountpoint=request.mountpoint or "",
        pid=os.getpid(),
        pdfs=ctx.version,
    )
