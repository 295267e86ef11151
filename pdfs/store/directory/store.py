"""The directory bucket as an `ObjectStore`: checks, threads and errors around the file work.

A change runs to its end in its thread even when its caller is cancelled; a read is left behind.
"""

import contextlib
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath
from typing import Final, TypeVar

import trio

from pdfs.core.content import ETag
from pdfs.disk import Disk, OsDisk, make_directory
from pdfs.errors import StoreError, StoreRefused, StoreUnavailable, StoreUnsuitable
from pdfs.store.directory.files import PAGE, Files, uptime
from pdfs.store.directory.hidden import Hidden
from pdfs.store.directory.listing import directories_below, keys_below
from pdfs.store.directory.place import Bucket, place_of
from pdfs.store.directory.uploads import Uploads
from pdfs.store.objects import (
    NO_METADATA,
    Condition,
    Fetched,
    IfMatch,
    Listed,
    ListedUpload,
    ObjectInfo,
    Stored,
    Traits,
    UploadId,
)
from pdfs.store.request import (
    MAX_KEY_BYTES,
    check_description,
    check_part_count,
    check_part_number,
    check_span,
)

T = TypeVar("T")

TRAITS: Final = Traits(
    conditional_complete=True,
    conditional_delete=True,
    conditional_part_copy=True,
    nested_keys=False,
)
_LOCK_WAIT: Final = 20.0
_THREADS: Final = 16


