"""A bucket in memory: the deterministic twin of a real one, for simulations and tests.

No threads, no randomness, no clock of its own. Each call is one checkpoint and then one atomic
step, so a simulation that chooses the order of tasks chooses the order of requests; each page of a
listing is such a step of its own. What real stores do to protocols is kept:

- an ETag is the MD5 of the bytes, so a content that comes back brings its ETag back; that of a
  completed upload is the MD5 of its parts' MD5s, with their number;
- `last_modified` and `date` are the store's time in whole `resolution`s;
- a condition that `traits` does not promise is ignored, not refused;
- with `nested_keys` false, `a` beside `a/b` is a KeyClash; but with `hides_nested` it is taken, and
  no listing shows `a/b`;
- a write to a key within `writes_apart` seconds after another, also one that its condition then
  refused, is answered 429;
- a signed delete has no effect when it arrives after its validity.

A request that arrives late, twice or never is the business of a wrapper (`store.faulty`).
"""

from bisect import bisect_left, insort
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from itertools import islice
from math import inf
from types import MappingProxyType
from typing import NamedTuple

import trio

from pdfs.core.content import ETag
from pdfs.errors import KeyClash, ObjectNotFound, PreconditionFailed, StoreRefused, StoreUnavailable
from pdfs.store.objects import (
    NO_METADATA,
    Condition,
    Fetched,
    IfAbsent,
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
    check_key,
    check_part_count,
    check_part_number,
    check_span,
)

