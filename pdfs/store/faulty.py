"""A bucket behind a bad network: a wrapper that decides the fate of each request.

It serves tests and simulations. What a client can't tell apart in reality, it can't here: a request
that never arrived, an answer that was lost and a request that arrives an hour later all are the
same silence.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

import trio

from pdfs.core.content import ETag
from pdfs.errors import PreconditionFailed, StoreError, StoreRefused, StoreUnavailable
from pdfs.store.objects import (
    NO_METADATA,
    Condition,
    Fetched,
    IfMatch,
    Listed,
    ListedUpload,
    ObjectInfo,
    ObjectStore,
    SignedDelete,
    Stored,
    Traits,
    UploadId,
)
from pdfs.store.step import Step, current_step

T = TypeVar("T")

LIST = "list"
"""The operation of a listing of objects."""


class Fate(StrEnum):
    """What becomes of one request."""

    FINE = "fine"
    REQUEST_LOST = "request lost"
    """It never arrives, and no answer comes."""
    UNAVAILABLE = "503"
    """The store says that it did nothing."""
    BUSY = "429"
    """It says so, and wants a second of peace."""
    CONTENDED = "409"
    """It says so, since another request for the key was under way."""
    UNMET = "412"
    """It says that a condition did not hold, which is not so, and did nothing."""
    BROKEN = "500"
    """It is carried out, and the store says that something went wrong."""
    REFUSED = "403"
    DAMAGED = "damaged"
    """A PUT arrives with a flipped bit, which nobody notices on the way; else all is fine."""
    ANSWER_LOST = "answer lost"
    """It is carried out, and no answer comes."""
    SLOW = "slow"
    """It takes a hundred times as long as others, both ways."""
    STALE = "stale"
    """A listing shows keys as they were some while ago, each at a time of its own."""
    LATE = "late"
    """No answer comes, and it is carried out long after its sender gave up."""
    DOUBLED = "doubled"
    """It is carried out twice in a row; the answer is the second one's."""
    ECHOED = "echoed"
    """It is carried out and answered, and carried out again much later."""
    FROZEN = "frozen"
    """The sender stands still with all its tasks before it arrives, then goes on unawares."""
    CRASH_BEFORE = "crash before"
    """The sender dies before it arrives."""
    CRASH_AFTER = "crash after"
    """It is carried out, and the sender dies before the answer."""


READ_FATES = frozenset(
    {
        *(Fate.REQUEST_LOST, Fate.ANSWER_LOST, Fate.SLOW),
        *(Fate.UNAVAILABLE, Fate.BUSY, Fate.CONTENDED, Fate.UNMET, Fate.BROKEN, Fate.REFUSED),
        *(Fate.FROZEN, Fate.CRASH_BEFORE, Fate.CRASH_AFTER),
    }
)
WRITE_FATES = frozenset(Fate) - {Fate.FINE, Fate.DAMAGED, Fate.STALE}


def fates_of(request: "Request") -> frozenset[Fate]:
    """What can befall this request, but for bits that flip."""
    if request.is_write:
        return WRITE_FATES
    return READ_FATES | {Fate.STALE} if request.operation == LIST else READ_FATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request that is about to be sent."""

    step: Step | None
    operation: str
    key: str
    is_write: bool


_SLOWER = 100.0

_ANSWERS: Mapping[Fate, Callable[[str], StoreError]] = MappingProxyType(
    {
        Fate.UNAVAILABLE: lambda _: StoreUnavailable("the bucket answers 503", sent=False),
        Fate.BUSY: lambda _: StoreUnavailable(
            "the bucket answers 429", sent=False, retry_after=1.0
        ),
        Fate.CONTENDED: lambda _: StoreUnavailable("the bucket answers 409", sent=False),
        Fate.UNMET: PreconditionFailed,
        Fate.REFUSED: lambda _: StoreRefused("the bucket answers 403"),
    }
)
"""What the store says where it did nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How requests fare. All times in seconds by trio's clock."""

    fate_of: Callable[[Request], Fate]
    latency: Callable[[], float]
    lateness: Callable[[], float]
    """How late a late request is, and how long a sender is frozen."""
    nursery: trio.Nursery
    """Where late requests live on when their sender is gone."""
    crash: Callable[[], NoReturn]
    """Kills the sender."""
    stale: Callable[[str], Sequence[Listed]] | None = None
    """What a stale listing of a prefix shows; None where a listing is always fresh."""


