"""Writing an object of a name that nobody else can have chosen, and that is never written anew.

Sending it twice changes nothing, so a lost answer is no trouble. What the commit point will rest
on is verified by the store's own ETag; where a store computes these otherwise, by reading back.
"""

from hashlib import md5

from pdfs.errors import StoreUnavailable
from pdfs.stage.context import StageContext
from pdfs.store.retry import MOST_TRIES


async def put_immutable(
    ctx: StageContext, key: str, body: bytes, content_type: str = "application/octet-stream"
) -> None:
    """Return when the object is in the bucket, undamaged. Raises StoreError."""
    expected = md5(body, usedforsecurity=False).hexdigest()
    for _ in range(MOST_TRIES):
        stored = await ctx.patience.ask(
            lambda: ctx.store.put(key, body, condition=None, content_type=content_type),
            size=len(body),
            first=ctx.wake.heed,
        )
        if stored.etag == expected:
            return
        found = await ctx.patience.look(lambda: ctx.store.get(key), size=len(body))
        if found.body == body:
            return
    raise StoreUnavailable(f"{key!r} does not arrive undamaged in the bucket")
