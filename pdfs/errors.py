"""Every error that PDFS raises on purpose, and what a user can do about it.

    PdfsError                     exit 1   EIO
    ├── UsageError                exit 2   EINVAL     impossible arguments, names, settings
    ├── NotFoundError             exit 3   ENOENT
    │   ├── ProjectNotFound
    │   └── SessionNotFound
    ├── LockError                 exit 4   EBUSY
    │   ├── LockHeld                                  somebody else's, or our own live daemon's
    │   ├── LockUnreadable                            torn or foreign bytes where the lock should be
    │   └── LockLost                       EROFS      taken from us; our changes stay for recovery
    ├── StoreError                exit 5   EIO
    │   ├── StoreUnavailable                          no usable answer; it may have been done
    │   ├── StoreRefused                              403, or a quota: no use asking again
    │   ├── ClockSkewed                               signing failed because clocks differ
    │   ├── ObjectNotFound                            404
    │   │   └── NoSuchUpload                          the upload is gone, whatever the object is
    │   ├── PreconditionFailed                        412: the condition did not hold
    │   ├── KeyClash                                  `a` beside `a/b` where that is impossible
    │   └── StoreUnsuitable       exit 6              breaks a promise that PDFS rests on
    ├── MountError                exit 7   ENOTCONN
    ├── DiskError                 exit 8   EIO
    │   ├── DiskFull                       ENOSPC
    │   └── JournalFailed                             failed once: never trusted again
    ├── UnpublishedWork           exit 9   EBUSY      what is here is not yet in the bucket
    │   └── StageMoved                                somebody else has published since
    ├── ConflictsMade             exit 10  EBUSY
    ├── DamageFound               exit 11  EIO        bytes that are not what was written
    │   ├── JournalDamaged
    │   ├── ObjectDamaged
    │   │   └── OtherVersion                          whole, but not for this version of PDFS
    │   └── ContentLost                               found at none of its homes
    ├── SessionError              exit 2   EINVAL     illegal in this state; nothing was changed
    ├── Stopped                   exit 130            by a signal or a no; nothing was changed
    ├── DaemonError                                   what a daemon refused; exit code as it says
    │   └── StartFailed                               it ended before its mount could be used
    ├── DaemonSilent                                  it does not answer, or not in our language
    └── TimedOut                                      it is still at it

The client libraries' own exceptions are translated once, where they are called; `fuse` turns a
`PdfsError` into its errno and `cli` turns it into its exit code and message.
"""

import errno
from typing import ClassVar