class DirectoryStore:
    """Keeps `ObjectStore` in a directory that exists; ETags are MD5, of completed uploads too."""

    def __init__(
        self,
        root: PurePath,
        *,
        disk: Disk | None = None,
        max_key_bytes: int = MAX_KEY_BYTES,
        lock_wait: float = _LOCK_WAIT,
    ) -> None:
        """Open the directory; raises StoreError where that can't be. Changes nothing."""
        self.name = f"file://{root} (only on this machine)"
        self.traits = TRAITS
        self.max_key_bytes = max_key_bytes
        self._bucket = _open_bucket(disk or OsDisk(), root, max_key_bytes)
        self._is_open = True
        self._hidden = Hidden(self._bucket, lock_wait=lock_wait)
        self._uploads = Uploads(self._bucket, self._hidden)
        self._files = Files(self._bucket, self._hidden, self._uploads)
        self._readers = trio.CapacityLimiter(_THREADS)
        self._writers = trio.CapacityLimiter(_THREADS)

    def believe(self, traits: Traits) -> None:
        """From now on, say that the store does what `store.probe` has seen."""
        self.traits = traits

    async def get(
        self, key: str, *, span: tuple[int, int] | None = None, if_match: ETag | None = None
    ) -> Fetched:
        self._check(key)
        if span is not None:
            check_span(span)
        return await self._read(lambda: self._files.get(key, span, if_match))

    async def head(self, key: str) -> ObjectInfo:
        self._check(key)
        return await self._read(lambda: self._files.head(key))

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        condition: Condition | None,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Stored:
        self._check(key)
        check_description(content_type, metadata)
        return await self._change(
            lambda: self._files.put(key, body, condition, content_type, metadata)
        )

    async def delete(self, key: str, *, condition: IfMatch | None) -> None:
        self._check(key)
        await self._change(lambda: self._files.delete(key, condition))

    def sign_delete(self, key: str, *, valid_for: float) -> "TimedDelete":
        self._check(key)
        return TimedDelete(self, key, uptime() + valid_for)

    async def delete_until(self, key: str, last_moment: float) -> None:
        """Remove the object. Raises StoreRefused if `uptime()` has passed `last_moment` by then."""
        await self._change(lambda: self._files.delete(key, None, last_moment))

    async def list(self, prefix: str) -> AsyncIterator[Sequence[Listed]]:
        keys = keys_below(self._bucket, prefix)
        while page := await self._read(lambda: self._files.rows(keys)):
            yield page

    async def list_directories(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        found = directories_below(self._bucket, prefix)
        while page := await self._read(lambda: list(islice(found, PAGE))):
            yield page

    async def create_upload(
        self,
        key: str,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> UploadId:
        self._check(key)
        check_description(content_type, metadata)
        return await self._change(lambda: self._uploads.create(key, content_type, metadata))

    async def upload_part(self, key: str, upload: UploadId, number: int, body: bytes) -> ETag:
        self._check(key)
        check_part_number(number)
        return await self._change(lambda: self._uploads.add_part(key, upload, number, body))

    async def copy_part(
        self,
        key: str,
        upload: UploadId,
        number: int,
        *,
        source: str,
        span: tuple[int, int],
        if_match: ETag | None,
    ) -> ETag:
        self._check(key)
        self._check(source)
        check_part_number(number)
        check_span(span)
        return await self._change(
            lambda: self._files.copy_part(key, upload, number, source, span, if_match)
        )

    async def complete_upload(
        self, key: str, upload: UploadId, parts: Sequence[ETag], *, condition: Condition | None
    ) -> Stored:
        self._check(key)
        check_part_count(len(parts))
        return await self._change(lambda: self._files.complete(key, upload, parts, condition))

    async def abort_upload(self, key: str, upload: UploadId) -> None:
        self._check(key)
        await self._change(lambda: self._files.abort(key, upload))

    async def list_uploads(self, prefix: str) -> AsyncIterator[Sequence[ListedUpload]]:
        if rows := await self._read(lambda: self._uploads.listed(prefix)):
            yield rows

    async def left_over(self) -> Sequence[str]:
        """Paths of files that a crash of PDFS left in the hidden directory, for `doctor`."""
        return await self._change(self._hidden.left_over)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        in_threads = self._readers.borrowed_tokens + self._writers.borrowed_tokens
        if self._is_open and not in_threads:  # else its number could soon be another directory's
            self._is_open = False
            self._bucket.disk.close(self._bucket.root)

    def _check(self, key: str) -> None:
        """Refuse a hostile key before anything is touched."""
        place_of(key, self.max_key_bytes)

    async def _read(self, work: Callable[[], T]) -> T:
        def checked() -> T:
            _check_is_there(self._bucket)
            return work()

        with self._in_words():
            return await trio.to_thread.run_sync(
                checked, limiter=self._readers, abandon_on_cancel=True
            )

    async def _change(self, work: Callable[[], T]) -> T:
        def reported() -> T:
            _check_is_there(self._bucket)
            self._hidden.report_left_over()
            return work()

        with self._in_words():
            return await trio.to_thread.run_sync(reported, limiter=self._writers)

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _store_error(error, self._bucket.name) from error


@dataclass(frozen=True, slots=True)
class TimedDelete:
    """A delete that is not begun when this machine has been up for `last_moment` seconds."""

    store: DirectoryStore
    key: str
    last_moment: float

    async def send(self) -> None:
        await self.store.delete_until(self.key, self.last_moment)


_REFUSALS: Final = {
    errno.ENOSPC: "free some space on that disk",
    errno.EDQUOT: "free some space there or raise the quota",
    errno.EFBIG: "its file system takes no file of that size",
    errno.EACCES: "give yourself rights to read and write there",
    errno.EPERM: "give yourself rights to read and write there",
    errno.EROFS: "mount its file system for writing",
    errno.ENAMETOOLONG: "its file system takes no name of that length",
}


def _store_error(error: OSError, name: str) -> StoreError:
    reason = error.strerror or str(error)
    if error.errno in _REFUSALS:
        return StoreRefused(f"the bucket {name} refused: {reason}", remedy=_REFUSALS[error.errno])
    if error.errno == errno.EINVAL:
        return StoreUnsuitable(
            f"the file system of {name} can't rename without replacing, or exchange two names",
            remedy="use a directory on ext4, xfs, btrfs or tmpfs as the bucket",
        )
    return StoreUnavailable(f"the bucket {name} failed: {reason}", remedy="look at its disk")


def make_root(disk: Disk, root: PurePath) -> None:
    """Make a new bucket's directory, and those above it, where they are missing; for us alone."""
    with contextlib.ExitStack() as held:
        _make(disk, root, held)


def _make(disk: Disk, path: PurePath, held: contextlib.ExitStack) -> int:
    """A descriptor of the directory, which exists then."""
    try:
        directory = disk.open_directory(str(path))
    except FileNotFoundError:
        above = _make(disk, path.parent, held)
        make_directory(disk, above, path.name)
        directory = disk.open_directory(path.name, above)
    held.callback(disk.close, directory)
    return directory


def _check_is_there(bucket: Bucket) -> None:
    """Raise StoreUnavailable where the bucket's path leads to the opened directory no more."""
    try:
        is_same = os.path.samestat(os.stat(bucket.name), os.fstat(bucket.root))
    except (FileNotFoundError, NotADirectoryError):
        what = "was moved or removed"
    else:
        if is_same:
            return
        what = "is another one than it was"
    raise StoreUnavailable(
        f"the directory {bucket.name}, which plays the bucket, {what}",
        remedy="bring back the former one; or end this process: what is not published is kept"
        " here, see pdfs recover list",
        sent=False,
    )


def _open_bucket(disk: Disk, root: PurePath, max_key_bytes: int) -> Bucket:
    try:
        descriptor = disk.open_directory(str(root))
    except (FileNotFoundError, NotADirectoryError):
        raise StoreUnavailable(
            f"the directory {root}, which plays the bucket, is not there",
            remedy=f"mount its disk, or make a new bucket: mkdir {root}",
            sent=False,
        ) from None
    except OSError as error:
        raise _store_error(error, str(root)) from error
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o777
    return Bucket(
        disk=disk, root=descriptor, name=str(root), mode=mode, max_key_bytes=max_key_bytes
    )
