"""Compare-and-swap of one object, when answers get lost.

A conditional write whose answer was lost may have been carried out; sent again, it then fails its
own condition. So it is sent again with the *same bytes and the same condition* until the store
says yes or no; after a no, what is there decides: our own bytes mean that we won. This needs bytes
that nobody else writes (root and lock carry a fresh id in every write).
"""

from dataclasses import dataclass

import trio

from pdfs.core.content import ETag
from pdfs.errors import ObjectNotFound, PreconditionFailed, StoreUnavailable
from pdfs.stage.context import StageContext
from pdfs.store.objects import Condition, Fetched, Stored
from pdfs.store.retry import MOST_TRIES


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
    stored = await _send_until_answered(ctx, key, body, condition)
    if stored is not None:
        return Won(stored.etag)
    found = await read(ctx, key)
    if found is not None and found.body == body:
        return Won(found.info.etag)
    return Lost(found)


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
        await trio.sleep(wait)


async def read(ctx: StageContext, key: str) -> Fetched | None:
    """The object, or None where there is none."""
    try:
        return await ctx.patience.ask(lambda: ctx.store.get(key))
    except ObjectNotFound:
        return None
