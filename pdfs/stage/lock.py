"""The stage lock in the bucket: read it, take it, keep it renewed, release it.

The lock informs people; that two owners can't both commit rests on the fence in the root
(`stage.start`, `stage.publish`). What a lock says and who may take it: `core.lease`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import trio

from pdfs.core import lease
from pdfs.core.content import ETag
from pdfs.core.ids import Fence, SessionId
from pdfs.core.lease import Lock, LockState, Unpublished
from pdfs.errors import LockLost, LockUnreadable, ObjectDamaged, StoreError
from pdfs.stage import root
from pdfs.stage.context import StageContext
from pdfs.stage.swap import Lost, Won, read, swap
from pdfs.store import step
from pdfs.store.objects import Condition, IfAbsent, IfMatch
from pdfs.store.step import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLock:
    """The lock object as it was read."""

    lock: Lock | None
    """None where the object is unreadable; `fault` then says why."""
    etag: ETag
    age: float
    """Seconds since its last write, by the store's clock."""
    fault: LockUnreadable | None = None


async def read_lock(ctx: StageContext) -> SeenLock | None:
    """The lock as it is now, readable or not; None where there is none."""
    found = await read(ctx, ctx.keys.lock)
    if found is None:
        return None
    age = max(0.0, found.info.date - found.info.last_modified)
    try:
        lock = lease.decode(ctx.keys.lock, found.body)
    except LockUnreadable as fault:
        return SeenLock(lock=None, etag=found.info.etag, age=age, fault=fault)
    return SeenLock(lock=lock, etag=found.info.etag, age=age)


def new_lock(ctx: StageContext, fence: Fence) -> Lock:
    """The lock that this process writes when it takes the stage with `fence`."""
    now = ctx.now()
    return Lock(
        id=ctx.new_id(),
        user=ctx.owner.user,
        machine=ctx.owner.machine,
        since=now,
        renewed=now,
        expires=now + ctx.timing.expiry,
        session=ctx.owner.session,
        run=ctx.owner.run,
        fence=fence,
        state=LockState.ACTIVE,
        pending=Unpublished(),
        pdfs=ctx.version,
    )


class HeldLock:
    """The lock while it is ours.

    Each method raises LockLost, naming the new owner, once the lock is another's; LockUnreadable
    where it has become something that is no lock, which is then left as it is; and
    StoreUnavailable where the store stayed silent, after which the same or another method may be
    called: what became of the silent write is found out then.
    """

    def __init__(self, ctx: StageContext, lock: Lock, etag: ETag) -> None:
        self._ctx = ctx
        self._etag = etag
        self._turn = trio.Lock()
        self.lock = lock

    async def renew(
        self, *, state: LockState | None = None, pending: Unpublished | None = None
    ) -> None:
        """Say that the owner lives, and what it does; what is None stays as it was."""
        now = self._ctx.now()
        with step.at(Step.RENEW):
            await self._write(
                lambda lock: replace(
                    lock,
                    renewed=now,
                    expires=now + self._ctx.timing.expiry,
                    state=state or lock.state,
                    pending=lock.pending if pending is None else pending,
                )
            )

    async def release(self, pending: Unpublished, *, former: Lock | None = None) -> None:
        """Give the stage back. The marker goes too, unless it must tell whose work waits where.

        That is this session's work; or that of `former`, from whose owner the stage was taken.
        """
        now = self._ctx.now()
        with step.at(Step.RELEASE_MARK):
            await self._write(
                lambda lock: replace(
                    lock if former is None else _named_after(lock, former),
                    renewed=now,
                    expires=now - 1.0,
                    state=LockState.RELEASED,
                    pending=pending,
                )
            )
        if self._ctx.store.traits.conditional_delete and not pending:
            with step.at(Step.RELEASE_DELETE):
                await self._delete_marker()

    async def _delete_marker(self) -> None:
        """Tidy up. Whatever fails here, the marker says that the stage is free."""
        try:
            await self._ctx.patience.once(
                lambda: self._ctx.store.delete(self._ctx.keys.lock, condition=IfMatch(self._etag))
            )
        except StoreError:
            return

    async def _write(self, change: Callable[[Lock], Lock]) -> None:
        """Replace our lock by another version of it."""
        async with self._turn:
            condition: Condition = IfMatch(self._etag)
            while True:
                fresh = replace(change(self.lock), id=self._ctx.new_id())
                outcome = await swap(self._ctx, self._ctx.keys.lock, lease.encode(fresh), condition)
                if isinstance(outcome, Won):
                    self.lock, self._etag = fresh, outcome.etag
                    return
                condition = await self._condition_after(outcome)

    async def _condition_after(self, outcome: Lost) -> Condition:
        """Under which condition a lost write may be tried again. Raises LockLost if it may not.

        A lock that vanished is made again by the session whose fence the root carries.
        """
        if outcome.found is None:
            try:
                await root.read_held_root(self._ctx, self.lock.fence)
            except ObjectDamaged as error:
                raise LockLost(
                    f"the lock is gone, and {error.what}", remedy=error.remedy
                ) from error
            return IfAbsent()
        found = lease.decode(self._ctx.keys.lock, outcome.found.body)
        if (found.session, found.run) != (self.lock.session, self.lock.run):
            raise lost_to(found, self.lock.session)
        return IfMatch(outcome.found.info.etag)  # an earlier write of ours whose answer was lost


def _named_after(lock: Lock, former: Lock) -> Lock:
    return replace(
        lock,
        user=former.user,
        machine=former.machine,
        session=former.session,
        since=former.since,
    )


def lost_to(lock: Lock, ours: SessionId) -> LockLost:
    """The error that names who took the stage from session `ours`, by the lock that is there."""
    if lock.state is LockState.RELEASED and lock.session == ours:  # as who broke it named it
        what = "the lock of the stage was broken, and released"
    elif lock.state is LockState.RELEASED:
        what = f"the stage was taken over by {lock.user} on {lock.machine}, and released since"
    else:
        what = f"the stage was taken over by {lock.user} on {lock.machine}"
    return LockLost(
        what,
        remedy="nothing more is uploaded, everything is kept: pdfs recover list",
    )
