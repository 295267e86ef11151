"""Compare-and-swap of one object, when answers get lost.

A conditional write whose answer was lost may have been carried out; sent again, it then fails its
own condition. So it is sent again with the *same bytes and the same condition* until the store
says yes or no; after a no, what is there decides: our own bytes mean that we won, and the version
that the condition names that the no was wrong, so that it is sent once more. This needs bytes that
nobody else writes (root and lock carry a fresh id in every write).

A store that takes one write a second to a key refuses all others before it looks at their
conditions. Who is told to wait looks first at what is there then, and another version is as good as
a no: of eight who want one lock, seven need not take their turns to hear who has it.
"""

import json
from dataclasses import dataclass
from hashlib import md5

import trio

from pdfs.core.content import ETag
from pdfs.errors import ObjectNotFound, PreconditionFailed, StoreUnavailable
from pdfs.stage.context import StageContext
from pdfs.store.objects import Condition, Fetched, IfAbsent, IfMatch, Stored
from pdfs.store.retry import MOST_TRIES

_LOOKS = 2
"""So often a no is compared with what is there."""


@dataclass(frozen=True, slots=True)
class Won:
    """The object is what we wrote."""

    etag: ETag


@dataclass(frozen=True, slots=True)
class Lost:
    """The condition did not hold; `found` is what is there instead, None for nothing."""

    found: Fetched | None


async def swap(ctx: StageContext, key: str, body: bytes, condition: Condition) -> Won | Lost:
    """Write `body`, which nobody else can write, to `key` if `condition` holds.

    Raises StoreUnavailable when the store stayed silent: the write may have been carried out, or
    may still be. To go on from there with anything but the same call leads through `stage.start`.
    """
    found: Fetched | None = None
    for _ in range(_LOOKS):
        stored = await _send_until_answered(ctx, key, body, condition)
        if stored is not None:
            return Won(stored.etag)
        found = await read(ctx, key)
        if found is not None and found.body == body:
            return Won(found.info.etag)
        if not _holds(condition, found):
            break
    return Lost(found)


def _holds(condition: Condition, found: Fetched | None) -> bool:
    """Whether a write under this condition should have been carried out."""
    match condition:
        case IfAbsent():
            return found is None
        case IfMatch(etag):
            return found is not None and found.info.etag == etag


async def _send_until_answered(
    ctx: StageContext, key: str, body: bytes, condition: Condition
) -> Stored | None:
    """The store's yes, or None for its no."""
    deadline = trio.current_time() + ctx.timing.patience
    number = 0
    while True:
        number += 1
        try:
            return await ctx.patience.once(
                lambda: ctx.store.put(
                    key, body, condition=condition, content_type="application/json"
                )
            )
        except (PreconditionFailed, ObjectNotFound):  # some stores say 404 to If-Match
            return None
        except StoreUnavailable as error:
            wait = ctx.patience.wait_after(number, error)
            if number >= MOST_TRIES or trio.current_time() + wait > deadline:
                raise
            is_told_to_wait = error.retry_after is not None
        await trio.sleep(wait)
        if is_told_to_wait and not await _may_hold(ctx, key, condition):
            return None


async def _may_hold(ctx: StageContext, key: str, condition: Condition) -> bool:
    """Whether a look, if it is answered, finds what the condition asks for."""
    try:
        found = await ctx.patience.once(lambda: ctx.store.head(key))
    except ObjectNotFound:
        return isinstance(condition, IfAbsent)
    except StoreUnavailable:
        return True
    return isinstance(condition, IfMatch) and found.etag == condition.etag


async def read(ctx: StageContext, key: str) -> Fetched | None:
    """The object, or None where there is none.

    Bytes that are neither those of the ETag nor JSON may be a piece of what is there: they are
    believed the second time that they come.
    """
    doubtful: bytes | None = None
    for _ in range(MOST_TRIES):
        try:
            found = await ctx.patience.look(lambda: ctx.store.get(key))
        except ObjectNotFound:
            return None
        if _is_whole(found) or found.body == doubtful:
            return found
        doubtful = found.body
    raise StoreUnavailable(f"{key!r} does not arrive undamaged from the bucket")


def _is_whole(found: Fetched) -> bool:
    """Whether no piece of it is missing. Not every store makes the ETag the MD5 of the bytes."""
    if md5(found.body, usedforsecurity=False).hexdigest() == found.info.etag:
        return True
    try:
        json.loads(found.body)
    except (ValueError, RecursionError):
        return False
    return True
