"""The one error of a request that is refused as POSIX has it."""

import os


class FsError(Exception):
    """A request is refused with this errno; nothing was changed.

    It is the answer to a process, not a fault of PDFS: those are `PdfsError`, and are also told in
    the log. Not an `OSError`, so that one that a bug lets through is never taken for an answer.
    """

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno

    def __str__(self) -> str:
        return os.strerror(self.errno)
