"""Start: the one path to a stage, and the only place where a fence is raised.

Acquire, re-entry, take-over, resume, and going on after an answer was lost for good differ only in
whether they may take the lock:

1. Read lock and root. Compare-and-swap the lock, with fence = 1 + the greater of both.
2. Write the root with that fence, everything else carried over, if it is still the version read
   in (1). If it is not, begin again at (1), from one's own lock.
3. What (2) wrote is the base. Nothing is taken from users before that.

After (2) no older process can commit: its compare-and-swap names a version that is gone.
"""

from dataclasses import dataclass, replace

from pdfs.core import lease
from pdfs.core import root as core_root
from pdfs.core.amounts import amount
from pdfs.core.ids import Fence, ObjectName
from pdfs.core.lease import Claimant, Lock, LockState, Refusal, Right, judge
from pdfs.core.moments import local_moment, span
from pdfs.core.root import Root, SessionEntry
from pdfs.errors import KeyClash, LockHeld, LockUnreadable
from pdfs.stage.context import StageContext
from pdfs.stage.lock import HeldLock, SeenLock, new_lock, read_lock
from pdfs.stage.root import SeenRoot, find_root
from pdfs.stage.swap import Won, swap
from pdfs.store import step
from pdfs.store.objects import Condition, IfAbsent, IfMatch
from pdfs.store.step import Step

_TAKING_OVER = frozenset({Right.EXPIRED, Right.SAME_MACHINE, Right.SAME_USER, Right.TAKEN_OVER})
"""By these somebody's lock is taken away who has not released it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The stage is ours: what was there, and what was written."""

    lock: HeldLock
    root: SeenRoot
    fence: Fence
    right: Right
    """Why the lock could be taken."""
    previous: Lock | None
    """Who had it before, where that was somebody else."""
    entry: SessionEntry | None
    """This session's entry as it was found in the root; None if it had none."""
    is_new: bool
    """There was no root: PDFS had never written this stage."""


async def start(
    ctx: StageContext, claimant: Claimant, *, base: ObjectName | None = None
) -> Started:
    """Take the stage. `base` is the tree that a resumed session was mounted from.

    Raises LockHeld (its text says who, since when, and what is at stake), LockUnreadable,
    ObjectDamaged (also where the root is gone: nothing was changed then), StoreUnavailable. After
    each of them, and after cancellation, calling it again is right: a lock that was taken is then
    our own.
    """
    by: Right | None = None
    former: SeenLock | None = None
    while True:
        with step.at(Step.START_READ_LOCK):
            seen = await read_lock(ctx)
        with step.at(Step.START_READ_ROOT):
            before = await find_root(ctx)
        right = right_to(ctx, seen, before, claimant)
        fence = _next_fence(seen, before)
        taking, writing = _steps_by(right)
        lock = await _take_lock(ctx, seen, fence, taking)
        if lock is None:
            continue
        if by is None or right is not Right.OWN:  # else it was taken before the root was lost
            by, former = right, seen
        entry = None if before is None else before.root.entry(ctx.owner.session)
        root = await _write_root(ctx, before, former, fence, base, writing)
        if root is not None:
            return Started(
                lock=lock,
                root=root,
                fence=fence,
                right=by,
                previous=None if former is None or by is Right.OWN else former.lock,
                entry=entry,
                is_new=before is None,
            )


def _steps_by(right: Right) -> tuple[Step, Step]:
    """What the writes of lock and root are, in the log."""
    if right in _TAKING_OVER:
        return Step.TAKE_OVER_LOCK, Step.TAKE_OVER_ROOT
    return Step.START_TAKE_LOCK, Step.START_WRITE_ROOT


def right_to(
    ctx: StageContext, seen: SeenLock | None, before: SeenRoot | None, claimant: Claimant
) -> Right:
    """Why the stage may be taken. Raises LockHeld, LockUnreadable where it may not."""
    if seen is not None and seen.fault is not None:
        if not claimant.take_over:
            raise seen.fault
        return Right.TAKEN_OVER
    lock, age = (None, 0.0) if seen is None else (seen.lock, seen.age)
    has_ended = (
        lock is not None and before is not None and before.root.has_ended(lock.session, lock.fence)
    )
    verdict = judge(lock, age, claimant, ctx.timing, has_ended=has_ended)
    if isinstance(verdict, Refusal):
        assert lock is not None
        raise _refused(ctx, lock, age, verdict)
    return verdict


def _next_fence(seen: SeenLock | None, before: SeenRoot | None) -> Fence:
    locked = 0 if seen is None or seen.lock is None else seen.lock.fence
    rooted = 0 if before is None else before.root.fence
    return Fence(1 + max(locked, rooted))


