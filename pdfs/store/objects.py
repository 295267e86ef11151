"""What PDFS asks of a bucket: the `ObjectStore` protocol and its values.

A store is a flat map from keys to immutable objects. Keys here are relative to the configured
prefix: the store adds the prefix itself, nothing above it knows one. Every implementation passes
the conformance suite in `tests/store`.

Atomicity: a `put` or `complete_upload` is seen whole or not at all, and its condition is judged at
the same instant. Durability: when one of these returns, the object survives a crash of the store.

Errors of every call, beside those its docstring names: `StoreUnavailable` when no usable answer
came (the request may have been carried out, unless `sent` is false), `StoreRefused`, `ClockSkewed`.
A store never repeats a request that changes something: what a lost answer means is known only to
the protocol that sent it (`stage.swap`).

Cancellation leaves a changing request in doubt, like a lost answer.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NewType, Protocol

from pdfs.core.content import ETag

UploadId = NewType("UploadId", str)
"""Names one multipart upload under way."""

NO_METADATA: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class IfAbsent:
    """Only if no object has this key (`If-None-Match: *`)."""


@dataclass(frozen=True, slots=True)
class IfMatch:
    """Only if the object of this key has this ETag (`If-Match`)."""

    etag: ETag


Condition = IfAbsent | IfMatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What this store does beyond the indispensable conditional PUT, as measured by the probe."""

    conditional_complete: bool
    conditional_delete: bool
    conditional_part_copy: bool
    """UploadPartCopy honours a condition on its source."""
    nested_keys: bool
    """`a` can exist beside `a/b`."""
    hides_nested: bool = False
    """Where it can't: it is taken all the same, and one of the two is in no listing any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One object as an answer described it. Times are seconds since 1970 by the store's clock."""

    key: str
    size: int
    etag: ETag
    last_modified: float
    """Whole seconds on most stores."""
    date: float
    """When the store answered; `date - last_modified` is the object's age by one clock."""
    content_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=lambda: NO_METADATA)
    """User metadata; names in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An object, or the span of it that was asked for."""

    info: ObjectInfo
    """Describes the whole object, also when `body` is a span of it."""
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The answer to a PUT or a completed upload: computed by the store."""

    etag: ETag
    date: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One row of a listing."""

    key: str
    size: int
    etag: ETag
    last_modified: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedUpload:
    """One upload that was created and neither completed nor aborted."""

    key: str
    upload: UploadId
    initiated: float


class SignedDelete(Protocol):
    """A delete that is ready to be sent, and of no effect once its validity is over."""

    async def send(self) -> None:
        """Remove the object; no error where there is none. To be called once.

        Raises StoreRefused where the request arrived after its validity; nothing was removed then.
        """


class ObjectStore(Protocol):
    """A bucket. One instance serves one process; calls may run concurrently."""

    @property
    def name(self) -> str:
        """For people: `s3://bucket/prefix`, `file:///dir (only on this machine)`."""

    @property
    def traits(self) -> Traits: ...

    @property
    def max_key_bytes(self) -> int:
        """Longest key in UTF-8 bytes that this store takes, its prefix subtracted."""

    async def get(
        self, key: str, *, span: tuple[int, int] | None = None, if_match: ETag | None = None
    ) -> Fetched:
        """The object's bytes, or those of `span` = (start, stop), `0 <= start < stop <= size`.

        The body has exactly the length asked for. Raises ObjectNotFound, and PreconditionFailed
        where the object is no longer the version `if_match`, or ends before `stop`.
        """

    async def head(self, key: str) -> ObjectInfo:
        """What is known of the object without its bytes. Raises ObjectNotFound."""

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        condition: Condition | None,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Stored:
        """Create or replace the object. Raises PreconditionFailed, KeyClash."""

    async def delete(self, key: str, *, condition: IfMatch | None) -> None:
        """Remove the object; no error where there is none, if `condition` is None.

        With a condition (only where `traits.conditional_delete`): raises PreconditionFailed, or
        ObjectNotFound.
        """

    def sign_delete(self, key: str, *, valid_for: float) -> SignedDelete:
        """An unconditional delete whose lateness is bounded; nothing is sent by this call.

        `valid_for` counts in seconds from now. The caller looks once more at what allows it to
        delete, between this call and `send`.
        """

    def list(self, prefix: str) -> AsyncIterator[Sequence[Listed]]:
        """Every object whose key starts with `prefix`, in pages.

        Keys come in UTF-8 byte order from most stores, but from some directory by directory
        (SeaweedFS: `a/1` before `a-b`). Not a snapshot: objects that change meanwhile may be shown
        before or after.
        """

    def list_directories(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        """The distinct `prefix + name + "/"` of all keys below `prefix` (delimiter `/`)."""

    async def create_upload(
        self,
        key: str,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> UploadId:
        """Begin an object that is sent in parts."""

    async def upload_part(self, key: str, upload: UploadId, number: int, body: bytes) -> ETag:
        """Send part `number` (from 1). Raises ObjectNotFound where the upload is gone."""

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
        """Let the store fill part `number` from `source[span]`.

        `if_match` only where `traits.conditional_part_copy`. Raises ObjectNotFound,
        PreconditionFailed.
        """

    async def complete_upload(
        self, key: str, upload: UploadId, parts: Sequence[ETag], *, condition: Condition | None
    ) -> Stored:
        """Make the parts, numbered from 1 in this order, the object.

        `condition` only where `traits.conditional_complete`. Raises PreconditionFailed, KeyClash,
        ObjectNotFound.
        """

    async def abort_upload(self, key: str, upload: UploadId) -> None:
        """Drop an upload and its parts; no error where it is gone."""

    def list_uploads(self, prefix: str) -> AsyncIterator[Sequence[ListedUpload]]:
        """Uploads under way whose key starts with `prefix`."""

    async def aclose(self) -> None:
        """Give back connections and threads. Idempotent."""
