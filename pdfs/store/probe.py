"""What a store really does, found out by experiments under a scratch prefix.

A condition is believed only if it was refused when it did not hold, with the object unchanged, and
granted when it held. PDFS rests on PUTs with conditions, so a store that ignores one is refused;
what else it lacks is told by `Traits` and replaced by other means.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar

import trio

from pdfs.core.content import ETag
from pdfs.errors import (
    KeyClash,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    StoreUnsuitable,
)
from pdfs.store.objects import (
    Condition,
    IfAbsent,
    IfMatch,
    ObjectStore,
    Traits,
    UploadId,
)

T = TypeVar("T")
Request = Callable[[], Awaitable[None]]

log = logging.getLogger(__name__)

SCRATCH: Final = ".pdfs-probe/"
_NO_SUCH: Final = ETag("00000000000000000000000000000000")
_BODIES: Final = [b"contender %d" % number for number in range(4)]
_ROUNDS: Final = 3
_COMPLETE_ROUNDS: Final = 8
_VALIDITY: Final = 1.0
_CLEANUP: Final = 30.0
_TRIES: Final = 5
_PATIENCE: Final = 10.0
_FIRST_WAIT: Final = 0.5
_REMEDY: Final = (
    "use a store that keeps conditions (AWS S3, Cloudflare R2, MinIO, versitygw, …); "
    "to look only: pdfs mount --read-only"
)


async def probe(store: ObjectStore, *, prefix: str, ids: Callable[[], str]) -> Traits:
    """The traits that `store` proved just now; `ids` gives unique names.

    What a request that failed has left says nothing, so the experiments are begun anew then, on
    other keys, for `_PATIENCE` s; a store that can't be reached is not waited for.

    Works below `prefix + SCRATCH` and removes what it put there, also when it fails; a crash leaves
    a few small objects. Raises StoreUnsuitable where the store ignores a condition that the
    protection of data rests on; StoreUnavailable and StoreRefused as every request does.
    """
    deadline, wait = trio.current_time() + _PATIENCE, _FIRST_WAIT
    while True:
        try:
            return await _prove(store, f"{prefix}{SCRATCH}{ids()}/")
        except StoreUnavailable as error:
            if not error.sent or trio.current_time() + wait > deadline:
                raise
            log.info("the probe of %s begins anew: %s", store.name, error)
        await trio.sleep(wait)
        wait *= 2


async def _prove(store: ObjectStore, prefix: str) -> Traits:
    async with _scratch(store, prefix) as scratch:
        await scratch.prove_if_absent()
        await scratch.prove_if_match()
        await scratch.prove_one_winner()
        await scratch.prove_spans()
        nested = await scratch.nest()
        traits = Traits(
            conditional_complete=await scratch.has_conditional_complete(),
            conditional_delete=await scratch.has_conditional_delete(),
            conditional_part_copy=await scratch.has_conditional_part_copy(),
            nested_keys=nested == [True, True],
            hides_nested=None in nested,
        )
        if not traits.conditional_delete:
            await scratch.prove_signed_delete_expires()
    return traits


@asynccontextmanager
async def _scratch(store: ObjectStore, prefix: str) -> AsyncIterator["_Scratch"]:
    scratch = _Scratch(store, prefix)
    try:
        yield scratch
    finally:
        with trio.move_on_after(_CLEANUP, shield=True):
            try:
                await scratch.clean_up()
            except StoreError as error:
                log.info("the probe's objects stay below %r in %s: %s", prefix, store.name, error)


class _Scratch:
    """One experiment per method, each on keys of its own."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._keys: list[str] = []
        self._uploads: list[tuple[str, UploadId]] = []

    # Indispensable

    async def prove_if_absent(self) -> None:
        key = self._key("if-absent")
        await self._put(key, b"first", IfAbsent())
        if await self._is_done(self._put(key, b"second", IfAbsent())):
            raise self._ignores("If-None-Match: *", "two machines could take the same lock")
        await self._must_hold(key, b"first")

    async def prove_if_match(self) -> None:
        key = self._key("if-match")
        etag = await self._put(key, b"first", None)
        if await self._is_done(self._put(key, b"second", IfMatch(_NO_SUCH))):
            raise self._ignores("If-Match", "a publish could overwrite somebody else's work")
        await self._must_hold(key, b"first")
        await self._put(key, b"second", IfMatch(etag))
        await self._must_hold(key, b"second")
        if await self._is_done(self._put(key, b"third", IfMatch(etag))):
            raise self._ignores("If-Match", "a publish could overwrite somebody else's work")
        if await self._is_done(self._put(self._key("absent"), b"", IfMatch(etag))):
            raise self._ignores("If-Match", "a publish could bring back what was deleted")

    async def prove_one_winner(self) -> None:
        """A condition must be judged in the instant of the write, not some time before it."""
        most = won = 0
        for number in range(_ROUNDS):
            key = self._key(f"create-{number}")
            puts = [self._putting(key, body, IfAbsent()) for body in _BODIES]
            winners = [await self._race(puts)]
            if winners[0] == 1:
                etag = (await self._store.head(key)).etag
                puts = [self._putting(key, body + b"!", IfMatch(etag)) for body in _BODIES]
                winners.append(await self._race(puts))
            most, won = max(most, *winners), won + sum(winners)
        if most > 1:
            raise StoreUnsuitable(
                f"{self._store.name} lets {most} of {len(_BODIES)} writers win that compete for "
                "one object",
                remedy=_REMEDY,
            )
        if won == 0:
            raise StoreUnsuitable(f"{self._store.name} lets no writer win that meets another")

    def _putting(self, key: str, body: bytes, condition: Condition) -> Request:
        async def put() -> None:
            await self._store.put(key, body, condition=condition)

        return put

    async def _race(self, requests: Sequence[Request]) -> int:
        """How many of the requests, all made at once, were carried out."""
        won = 0
        failed: list[StoreError] = []

        async def contend(request: Request) -> None:
            nonlocal won
            try:
                await request()
            except (PreconditionFailed, ObjectNotFound):
                return
            except StoreError as error:
                if not (isinstance(error, StoreUnavailable) and not error.sent):  # AWS: 409
                    failed.append(error)
            else:
                won += 1

        async with trio.open_nursery() as nursery:
            for request in requests:
                nursery.start_soon(contend, request)
        if failed:
            raise failed[0]
        return won

    async def prove_spans(self) -> None:
        key = self._key("span")
        await self._put(key, b"0123456789", None)
        if (await self._store.get(key, span=(2, 5))).body != b"234":
            raise StoreUnsuitable(f"{self._store.name} does not give the bytes that were asked for")

    async def prove_signed_delete_expires(self) -> None:
        """Without conditions, a delete must at least not be carried out any later than allowed."""
        key = self._key("signed-delete")
        await self._put(key, b"stays", None)
        signed = self._store.sign_delete(key, valid_for=_VALIDITY)
        await trio.sleep(_VALIDITY + 2)
        with suppress(StoreRefused):
            await signed.send()
        if not await self._exists(key):
            raise StoreUnsuitable(
                f"{self._store.name} carries out deletes that are conditional, or valid for "
                f"{_VALIDITY:g} s only, whatever happened since",
                remedy=_REMEDY,
            )

    # Replaceable

    async def has_conditional_complete(self) -> bool:
        key = self._key("complete")
        etag = await self._put(key, b"first", None)
        return (
            not await self._is_done(self._complete(key, IfAbsent()))
            and not await self._is_done(self._complete(key, IfMatch(_NO_SUCH)))
            and await self._holds(key, b"first")
            and await self._is_done(self._complete(key, IfMatch(etag)))
            and not await self._is_done(self._complete(key, IfMatch(etag)))
            and not await self._is_done(self._complete(self._key("gone"), IfMatch(etag)))
            and await self._is_done(self._complete(self._key("complete-new"), IfAbsent()))
            and await self._has_one_completer()
        )

    async def _has_one_completer(self) -> bool:
        """SeaweedFS 4.48 looks before it writes: of 100 races of 4, 53 had more than one winner."""
        for number in range(_COMPLETE_ROUNDS):
            key = self._key(f"complete-{number}")
            completes = [await self._completing(key, IfAbsent()) for _ in _BODIES]
            if await self._race(completes) > 1:
                return False
        return True

    async def has_conditional_delete(self) -> bool:
        key = self._key("delete")
        etag = await self._put(key, b"body", None)
        wrong, right = IfMatch(_NO_SUCH), IfMatch(etag)
        return (
            not await self._is_done(self._delete(key, wrong))
            and await self._exists(key)
            and await self._is_done(self._delete(key, right))
            and not await self._exists(key)
        )

    async def has_conditional_part_copy(self) -> bool:
        source, key = self._key("source"), self._key("copy")
        etag = await self._put(source, b"body", None)
        upload = await self._begin(key)

        async def copy(if_match: ETag) -> None:
            await self._store.copy_part(
                key, upload, 1, source=source, span=(0, 4), if_match=if_match
            )

        return not await self._is_done(copy(_NO_SUCH)) and await self._is_done(copy(etag))

    async def nest(self) -> list[bool | None]:
        """In both orders: some stores take the child of an object, but not the parent.

        True = it works; False = it is refused; None = it is taken, and hides one of the two.
        """
        orders = {"parent": True, "child": False}
        return [await self._nest(name, parent_first=first) for name, first in orders.items()]

    async def _nest(self, name: str, *, parent_first: bool) -> bool | None:
        parent, child = self._key(name), self._key(f"{name}/below")
        try:
            for key in (parent, child) if parent_first else (child, parent):
                await self._put(key, key.encode(), IfAbsent())
        except (KeyClash, PreconditionFailed, StoreRefused):
            return False
        listed = [row.key async for page in self._store.list(parent) for row in page]
        both = (
            sorted(listed) == [parent, child]
            and await self._holds(parent, parent.encode())
            and await self._holds(child, child.encode())
        )
        return both or None

    # Steps

    def _key(self, name: str) -> str:
        key = self._prefix + name
        self._keys.append(key)
        return key

    async def _put(self, key: str, body: bytes, condition: Condition | None) -> ETag:
        stored = await self._in_peace(lambda: self._store.put(key, body, condition=condition))
        return stored.etag

    async def _delete(self, key: str, condition: IfMatch | None) -> None:
        await self._in_peace(lambda: self._store.delete(key, condition=condition))

    async def _in_peace(self, request: Callable[[], Awaitable[T]]) -> T:
        """Await a request, again where the store did nothing and says when it would (R2: 429)."""
        for _ in range(_TRIES):
            try:
                return await request()
            except StoreUnavailable as error:
                if error.sent or error.retry_after is None:
                    raise
                await trio.sleep(error.retry_after)
        return await request()

    async def _begin(self, key: str) -> UploadId:
        upload = await self._store.create_upload(key)
        self._uploads.append((key, upload))
        return upload

    async def _complete(self, key: str, condition: Condition) -> None:
        await self._in_peace(await self._completing(key, condition))

    async def _completing(self, key: str, condition: Condition) -> Request:
        """The request that completes an upload, whose parts are there."""
        upload = await self._begin(key)
        part = await self._store.upload_part(key, upload, 1, b"from parts")

        async def complete() -> None:
            await self._store.complete_upload(key, upload, [part], condition=condition)

        return complete

    async def _is_done(self, request: Awaitable[object]) -> bool:
        """Whether a request was carried out; False = the store refused it, for whatever reason."""
        try:
            await request
        except (PreconditionFailed, ObjectNotFound, StoreRefused):
            return False
        return True

    async def _exists(self, key: str) -> bool:
        return await self._is_done(self._store.head(key))

    async def _holds(self, key: str, body: bytes) -> bool:
        try:
            return (await self._store.get(key)).body == body
        except ObjectNotFound:
            return False

    async def _must_hold(self, key: str, body: bytes) -> None:
        if not await self._holds(key, body):
            raise StoreUnsuitable(
                f"{self._store.name} changes an object by a request that it refuses, or shows an "
                "old version after a new one was stored",
                remedy=_REMEDY,
            )

    def _ignores(self, condition: str, consequence: str) -> StoreUnsuitable:
        return StoreUnsuitable(
            f"{self._store.name} ignores the condition {condition!r} of a PUT, so {consequence}",
            remedy=_REMEDY,
        )

    async def clean_up(self) -> None:
        for key, upload in self._uploads:
            await self._store.abort_upload(key, upload)
        for key in reversed(self._keys):  # children before parents
            await self._delete(key, None)
