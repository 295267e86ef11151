"""An S3 bucket as an `ObjectStore`: checks and threads around the two clients."""

import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import trio

from pdfs.core.content import ETag
from pdfs.errors import (
    ClockSkewed,
    KeyClash,
    NoSuchUpload,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
    UsageError,
)
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
from pdfs.store.s3.access import Access
from pdfs.store.s3.bulk import Bulk, SentWhole
from pdfs.store.s3.clock import StoreClock, uptime
from pdfs.store.s3.control import Control
from pdfs.store.s3.faults import skewed
from pdfs.store.s3.signed import DeleteSender

T = TypeVar("T")
Mark = TypeVar("Mark")
Rows = TypeVar("Rows", bound=Sequence[object])

UNPROVEN: Final = Traits(
    conditional_complete=False,
    conditional_delete=False,
    conditional_part_copy=False,
    nested_keys=False,
)
"""What a store is believed to do until `store.probe` has seen it."""


class S3Store:
    """Keeps `ObjectStore`. Thread-safe clients, no retries, bounded waits."""

    def __init__(self, access: Access) -> None:
        settings = access.settings
        self.name = settings.name
        self.traits = UNPROVEN
        self.max_key_bytes = MAX_KEY_BYTES - len(settings.prefix.encode())
        self._clock = StoreClock()
        self._control = Control(access, self._clock)
        self._bulk = Bulk(access)
        self._deletes = DeleteSender(access)
        self._control_limiter = trio.CapacityLimiter(settings.control_threads)
        self._bulk_limiter = trio.CapacityLimiter(settings.bulk_threads)

    def believe(self, traits: Traits) -> None:
        """From now on, say that the store does what `store.probe` has seen."""
        self.traits = traits

    async def get(
        self, key: str, *, span: tuple[int, int] | None = None, if_match: ETag | None = None
    ) -> Fetched:
        self._check(key)
        if span is not None:
            check_span(span)
        if span is None or not self._is_for_bulk(key):
            fetched = await self._in_control(lambda: self._control.get(key, span, if_match))
        else:
            fetched = await self._get_span(key, span, if_match)
        if if_match not in (None, fetched.info.etag):  # ignored by the store
            raise PreconditionFailed(key)
        return fetched

    async def _get_span(self, key: str, span: tuple[int, int], if_match: ETag | None) -> Fetched:
        date = self._clock.now()
        try:
            return await self._in_bulk(lambda: self._bulk.get_span(key, span, if_match, date))
        except SentWhole:
            return await self._in_control(lambda: self._control.get(key, span, if_match))

    async def head(self, key: str) -> ObjectInfo:
        self._check(key)
        return await self._in_control(lambda: self._control.head(key))

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
        for is_last in (False, True):
            try:
                return await self._put(key, body, condition, content_type, metadata)
            except (ObjectNotFound, PreconditionFailed) as error:
                meaning = await self._meaning(error, key, condition)
                if is_last or not isinstance(meaning, KeyClash):
                    raise meaning from error
        raise AssertionError("the last try gives an answer or an error")

    async def _put(
        self,
        key: str,
        body: bytes,
        condition: Condition | None,
        content_type: str,
        metadata: Mapping[str, str],
    ) -> Stored:
        if not self._is_for_bulk(key):
            return await self._in_control(
                lambda: self._control.put(key, body, condition, content_type, metadata)
            )
        etag = await self._in_bulk(
            lambda: self._bulk.put(key, body, condition, content_type, metadata)
        )
        return Stored(etag=etag, date=self._clock.now())

    async def delete(self, key: str, *, condition: IfMatch | None) -> None:
        self._check(key)
        try:
            await self._in_control(lambda: self._control.delete(key, condition))
        except ObjectNotFound:
            if condition is not None:
                raise

    def sign_delete(self, key: str, *, valid_for: float) -> "SignedDelete":
        self._check(key)
        return SignedDelete(self, key, uptime(), valid_for)

    async def delete_signed(self, key: str, signed_at: float, valid_for: float) -> None:
        """Remove the object, if the store gets to it within `valid_for` s of `signed_at`, which is
        this machine's uptime.
        """

        def send() -> None:
            if not self._clock.is_set:
                self._control.touch()
            self._deletes.send(key, self._clock.at(signed_at), valid_for)

        await self._in_control(send)

    async def list(self, prefix: str) -> AsyncIterator[Sequence[Listed]]:
        pages = self._pages(lambda after: self._control.list_page(prefix, after))
        async with contextlib.aclosing(pages):
            async for page in pages:
                yield page

    async def list_directories(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        pages = self._pages(lambda after: self._control.directories_page(prefix, after))
        async with contextlib.aclosing(pages):
            async for page in pages:
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
        return await self._in_control(
            lambda: self._control.create_upload(key, content_type, metadata)
        )

    async def upload_part(self, key: str, upload: UploadId, number: int, body: bytes) -> ETag:
        self._check(key)
        check_part_number(number)
        return await self._in_bulk(lambda: self._control.upload_part(key, upload, number, body))

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
        return await self._in_control(
            lambda: self._control.copy_part(key, upload, number, source, span, if_match)
        )

    async def complete_upload(
        self, key: str, upload: UploadId, parts: Sequence[ETag], *, condition: Condition | None
    ) -> Stored:
        self._check(key)
        check_part_count(len(parts))
        try:
            return await self._in_control(
                lambda: self._control.complete_upload(key, upload, parts, condition)
            )
        except NoSuchUpload:
            raise
        except (ObjectNotFound, PreconditionFailed) as error:
            raise await self._meaning(error, key, condition) from error

    async def abort_upload(self, key: str, upload: UploadId) -> None:
        self._check(key)
        await self._in_control(lambda: self._control.abort_upload(key, upload))

    async def list_uploads(self, prefix: str) -> AsyncIterator[Sequence[ListedUpload]]:
        pages = self._pages(lambda after: self._control.uploads_page(prefix, after))
        async with contextlib.aclosing(pages):
            async for page in pages:
                yield page

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self._control.close()
        self._deletes.close()

    def _check(self, key: str) -> None:
        """Refuse what HTTP clients and proxies would turn into another key."""
        check_key(key, self.max_key_bytes)
        if any(component in ("", ".", "..") for component in key.split("/")):
            raise UsageError(f"the key {key!r} is no clean path, and may not arrive as it is")

    async def _meaning(
        self, error: StoreError, key: str, condition: Condition | None
    ) -> StoreError:
        """What a store meant by refusing the condition of a PUT.

        AWS says 404 to an If-Match that finds no object. Stores without nested keys may say that an
        object is there where only a directory is (SeaweedFS, even one that has become empty); said
        once, it may also be that one was there until then, or that the answer was wrong.
        """
        match condition:
            case IfMatch() if isinstance(error, ObjectNotFound):
                return PreconditionFailed(key)
            case IfAbsent() if not self.traits.nested_keys and not await self._exists(key):
                return KeyClash(key)
        return error

    async def _exists(self, key: str) -> bool:
        try:
            await self.head(key)
        except ObjectNotFound:
            return False
        return True

    def _is_for_bulk(self, key: str) -> bool:
        return self._clock.is_set and self._bulk.can_carry(key)

    async def _pages(
        self, ask: Callable[[Mark | None], tuple[Rows, Mark | None]]
    ) -> AsyncGenerator[Rows, None]:
        """Every page that is not empty; `ask` takes the mark that the page before gave."""
        mark: Mark | None = None
        while True:
            page, mark = await self._in_control(functools.partial(ask, mark))
            if page:
                yield page
            if mark is None:
                return

    async def _in_control(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(
            work, limiter=self._control_limiter, abandon_on_cancel=True
        )

    async def _in_bulk(self, work: Callable[[], T]) -> T:
        try:
            return await trio.to_thread.run_sync(
                work, limiter=self._bulk_limiter, abandon_on_cancel=True
            )
        except ClockSkewed as error:
            if error.is_measured:
                raise
            raise skewed(self.name, self._clock.now()) from error  # bulk shows no date of an answer


@dataclass(frozen=True, slots=True)
class SignedDelete:
    """Its validity began when this machine's uptime was `signed_at`."""

    store: S3Store
    key: str
    signed_at: float
    valid_for: float

    async def send(self) -> None:
        await self.store.delete_signed(self.key, self.signed_at, self.valid_for)