ALL_TRAITS = Traits(
    conditional_complete=True,
    conditional_delete=True,
    conditional_part_copy=True,
    nested_keys=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One version of an object, immutable."""

    body: bytes
    etag: ETag
    last_modified: float
    content_type: str
    metadata: Mapping[str, str]


class Change(NamedTuple):
    """What one request did to one key, at the store's exact time; None = removed."""

    time: float
    key: str
    stored: StoredObject | None


@dataclass(slots=True, kw_only=True)
class _Upload:
    key: str
    content_type: str
    metadata: Mapping[str, str]
    initiated: float
    parts: dict[int, bytes]


class MemoryStore:
    """Keeps `ObjectStore`; `objects` and `history` show tests what is and was in it."""

    def __init__(
        self,
        *,
        now: Callable[[], float],
        traits: Traits = ALL_TRAITS,
        max_key_bytes: int = MAX_KEY_BYTES,
        resolution: float = 1.0,
        page_size: int = 1000,
        writes_apart: float = 0.0,
        name: str = "memory",
    ) -> None:
        self.name = name
        self.traits = traits
        self.max_key_bytes = max_key_bytes
        self.history: list[Change] = []
        self._now = now
        self._resolution = resolution
        self._page_size = page_size
        self._writes_apart = writes_apart
        self._written: dict[str, float] = {}
        self._objects: dict[str, StoredObject] = {}
        self._keys: list[str] = []
        """Sorted; the order of code points is the order of UTF-8 bytes."""
        self._uploads: dict[UploadId, _Upload] = {}
        self._uploads_begun = 0

    @property
    def objects(self) -> Mapping[str, StoredObject]:
        """A live read-only view of what the bucket holds, by key."""
        return MappingProxyType(self._objects)

    async def get(
        self, key: str, *, span: tuple[int, int] | None = None, if_match: ETag | None = None
    ) -> Fetched:
        self._check(key, span=span)
        await trio.lowlevel.checkpoint()
        found = self._version(key, if_match)
        body = found.body if span is None else _cut(key, found.body, span)
        return Fetched(info=self._info(key, found), body=body)

    async def head(self, key: str) -> ObjectInfo:
        self._check(key)
        await trio.lowlevel.checkpoint()
        return self._info(key, self._version(key, None))

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
        await trio.lowlevel.checkpoint()
        self._check_rate(key)
        self._judge(key, condition)
        return self._store(key, bytes(body), ETag(md5(body).hexdigest()), content_type, metadata)

    async def delete(self, key: str, *, condition: IfMatch | None) -> None:
        self._check(key)
        await trio.lowlevel.checkpoint()
        self._check_rate(key)
        if condition is not None and self.traits.conditional_delete:
            self._version(key, condition.etag)
        self._remove(key)

    def sign_delete(self, key: str, *, valid_for: float) -> "MemorySignedDelete":
        self._check(key)
        return MemorySignedDelete(self, key, self._now() + valid_for)

    def delete_signed(self, key: str, valid_until: float) -> None:
        """Carry out a signed delete that arrives now. Raises StoreRefused if it is too late."""
        if self._now() > valid_until:
            raise StoreRefused(f"the signature for deleting {key!r} has expired")
        self._check_rate(key)
        self._remove(key)

    def _remove(self, key: str) -> None:
        if self._objects.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]
            self.history.append(Change(self._now(), key, None))

    async def list(self, prefix: str) -> AsyncIterator[Sequence[Listed]]:
        last, more = "", True
        while more:
            await trio.lowlevel.checkpoint()
            keys, more = _page(self._keys_below(prefix, last), self._page_size)
            if keys:
                last = keys[-1]
                yield [_row(key, self._objects[key]) for key in keys]

    def listed_at(self, prefix: str, moment_of: Callable[[str], float]) -> Sequence[Listed]:
        """What a listing would show that has each key as it was at a moment of its own."""
        found: dict[str, StoredObject | None] = {}
        moments: dict[str, float] = {}
        for change in self.history:
            if change.key.startswith(prefix):
                if change.key not in moments:
                    moments[change.key] = moment_of(change.key)
                if change.time <= moments[change.key]:
                    found[change.key] = change.stored
        return [_row(key, stored) for key, stored in sorted(found.items()) if stored is not None]

    async def list_directories(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        last, more = "", True
        while more:
            await trio.lowlevel.checkpoint()
            names, more = _page(self._directories_below(prefix, last), self._page_size)
            if names:
                last = names[-1]
                yield names

    async def create_upload(
        self,
        key: str,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> UploadId:
        self._check(key)
        check_description(content_type, metadata)
        await trio.lowlevel.checkpoint()
        self._uploads_begun += 1
        upload = UploadId(f"upload-{self._uploads_begun}")
        self._uploads[upload] = _Upload(
            key=key,
            content_type=content_type,
            metadata=_frozen(metadata),
            initiated=self._date(),
            parts={},
        )
        return upload

    async def upload_part(self, key: str, upload: UploadId, number: int, body: bytes) -> ETag:
        self._check(key, part=number)
        await trio.lowlevel.checkpoint()
        self._upload(key, upload).parts[number] = bytes(body)
        return ETag(md5(body).hexdigest())

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
        self._check(key, part=number, span=span)
        self._check(source)
        await trio.lowlevel.checkpoint()
        parts = self._upload(key, upload).parts
        expected = if_match if self.traits.conditional_part_copy else None
        body = _cut(source, self._version(source, expected).body, span)
        parts[number] = body
        return ETag(md5(body).hexdigest())

    async def complete_upload(
        self, key: str, upload: UploadId, parts: Sequence[ETag], *, condition: Condition | None
    ) -> Stored:
        self._check(key)
        check_part_count(len(parts))
        await trio.lowlevel.checkpoint()
        self._check_rate(key)
        begun = self._upload(key, upload)
        bodies = _parts_named(key, begun.parts, parts)
        self._judge(key, condition if self.traits.conditional_complete else None)
        del self._uploads[upload]
        etag = multipart_etag(parts)
        return self._store(key, b"".join(bodies), etag, begun.content_type, begun.metadata)

    async def abort_upload(self, key: str, upload: UploadId) -> None:
        self._check(key)
        await trio.lowlevel.checkpoint()
        if upload in self._uploads and self._uploads[upload].key == key:
            del self._uploads[upload]

    async def list_uploads(self, prefix: str) -> AsyncIterator[Sequence[ListedUpload]]:
        await trio.lowlevel.checkpoint()
        rows = [
            ListedUpload(key=begun.key, upload=upload, initiated=begun.initiated)
            for upload, begun in self._uploads.items()
            if begun.key.startswith(prefix)
        ]
        if rows:
            yield sorted(rows, key=lambda row: row.key)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    # What follows runs within one step.

    def _check(
        self,
        key: str,
        *,
        span: tuple[int, int] | None = None,
        part: int | None = None,
    ) -> None:
        check_key(key, self.max_key_bytes)
        if span is not None:
            check_span(span)
        if part is not None:
            check_part_number(part)

    def _check_rate(self, key: str) -> None:
        now = self._now()
        if now < self._written.get(key, -inf) + self._writes_apart:
            raise StoreUnavailable(
                f"429: {key!r} was written less than {self._writes_apart:g} s ago",
                sent=False,
                retry_after=self._writes_apart,
            )
        self._written[key] = now

    def _date(self) -> float:
        now = self._now()
        return now // self._resolution * self._resolution if self._resolution else now

    def _version(self, key: str, if_match: ETag | None) -> StoredObject:
        found = self._objects.get(key)
        if found is None:
            raise ObjectNotFound(key)
        if if_match is not None and found.etag != if_match:
            raise PreconditionFailed(key)
        return found

    def _judge(self, key: str, condition: Condition | None) -> None:
        """Raise unless an object may be stored at `key` now."""
        found = self._objects.get(key)
        match condition:
            case IfAbsent() if found is not None:
                raise PreconditionFailed(key)
            case IfMatch(etag) if found is None or found.etag != etag:
                raise PreconditionFailed(key)
        refuses = not self.traits.nested_keys and not self.traits.hides_nested
        if found is None and refuses and self._has_relative(key):
            raise KeyClash(key)

    def _has_relative(self, key: str) -> bool:
        """Whether there is an object whose key is parent or child of `key`."""
        return self._has_parent(key) or any(self._keys_below(f"{key}/", ""))

    def _has_parent(self, key: str) -> bool:
        above = (key[:at] for at, letter in enumerate(key) if letter == "/")
        return any(parent in self._objects for parent in above)

    def _store(
        self, key: str, body: bytes, etag: ETag, content_type: str, metadata: Mapping[str, str]
    ) -> Stored:
        if key not in self._objects:
            insort(self._keys, key)
        date = self._date()
        self._objects[key] = StoredObject(
            body=body,
            etag=etag,
            last_modified=date,
            content_type=content_type,
            metadata=_frozen(metadata),
        )
        self.history.append(Change(self._now(), key, self._objects[key]))
        return Stored(etag=etag, date=date)

    def _info(self, key: str, found: StoredObject) -> ObjectInfo:
        return ObjectInfo(
            key=key,
            size=len(found.body),
            etag=found.etag,
            last_modified=found.last_modified,
            date=self._date(),
            content_type=found.content_type,
            metadata=found.metadata,
        )

    def _upload(self, key: str, upload: UploadId) -> _Upload:
        begun = self._uploads.get(upload)
        if begun is None or begun.key != key:
            raise ObjectNotFound(key)
        return begun

    def _keys_below(self, prefix: str, after: str) -> Iterator[str]:
        """Keys that start with `prefix` and are greater than `after`, in order."""
        at = max(bisect_left(self._keys, prefix), bisect_left(self._keys, f"{after}\0"))
        while at < len(self._keys) and self._keys[at].startswith(prefix):
            if not (self.traits.hides_nested and self._has_parent(self._keys[at])):
                yield self._keys[at]
            at += 1

    def _directories_below(self, prefix: str, after: str) -> Iterator[str]:
        directory = self._next_directory(prefix, after)
        while directory is not None:
            yield directory
            directory = self._next_directory(prefix, directory)

    def _next_directory(self, prefix: str, after: str) -> str | None:
        beyond = after and f"{after[:-1]}0"  # "0" follows "/": past all keys below `after`
        for key in self._keys_below(prefix, beyond):
            name, slash, _ = key[len(prefix) :].partition("/")
            if slash:
                return f"{prefix}{name}/"
        return None


def _page(found: Iterator[str], size: int) -> tuple[list[str], bool]:
    """The next `size` of `found`, and whether there may be more."""
    page = list(islice(found, size))
    return page, len(page) == size


def multipart_etag(parts: Sequence[ETag]) -> ETag:
    """The ETag of a completed upload, as S3 computes it from those of its parts."""
    digest = md5(b"".join(bytes.fromhex(part) for part in parts)).hexdigest()
    return ETag(f"{digest}-{len(parts)}")


def _parts_named(key: str, sent: Mapping[int, bytes], parts: Sequence[ETag]) -> list[bytes]:
    bodies = [sent.get(number) for number in range(1, len(parts) + 1)]
    named = [body for body, etag in zip(bodies, parts, strict=True) if _is_part(body, etag)]
    if len(named) != len(parts):
        raise StoreRefused(f"the upload of {key!r} was completed with parts that it does not have")
    return [body for body in named if body is not None]


def _is_part(body: bytes | None, etag: ETag) -> bool:
    return body is not None and md5(body).hexdigest() == etag


def _cut(key: str, body: bytes, span: tuple[int, int]) -> bytes:
    if span[1] > len(body):
        raise PreconditionFailed(key)
    return body[span[0] : span[1]]


def _row(key: str, found: StoredObject) -> Listed:
    return Listed(key=key, size=len(found.body), etag=found.etag, last_modified=found.last_modified)


def _frozen(metadata: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(metadata))


@dataclass(frozen=True, slots=True)
class MemorySignedDelete:
    """A delete that this store carries out until its own clock shows `valid_until`."""

    store: MemoryStore
    key: str
    valid_until: float

    async def send(self) -> None:
        await trio.lowlevel.checkpoint()
        self.store.delete_signed(self.key, self.valid_until)
