"""Uploads in parts: a hidden directory each, whose parts are put together when it is completed."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pdfs.core.content import ETag
from pdfs.disk import Buffer, opened, replace_file, write_fully
from pdfs.errors import ObjectNotFound, StoreRefused
from pdfs.store.directory.hidden import Hidden, NewFile, fresh_name
from pdfs.store.directory.place import Bucket, directory_in
from pdfs.store.directory.version import chunks
from pdfs.store.objects import ListedUpload, UploadId

_INFO = "info.json"
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What the object will be, decided when the upload began."""

    key: str
    content_type: str
    metadata: Mapping[str, str]
    initiated: float


class Uploads:
    """The uploads under way in one bucket."""

    def __init__(self, bucket: Bucket, hidden: Hidden) -> None:
        self._bucket = bucket
        self._disk = bucket.disk
        self._hidden = hidden

    def create(self, key: str, content_type: str, metadata: Mapping[str, str]) -> UploadId:
        info = {"key": key, "content_type": content_type, "metadata": dict(metadata)}
        upload = fresh_name()
        with self._hidden.uploads() as uploads:
            self._disk.mkdir(uploads, upload, self._bucket.mode)
            with directory_in(self._disk, uploads, upload) as directory:
                replace_file(self._disk, directory, _INFO, json.dumps(info).encode())
            self._disk.fsync(uploads)
        return UploadId(upload)

    def begun(self, key: str, upload: UploadId) -> Begun:
        """What `create` was told. Raises ObjectNotFound where the upload is gone."""
        with self._opened(key, upload) as directory:
            return self._read_info(key, directory)

    def add_part(self, key: str, upload: UploadId, number: int, body: Buffer) -> ETag:
        with self._opened(key, upload) as directory:
            self._read_info(key, directory)
            replace_file(self._disk, directory, _part_name(number), body)
        return ETag(hashlib.md5(body, usedforsecurity=False).hexdigest())

    def join(self, key: str, upload: UploadId, parts: Sequence[ETag], new: NewFile) -> ETag:
        """Write the parts into `new`, not synced; the MD5 of the whole.

        Raises ObjectNotFound, and StoreRefused where a part is not the one that `parts` names.
        """
        whole, offset = hashlib.md5(usedforsecurity=False), 0
        with self._opened(key, upload) as directory:
            self._read_info(key, directory)
            for number, etag in enumerate(parts, start=1):
                digest = hashlib.md5(usedforsecurity=False)
                for chunk in self._part(key, directory, number):
                    digest.update(chunk)
                    whole.update(chunk)
                    offset += write_fully(self._disk, new.descriptor, [chunk], offset)
                if digest.hexdigest() != etag:
                    raise _other_part(key, number)
        return ETag(whole.hexdigest())

    def remove(self, key: str, upload: UploadId) -> None:
        """Raises ObjectNotFound where it is gone."""
        with self._hidden.uploads() as uploads:
            with self._opened(key, upload) as directory:
                self._read_info(key, directory)
                # Its description first: without that it is no upload any more.
                for name in [_INFO, *sorted(set(os.listdir(directory)) - {_INFO})]:
                    with contextlib.suppress(FileNotFoundError):
                        self._disk.unlink(directory, name)
            with contextlib.suppress(OSError):
                self._disk.rmdir(uploads, upload)

    def listed(self, prefix: str) -> list[ListedUpload]:
        """The uploads below `prefix`, by key."""
        found = []
        with self._hidden.uploads() as uploads:
            for name in filter(_ID.fullmatch, os.listdir(uploads)):
                upload = UploadId(name)
                with contextlib.suppress(ObjectNotFound):
                    begun = self._read_begun(upload)
                    found.append(
                        ListedUpload(key=begun.key, upload=upload, initiated=begun.initiated)
                    )
        fitting = [row for row in found if row.key.startswith(prefix)]
        return sorted(fitting, key=lambda row: (row.key.encode(), row.initiated))

    @contextlib.contextmanager
    def _opened(self, key: str, upload: UploadId) -> Iterator[int]:
        if not _ID.fullmatch(upload):
            raise ObjectNotFound(key)
        with contextlib.ExitStack() as held:
            uploads = held.enter_context(self._hidden.uploads())
            try:
                directory = held.enter_context(directory_in(self._disk, uploads, upload))
            except FileNotFoundError:
                raise ObjectNotFound(key) from None
            yield directory

    def _read_info(self, key: str, directory: int) -> Begun:
        begun = self._info_in(key, directory)
        if begun.key != key:
            raise ObjectNotFound(key)
        return begun

    def _read_begun(self, upload: UploadId) -> Begun:
        with self._opened(upload, upload) as directory:
            return self._info_in(upload, directory)

    def _info_in(self, key: str, directory: int) -> Begun:
        try:
            with opened(self._disk, directory, _INFO) as descriptor:
                status = os.fstat(descriptor)
                info = json.loads(b"".join(chunks(descriptor, 0, status.st_size)))
        except FileNotFoundError:
            raise ObjectNotFound(key) from None
        return _begun(info, status.st_mtime)

    def _part(self, key: str, directory: int, number: int) -> Iterator[bytes]:
        try:
            with opened(self._disk, directory, _part_name(number)) as descriptor:
                yield from chunks(descriptor, 0, os.fstat(descriptor).st_size)
        except FileNotFoundError:
            raise _other_part(key, number) from None


def _begun(info: Any, initiated: float) -> Begun:
    return Begun(
        key=info["key"],
        content_type=info["content_type"],
        metadata=info["metadata"],
        initiated=initiated,
    )


def _part_name(number: int) -> str:
    return f"{number:05}"


def _other_part(key: str, number: int) -> StoreRefused:
    return StoreRefused(f"part {number} of the upload of {key!r} is not the one that was sent")