class PdfsError(Exception):
    """Something that PDFS can't do, said in words: what, where, and the remedy.

    `str(error)` is the message for people: `what`, then `remedy` where there is one.
    """

    exit_code: int = 1
    errno: ClassVar[int] = errno.EIO

    def __init__(self, what: str, *, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


class UsageError(PdfsError):
    """An argument, a name or a setting that can't be right, found before anything was done."""

    exit_code = 2
    errno = errno.EINVAL


class NotFoundError(PdfsError):
    """What was named does not exist."""

    exit_code = 3
    errno = errno.ENOENT


class ProjectNotFound(NotFoundError):
    """No key lies under that project or stage."""


class SessionNotFound(NotFoundError):
    """No session of that id or mountpoint is known on this machine."""


class LockError(PdfsError):
    """The stage lock does not allow it."""

    exit_code = 4
    errno = errno.EBUSY


class LockHeld(LockError):
    """Another session has the stage, and may keep it."""

    def __init__(
        self, what: str, *, remedy: str = "", lock: object, age: float, refusal: object
    ) -> None:
        super().__init__(what, remedy=remedy)
        self.lock = lock
        """The `core.lease.Lock` that was read."""
        self.age = age
        """Seconds since its owner was last seen, by the store's clock."""
        self.refusal = refusal
        """The `core.lease.Refusal`: some can be answered by a question to the user."""


class LockUnreadable(LockError):
    """The lock object is not one that PDFS wrote: torn, foreign, or of a newer version.

    It is never taken as free: who wrote it may be working on the stage.
    """


class LockLost(LockError):
    """The stage was taken from this session; nothing more is uploaded, everything is kept."""

    errno = errno.EROFS


class StoreError(PdfsError):
    """The bucket did not do what was asked."""

    exit_code = 5


class StoreUnavailable(StoreError):
    """No usable answer: refused, cut, timed out, 5xx or 429.

    Whether the request was carried out is unknown, unless `sent` is false. `retry_after` is the
    store's own wish in seconds, where it stated one.
    """

    def __init__(
        self, what: str, *, remedy: str = "", sent: bool = True, retry_after: float | None = None
    ) -> None:
        super().__init__(what, remedy=remedy)
        self.sent = sent
        self.retry_after = retry_after


class StoreRefused(StoreError):
    """Credentials, rights or quota: the store understood the request and declined it."""


class ClockSkewed(StoreError):
    """This machine's clock differs from the store's by more than request signing allows."""

    def __init__(self, what: str, *, remedy: str = "", is_measured: bool = True) -> None:
        super().__init__(what, remedy=remedy)
        self.is_measured = is_measured
        """Whether `what` says by how much."""


class ObjectNotFound(StoreError):
    """There is no object of that key (or no upload of that id)."""

    errno = errno.ENOENT

    def __init__(self, key: str) -> None:
        super().__init__(f"no object {key!r} in the bucket")
        self.key = key


class NoSuchUpload(ObjectNotFound):
    """The upload is gone, whatever has become of the object."""


class PreconditionFailed(StoreError):
    """The condition of a request did not hold, so nothing was changed by it."""

    def __init__(self, key: str) -> None:
        super().__init__(f"object {key!r} is not the one that was expected")
        self.key = key


class KeyClash(StoreError):
    """The store can't hold this key beside one that is its parent or child."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the bucket can't hold {key!r} beside a key above or below it")
        self.key = key


class StoreUnsuitable(StoreError):
    """The store breaks a promise that the protection of data rests on."""

    exit_code = 6


class MountError(PdfsError):
    """FUSE or the mountpoint can't be used."""

    exit_code = 7
    errno = errno.ENOTCONN


class DiskError(PdfsError):
    """This machine's disk failed or refused."""

    exit_code = 8


class DiskFull(DiskError):
    """No room (or quota) left for what must be written before it may be acknowledged."""

    errno = errno.ENOSPC


class JournalFailed(DiskError):
    """The journal could not be written or synced; nothing after this is acknowledged as durable."""


class UnpublishedWork(PdfsError):
    """Work of this session is not in the bucket yet; it is kept here."""

    exit_code = 9
    errno = errno.EBUSY


class StageMoved(UnpublishedWork):
    """Others have published on top of the generation that this session stands on."""


class ConflictsMade(PdfsError):
    """The publish is complete, with conflict copies for a person to look at."""

    exit_code = 10
    errno = errno.EBUSY


class DamageFound(PdfsError):
    """Bytes on disk or in the bucket are not the bytes that were written there."""

    exit_code = 11


class JournalDamaged(DamageFound):
    """A journal breaks its own rules before its tail; replay stopped there."""


class ObjectDamaged(DamageFound):
    """An object in the bucket is not a valid root, manifest or plan, or fails its digest."""


class OtherVersion(ObjectDamaged):
    """An object in the bucket is of another version of PDFS; it is left untouched."""


class ContentLost(DamageFound):
    """A content is found at none of its homes."""


class SessionError(PdfsError):
    """A call that is illegal in the session's state; it changed nothing."""

    exit_code = 2
    errno = errno.EINVAL


class Stopped(PdfsError):
    """A signal, or a no, ended it before anything was changed."""

    exit_code = 130


class DaemonError(PdfsError):
    """What a daemon answered instead of a result, with the facts as it gave them."""

    def __init__(self, kind: str, exit_code: int, what: str, remedy: str) -> None:
        super().__init__(what, remedy=remedy)
        self.kind = kind
        """The name of the error there."""
        self.exit_code = exit_code


class StartFailed(DaemonError):
    """A daemon ended before its mount could be used."""

    def __init__(
        self, kind: str, exit_code: int, what: str, remedy: str, *, refusal: str, said: str
    ) -> None:
        super().__init__(kind, exit_code, what, remedy)
        self.refusal = refusal
        """Why the lock could not be taken, in the words of `core.lease.Refusal`; or empty."""
        self.said = said
        """What it and its helpers (fusermount3) printed."""


class DaemonSilent(PdfsError):
    """No daemon answers at that socket, or it ended before it answered, or said nonsense."""


class TimedOut(PdfsError):
    """A daemon is still at what it was asked for."""
