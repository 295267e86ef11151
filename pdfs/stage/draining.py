"""Waiting for a stage whose owner has unmounted it and is still publishing.

Only looks at the lock. Whether it may be taken is decided by Start, which comes after.
"""

from collections.abc import Callable

import trio

from pdfs.core.lease import Claimant, Lock, LockState, Refusal, is_lately_renewed, judge
from pdfs.stage.context import StageContext
from pdfs.stage.lock import SeenLock, read_lock
from pdfs.stage.root import read_root

_LOOK = 2.0
"""Seconds between two looks."""

Tell = Callable[[Lock, float], None]
"""Hears the lock and its age: at first, and whenever less is left."""


async def wait_while_draining(
    ctx: StageContext, claimant: Claimant, limit: float, tell: Tell
) -> None:
    """Return when there is nothing to wait for, or after `limit` s. Raises StoreError."""
    deadline = trio.current_time() + limit
    told = None
    while (left := deadline - trio.current_time()) > 0:
        seen = await read_lock(ctx)
        lock = None if seen is None else seen.lock
        if seen is None or lock is None:
            return
        if not await _is_draining(ctx, seen, claimant):
            return
        if lock.pending != told:
            told = lock.pending
            tell(lock, seen.age)
        await trio.sleep(min(_LOOK, left))


async def _is_draining(ctx: StageContext, seen: SeenLock, claimant: Claimant) -> bool:
    if seen.lock is None or seen.lock.state is not LockState.DRAINING:
        return False
    if not is_lately_renewed(seen.lock, seen.age, ctx.timing):
        return False  # nobody may be publishing there any more
    root = await read_root(ctx)
    has_ended = root is not None and root.root.has_ended(seen.lock.session, seen.lock.fence)
    verdict = judge(seen.lock, seen.age, claimant, ctx.timing, has_ended=has_ended)
    return isinstance(verdict, Refusal)