async def _take_lock(
    ctx: StageContext, seen: SeenLock | None, fence: Fence, taking: Step
) -> HeldLock | None:
    """The lock, taken; None where another version of it came in between.

    Raises LockUnreadable where no lock can be, since other keys lie above or below its own.
    """
    lock = new_lock(ctx, fence)
    old = None if seen is None else seen.lock
    if old is not None and old.session == lock.session and old.state is not LockState.RELEASED:
        lock = replace(lock, since=old.since, state=old.state, pending=old.pending)
    condition: Condition = IfAbsent() if seen is None else IfMatch(seen.etag)
    try:
        with step.at(taking):
            outcome = await swap(ctx, ctx.keys.lock, lease.encode(lock), condition)
    except KeyClash as error:
        raise LockUnreadable(
            f"the stage can't be locked: {error.what}",
            remedy="another tool has made a directory of that name, or an object above it: find "
            "out who, and move that elsewhere; nothing was changed",
        ) from error
    return HeldLock(ctx, lock, outcome.etag) if isinstance(outcome, Won) else None


async def _write_root(
    ctx: StageContext,
    before: SeenRoot | None,
    former: SeenLock | None,
    fence: Fence,
    base: ObjectName | None,
    writing: Step,
) -> SeenRoot | None:
    """The root with our fence; None where another version of it came in between."""
    root = _next_root(ctx, before, former, fence, base)
    condition: Condition = IfAbsent() if before is None else IfMatch(before.etag)
    with step.at(writing):
        outcome = await swap(ctx, ctx.keys.root, core_root.encode(root), condition)
    return SeenRoot(root, outcome.etag) if isinstance(outcome, Won) else None


def _next_root(
    ctx: StageContext,
    before: SeenRoot | None,
    former: SeenLock | None,
    fence: Fence,
    base: ObjectName | None,
) -> Root:
    owner = ctx.owner
    old = None if before is None else before.root
    carried = (
        Root(
            id="",
            generation=0,
            fence=fence,
            session=owner.session,
            run=owner.run,
            tree=None,
            plan=None,
            sessions=(),
        )
        if old is None
        else _with_counters(old, former)
    )
    entry = carried.entry(owner.session) or SessionEntry(
        session=owner.session,
        user=owner.user,
        machine=owner.machine,
        fences=(),
        base=base if base is not None else carried.tree,
    )
    return replace(
        carried.with_entry(replace(entry, fences=(*entry.fences, fence))),
        id=ctx.new_id(),
        fence=fence,
        session=owner.session,
        run=owner.run,
    )


def _with_counters(root: Root, former: SeenLock | None) -> Root:
    """`root` with what the lock that was taken says of its owner's unpublished work."""
    if former is None or former.lock is None:
        return root
    entry = root.entry(former.lock.session)
    if entry is None:
        return root
    return root.with_entry(replace(entry, unpublished=former.lock.pending))


# --- words ------------------------------------------------------------------------------------

_REMEDIES = {
    Refusal.HELD: "wait, or ask them; to look only: --read-only; if that machine is gone: "
    "--take-over",
    Refusal.ALIVE: "it is mounted on this machine: pdfs status shows where",
    Refusal.RECENT: "unmount it there; if that machine is gone: --take-over",
    Refusal.OFFLINE: "check it in there; if that machine is gone: --take-over",
    Refusal.ASK: "unmount it there; if that machine is gone: --take-over",
    Refusal.WORK_WAITS: "publish it from that machine first; to go on without: --yes",
}


def _refused(ctx: StageContext, lock: Lock, age: float, refusal: Refusal) -> LockHeld:
    return LockHeld(
        _who_has_it(ctx, lock, span(age)),
        remedy=_REMEDIES[refusal],
        lock=lock,
        age=age,
        refusal=refusal,
    )


def _who_has_it(ctx: StageContext, lock: Lock, ago: str) -> str:
    stage = f"stage {ctx.keys.stage!r} of {ctx.keys.project!r}"
    waiting = amount(lock.pending.files, lock.pending.bytes)
    if lock.state is LockState.RELEASED:
        return f"{stage} is free, but {lock.user} left {waiting} unpublished on {lock.machine}"
    state = "" if lock.state is LockState.ACTIVE else f" ({lock.state})"
    there = f", {waiting} unpublished there" if lock.pending else ""
    return (
        f"{stage} is locked by {lock.user} on {lock.machine}{state} since "
        f"{local_moment(lock.since)}, last seen {ago} ago{there}"
    )