class FaultyStore:
    """The view that one process has of a store, through `network`."""

    def __init__(self, store: ObjectStore, network: Network) -> None:
        self._store = store
        self._network = network
        self._thaws = -math.inf
        """When the process goes on."""

    @property
    def name(self) -> str:
        return self._store.name

    @property
    def traits(self) -> Traits:
        return self._store.traits

    @property
    def max_key_bytes(self) -> int:
        return self._store.max_key_bytes

    async def get(
        self, key: str, *, span: tuple[int, int] | None = None, if_match: ETag | None = None
    ) -> Fetched:
        return await self._read(
            "get", key, lambda: self._store.get(key, span=span, if_match=if_match)
        )

    async def head(self, key: str) -> ObjectInfo:
        return await self._read("head", key, lambda: self._store.head(key))

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        condition: Condition | None,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Stored:
        return await self._write(
            "put",
            key,
            lambda: self._store.put(
                key, body, condition=condition, content_type=content_type, metadata=metadata
            ),
            lambda: self._store.put(
                key,
                _damaged(body),
                condition=condition,
                content_type=content_type,
                metadata=metadata,
            ),
        )

    async def delete(self, key: str, *, condition: IfMatch | None) -> None:
        await self._write("delete", key, lambda: self._store.delete(key, condition=condition))

    def sign_delete(self, key: str, *, valid_for: float) -> SignedDelete:
        return _FaultyDelete(self, key, self._store.sign_delete(key, valid_for=valid_for))

    async def send_signed(self, key: str, signed: SignedDelete) -> None:
        """A signed delete, sent through this network."""
        await self._write("delete", key, signed.send)

    async def list(self, prefix: str) -> AsyncIterator[Sequence[Listed]]:
        pages = await self._send(
            LIST,
            prefix,
            lambda: _all(self._store.list(prefix)),
            lambda: self._list_stale(prefix),
            is_write=False,
        )
        for page in pages:
            yield page

    async def _list_stale(self, prefix: str) -> Sequence[Sequence[Listed]]:
        fresh = await _all(self._store.list(prefix))
        return fresh if self._network.stale is None else [self._network.stale(prefix)]

    async def list_directories(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        pages = await self._read(
            "list directories", prefix, lambda: _all(self._store.list_directories(prefix))
        )
        for page in pages:
            yield page

    async def create_upload(
        self,
        key: str,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> UploadId:
        return await self._write(
            "create upload",
            key,
            lambda: self._store.create_upload(key, content_type=content_type, metadata=metadata),
        )

    async def upload_part(self, key: str, upload: UploadId, number: int, body: bytes) -> ETag:
        return await self._write(
            "upload part", key, lambda: self._store.upload_part(key, upload, number, body)
        )

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
        return await self._write(
            "copy part",
            key,
            lambda: self._store.copy_part(
                key, upload, number, source=source, span=span, if_match=if_match
            ),
        )

    async def complete_upload(
        self, key: str, upload: UploadId, parts: Sequence[ETag], *, condition: Condition | None
    ) -> Stored:
        return await self._write(
            "complete upload",
            key,
            lambda: self._store.complete_upload(key, upload, parts, condition=condition),
        )

    async def abort_upload(self, key: str, upload: UploadId) -> None:
        await self._write("abort upload", key, lambda: self._store.abort_upload(key, upload))

    async def list_uploads(self, prefix: str) -> AsyncIterator[Sequence[ListedUpload]]:
        pages = await self._read(
            "list uploads", prefix, lambda: _all(self._store.list_uploads(prefix))
        )
        for page in pages:
            yield page

    async def aclose(self) -> None:
        await self._store.aclose()

    # --- fates ------------------------------------------------------------------------------------

    async def _read(self, operation: str, key: str, call: Callable[[], Awaitable[T]]) -> T:
        return await self._send(operation, key, call, call, is_write=False)

    async def _write(
        self,
        operation: str,
        key: str,
        call: Callable[[], Awaitable[T]],
        damaged: Callable[[], Awaitable[T]] | None = None,
    ) -> T:
        return await self._send(operation, key, call, damaged or call, is_write=True)

    async def _send(
        self,
        operation: str,
        key: str,
        call: Callable[[], Awaitable[T]],
        garbled: Callable[[], Awaitable[T]],
        *,
        is_write: bool,
    ) -> T:
        network = self._network
        await self._wait_for_thaw()
        request = Request(step=current_step(), operation=operation, key=key, is_write=is_write)
        fate = network.fate_of(request)
        if fate is Fate.FROZEN:
            return await self._send_after_thaw(call)
        latency = network.latency() * (_SLOWER if fate is Fate.SLOW else 1.0)
        await trio.sleep(latency)
        if fate in _ANSWERS:
            raise _ANSWERS[fate](key)
        match fate:
            case Fate.REQUEST_LOST:
                await trio.sleep_forever()
            case Fate.CRASH_BEFORE:
                network.crash()
            case Fate.LATE:
                network.nursery.start_soon(_later, network.lateness(), call)
                await trio.sleep_forever()
            case Fate.DAMAGED | Fate.STALE:
                return await self._carry_out(garbled, fate)
            case Fate.SLOW:
                answer = await _answer_to(call)
                await trio.sleep(latency)
                return _told(answer)
            case _:
                return await self._carry_out(call, fate)
        raise AssertionError("a request that can't be answered was")

    async def _wait_for_thaw(self) -> None:
        if trio.current_time() < self._thaws:
            with trio.CancelScope(shield=True):  # no timer of a frozen process goes off
                await trio.sleep_until(self._thaws)

    async def _send_after_thaw(self, call: Callable[[], Awaitable[T]]) -> T:
        """Whatever limit the sender had set is over, but the answer is there first."""
        self._thaws = trio.current_time() + self._network.lateness()
        with trio.CancelScope(shield=True):
            await trio.sleep_until(self._thaws)
            answer = await _answer_to(call)
        return _told(answer)

    async def _carry_out(self, call: Callable[[], Awaitable[T]], fate: Fate) -> T:
        answer = await _answer_to(call)
        match fate:
            case Fate.DOUBLED:
                answer = await _answer_to(call)
            case Fate.ECHOED:
                self._network.nursery.start_soon(_later, self._network.lateness(), call)
            case Fate.ANSWER_LOST:
                await trio.sleep_forever()
            case Fate.BROKEN:
                raise StoreUnavailable("the bucket answers 500")
            case Fate.CRASH_AFTER:
                self._network.crash()
            case _:
                pass
        return _told(answer)


@dataclass(slots=True)
class _FaultyDelete:
    """A signed delete that goes through a network."""

    store: FaultyStore
    key: str
    signed: SignedDelete

    async def send(self) -> None:
        await self.store.send_signed(self.key, self.signed)


async def _answer_to(call: Callable[[], Awaitable[T]]) -> T | StoreError:
    try:
        return await call()
    except StoreError as error:
        return error


def _told(answer: T | StoreError) -> T:
    if isinstance(answer, StoreError):
        raise answer
    return answer


async def _later(delay: float, call: Callable[[], Awaitable[Any]]) -> None:
    """Carry a request out when nobody waits for its answer any more."""
    await trio.sleep(delay)
    await _answer_to(call)


async def _all(pages: AsyncIterator[Sequence[T]]) -> Sequence[Sequence[T]]:
    return [page async for page in pages]


def _damaged(body: bytes) -> bytes:
    return bytes([body[0] ^ 1]) + body[1:] if body else body
