"""The directory bucket as plain blocking calls: one method per call of `ObjectStore`."""

import contextlib
import errno
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pdfs.core.content import ETag
from pdfs.disk import write_fully
from pdfs.errors import ObjectNotFound, PreconditionFailed, StoreRefused, StoreUnsuitable
from pdfs.store.directory.hidden import Hidden, NewFile
from pdfs.store.directory.place import Bucket, object_at
from pdfs.store.directory.swap import Swap
from pdfs.store.directory.uploads import Uploads
from pdfs.store.directory.version import Version, Versions, describe
from pdfs.store.objects import (
    Condition,
    Fetched,
    IfMatch,
    Listed,
    ObjectInfo,
    Stored,
    UploadId,
)

PAGE: Final = 1000


class Files:
    """Calls may run in many threads. Raises OSError beside the errors of `ObjectStore`."""

    def __init__(self, bucket: Bucket, hidden: Hidden, uploads: Uploads) -> None:
        self._bucket = bucket
        self._hidden = hidden
        self._uploads = uploads
        self._versions = Versions(bucket.disk)
        self._swap = Swap(bucket, hidden, self._versions)

    def get(self, key: str, span: tuple[int, int] | None, if_match: ETag | None) -> Fetched:
        now = self._hidden.now()
        with object_at(self._bucket, key) as descriptor:
            version, body = self._versions.read(key, descriptor, now, span)
        is_short = span is not None and len(body) != span[1] - span[0]
        if is_short or if_match not in (None, version.etag):
            raise PreconditionFailed(key)
        return Fetched(info=_info(key, version, now), body=body)

    def head(self, key: str) -> ObjectInfo:
        now = self._hidden.now()
        with object_at(self._bucket, key) as descriptor:
            return _info(key, self._versions.look(key, descriptor, now), now)

    def put(
        self,
        key: str,
        body: bytes,
        condition: Condition | None,
        content_type: str,
        metadata: Mapping[str, str],
    ) -> Stored:
        with self._hidden.new_file() as new:
            write_fully(self._bucket.disk, new.descriptor, [body], 0)
            etag = ETag(hashlib.md5(body, usedforsecurity=False).hexdigest())
            self._finish(new, etag, content_type, metadata)
            with self._hidden.exclusive():
                self._swap.put(key, new, condition)
        return Stored(etag=etag, date=self._hidden.now())

    def complete(
        self,
        key: str,
        upload: UploadId,
        parts: Sequence[ETag],
        condition: Condition | None,
    ) -> Stored:
        begun = self._uploads.begun(key, upload)
        with self._hidden.new_file() as new:
            etag = self._uploads.join(key, upload, parts, new)
            self._finish(new, etag, begun.content_type, begun.metadata)
            with self._hidden.exclusive():
                self._uploads.begun(key, upload)
                self._swap.put(key, new, condition)
                self._uploads.remove(key, upload)
        return Stored(etag=etag, date=self._hidden.now())

    def _finish(
        self, new: NewFile, etag: ETag, content_type: str, metadata: Mapping[str, str]
    ) -> None:
        """Describe and sync a new file: from here on it may get its name."""
        try:
            describe(self._bucket.disk, new.descriptor, etag, content_type, metadata)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            raise StoreUnsuitable(
                f"the file system of {self._bucket.name} keeps no extended attributes",
                remedy="use a directory on ext4, xfs, btrfs or zfs as the bucket",
            ) from None
        self._bucket.disk.fsync(new.descriptor)

    def delete(self, key: str, condition: IfMatch | None, last_moment: float | None = None) -> None:
        with self._hidden.exclusive():
            if last_moment is not None and uptime() > last_moment:
                raise StoreRefused(f"the time in which to delete {key!r} is over")
            try:
                self._swap.delete(key, condition)
            except ObjectNotFound:
                if condition is not None:
                    raise

    def abort(self, key: str, upload: UploadId) -> None:
        with self._hidden.exclusive(), contextlib.suppress(ObjectNotFound):
            self._uploads.remove(key, upload)

    def copy_part(
        self,
        key: str,
        upload: UploadId,
        number: int,
        source: str,
        span: tuple[int, int],
        if_match: ETag | None,
    ) -> ETag:
        self._uploads.begun(key, upload)
        body = self.get(source, span, if_match).body
        return self._uploads.add_part(key, upload, number, body)

    def rows(self, keys: Iterator[str]) -> list[Listed]:
        now = self._hidden.now()
        rows: list[Listed] = []
        for key in keys:
            with contextlib.suppress(ObjectNotFound):  # removed since its directory was read
                rows.append(self._row(key, now))
            if len(rows) == PAGE:
                break
        return rows

    def _row(self, key: str, now: float) -> Listed:
        with object_at(self._bucket, key) as descriptor:
            version = self._versions.look(key, descriptor, now)
        return Listed(
            key=key,
            size=version.identity.size,
            etag=version.etag,
            last_modified=version.last_modified,
        )


def _info(key: str, version: Version, now: float) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size=version.identity.size,
        etag=version.etag,
        last_modified=version.last_modified,
        date=now,
        content_type=version.content_type,
        metadata=version.metadata,
    )


def uptime() -> float:
    """Seconds that go on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
