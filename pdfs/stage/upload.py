"""Sending one object in parts, with bounded memory."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from pdfs.core.content import ETag
from pdfs.errors import ObjectNotFound, PdfsError, StoreError
from pdfs.stage.context import StageContext
from pdfs.store.objects import NO_METADATA, Condition, Stored, UploadId

Part = Callable[[], Awaitable[bytes]]
Sent = Callable[[int], None]
"""Hears how many more bytes have arrived in the bucket."""


def unheard(count: int) -> None:
    """For who needs not know."""


async def send_in_parts(
    ctx: StageContext,
    key: str,
    parts: Sequence[Part],
    *,
    condition: Condition | None,
    content_type: str = "application/octet-stream",
    metadata: Mapping[str, str] = NO_METADATA,
    sent: Sent = unheard,
) -> Stored | None:
    """Make the parts, all but the last of equal size, the object `key`.

    Returns None where an answer was lost and the upload is gone now: it was completed or refused,
    and what is there tells. Raises PreconditionFailed, KeyClash, StoreError, and whatever reading a
    part raises; the upload is then aborted, as far as the store can be reached.
    """
    upload = await ctx.patience.ask(
        lambda: ctx.store.create_upload(key, content_type=content_type, metadata=metadata),
        first=ctx.wake.heed,
    )
    try:
        etags = [
            await _send(ctx, key, upload, number, await part(), sent)
            for number, part in enumerate(parts, 1)
        ]
        return await _complete(ctx, key, upload, etags, condition)
    except PdfsError:
        await _abort(ctx, key, upload)
        raise


async def _send(
    ctx: StageContext, key: str, upload: UploadId, number: int, body: bytes, sent: Sent
) -> ETag:
    etag = await ctx.patience.ask(
        lambda: ctx.store.upload_part(key, upload, number, body),
        size=len(body),
        first=ctx.wake.heed,
    )
    sent(len(body))
    return etag


async def _complete(
    ctx: StageContext, key: str, upload: UploadId, etags: list[ETag], condition: Condition | None
) -> Stored | None:
    try:
        return await ctx.patience.ask(
            lambda: ctx.store.complete_upload(key, upload, etags, condition=condition),
            first=ctx.wake.heed,
        )
    except ObjectNotFound:
        return None


async def _abort(ctx: StageContext, key: str, upload: UploadId) -> None:
    """Drop what was sent. What can't be dropped now, the store drops in days."""
    try:
        await ctx.patience.once(lambda: ctx.store.abort_upload(key, upload))
    except StoreError:
        return
