"""Writing one plain object: bytes, type, time, digest, and the name of the publish that wrote it.

What arrived is verified by the ETag that the store computed: MD5 of the bytes, or of the parts'
MD5s. Where a store computes its ETags otherwise, the object is read back and its digest compared.
"""

import mimetypes
from collections.abc import Mapping
from functools import partial
from hashlib import md5

import trio

from pdfs.core.content import ETag, Plain, part_spans
from pdfs.core.ids import Path, PublishId
from pdfs.core.keys import leaf
from pdfs.core.moments import decimal_seconds
from pdfs.core.plan import Put
from pdfs.errors import ContentLost, ObjectNotFound, PreconditionFailed, StoreUnavailable
from pdfs.stage.context import StageContext
from pdfs.stage.fetch import fetch_parts, fetch_whole
from pdfs.stage.load import DIGEST, MTIME, PUBLISH
from pdfs.stage.upload import Sent, send_in_parts, unheard
from pdfs.store.objects import Condition, ObjectInfo, Stored, Traits
from pdfs.store.retry import MOST_TRIES
from pdfs.store.step import Step

LARGEST = 160 << 30
"""Bytes of the largest file: above it, parts would be too big to be held ten at a time."""
LARGEST_WHOLE = 5 << 30
"""The same on a store where a file must be put whole: no S3 store takes more in one PUT."""


def largest_on(traits: Traits) -> int:
    """Bytes of the largest file that such a store can be given: more is refused at write."""
    return LARGEST if traits.conditional_complete else LARGEST_WHOLE


class PlainPut:
    """One put of a plan, which may have to be sent to more than one path."""

    def __init__(
        self, ctx: StageContext, publish: PublishId, put: Put, sent: Sent = unheard
    ) -> None:
        self._ctx = ctx
        self._publish = publish
        self._put = put
        self._sent = sent
        self._md5: ETag | None = None
        """The ETag that a store which uses MD5 gives to what was sent last."""

    async def send(self, path: Path, condition: Condition) -> ETag | None:
        """Send until the store says yes (the ETag) or no (None).

        After a lost answer the same bytes are sent again under the same condition; a no may then
        be about our own object, which its metadata tells. Raises ContentLost, KeyClash, StoreError.
        """
        deadline = trio.current_time() + self._ctx.timing.patience
        number = 0
        while True:
            number += 1
            try:
                stored = await self._send_once(self._ctx.keys.plain(path), condition)
            except (PreconditionFailed, ObjectNotFound):
                return None
            except StoreUnavailable as error:
                wait = self._ctx.patience.wait_after(number, error)
                if number >= MOST_TRIES or trio.current_time() + wait > deadline:
                    raise
                await trio.sleep(wait)
            else:
                return None if stored is None else stored.etag

    def is_alike(self, there: ObjectInfo) -> bool:
        """Whether an object has the size and all the metadata that this put gives it.

        The publish's name alone does not make it this put's: tools that copy or rename an object,
        or write it anew, keep what metadata they don't know.
        """
        is_as_long = there.size == self._put.content.size
        return is_as_long and self._metadata().items() <= there.metadata.items()

    async def is_whole(self, path: Path, etag: ETag) -> bool:
        """Whether the object at `path` with this ETag, which is like what this put makes, has the
        bytes that were meant."""
        if etag == self._md5 or not self._put.content.size:
            return True
        there = self._put.content.at(packed=(), plain=(Plain(path, etag),))
        try:
            for number in range(self._part_count()):
                await fetch_parts(
                    self._ctx,
                    there,
                    number,
                    number + 1,
                    look_up=False,
                    purpose=Step.APPLY_VERIFY,
                )
        except ContentLost:
            return False
        return True

    async def _send_once(self, key: str, condition: Condition) -> Stored | None:
        if (
            self._put.content.size > self._ctx.sizes.whole
            and self._ctx.store.traits.conditional_complete
        ):
            return await self._send_in_parts(key, condition)
        return await self._send_whole(key, condition)

    async def _send_whole(self, key: str, condition: Condition) -> Stored:
        body = await fetch_whole(self._ctx, self._put.content)
        self._md5 = ETag(md5(body, usedforsecurity=False).hexdigest())
        await self._ctx.wake.heed()
        return await self._ctx.patience.once(
            lambda: self._ctx.store.put(
                key,
                body,
                condition=condition,
                content_type=self._content_type(),
                metadata=self._metadata(),
            ),
            size=len(body),
        )

    async def _send_in_parts(self, key: str, condition: Condition) -> Stored | None:
        sums: dict[int, bytes] = {}

        async def part(number: int) -> bytes:
            (body,) = await fetch_parts(self._ctx, self._put.content, number, number + 1)
            sums[number] = md5(body, usedforsecurity=False).digest()
            return body

        count = self._part_count()
        stored = await send_in_parts(
            self._ctx,
            key,
            [partial(part, number) for number in range(count)],
            condition=condition,
            content_type=self._content_type(),
            metadata=self._metadata(),
            sent=self._sent,
        )
        joined = b"".join(sums[number] for number in range(count))
        self._md5 = ETag(f"{md5(joined, usedforsecurity=False).hexdigest()}-{count}")
        return stored

    def _part_count(self) -> int:
        return len(part_spans(self._put.content.size, self._ctx.sizes.part))

    def _content_type(self) -> str:
        return mimetypes.guess_type(leaf(self._put.path))[0] or "application/octet-stream"

    def _metadata(self) -> Mapping[str, str]:
        return {
            MTIME: decimal_seconds(self._put.mtime),
            DIGEST: (self._put.content.digest or b"").hex(),
            PUBLISH: self._publish,
        }
