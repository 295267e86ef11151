"""Judges every version of the stage lock: who might take it, and when it was given back.

The rules are written here once more, from what the bucket and the people knew, by the bucket's
clock.
"""

from pdfs.core.lease import Lock, LockState
from pdfs.core.root import Root
from pdfs.store.memory import StoredObject
from tests.simulation.history import (
    decoded_lock,
    fence_in,
    fence_owners,
    is_foreign_at,
    replayed,
)
from tests.simulation.machine import TIMING
from tests.simulation.oracle_saved import check_saved
from tests.simulation.world import World


def check_locks(world: World) -> None:
    """All rules over the lock, in the order in which it happened."""
    before: StoredObject | None = None
    released: list[tuple[float, Lock]] = []
    for change, _, root in replayed(world):
        if change.key != world.keys.lock:
            continue
        was = None if before is None else decoded_lock(change.key, before.body)
        if change.stored is not None:
            lock = decoded_lock(change.key, change.stored.body)
            if lock.run != (was.run if was else None) and lock.state is not LockState.RELEASED:
                _check_taken(world, change.time, before, was, lock, root)
            _check_fence(world, change.time, lock, root)
            if lock.state is LockState.RELEASED and not lock.pending:
                _check_ended(world, change.time, lock, root)
                released.append((change.time, lock))
        else:
            assert was is not None
            is_free = was.state is LockState.RELEASED
            is_theirs = is_foreign_at(world, change.key, change.time)
            assert is_free or is_theirs, f"the lock of {was.machine} was deleted"
        before = change.stored
    for time, lock in released:
        diary = world.diaries.get(lock.session)
        if diary is not None and not diary.touched_since(time):
            check_saved(world, time, lock.session)


def _check_taken(
    world: World,
    time: float,
    before: StoredObject | None,
    was: Lock | None,
    lock: Lock,
    root: Root | None,
) -> None:
    """Whoever has the lock now might take it from whoever had it."""
    if before is None or was is None:
        return
    if root is not None and root.fence >= was.fence and root.entry(was.session) is None:
        return  # a late write had made it again: that session is over
    claim = world.claims[lock.run]
    age = time + 1.0 - before.last_modified
    is_free = was.state is LockState.RELEASED and (
        not was.pending or claim.agreed or was.session in claim.crashed
    )
    is_same_user = was.user == claim.user and (
        was.session in claim.crashed or (claim.agreed and age >= TIMING.same_user_elsewhere)
    )
    might = is_free or is_same_user or claim.take_over or age > TIMING.expiry
    assert might, f"{lock.machine} took the lock of {was.machine} at {time}, {age} s old"


def _check_fence(world: World, time: float, lock: Lock, root: Root | None) -> None:
    """A lock is written by whoever holds the stage, or is about to take it."""
    if world.keys.lock in world.late_keys or root is None:
        return
    assert lock.fence >= root.fence, (
        f"{lock.machine} wrote the lock at {time} with fence {lock.fence}, the root's is {root}"
    )


def _check_ended(world: World, time: float, lock: Lock, root: Root | None) -> None:
    """What gives the stage back with nothing pending has left nothing in the root.

    But for a plan that it found, and what its user is told of when he resumes.
    """
    if root is None or root.fence > lock.fence or lock.session in world.kept:
        return
    is_own = root.plan is not None and fence_owners(world)[fence_in(root.plan)] == lock.session
    assert not is_own, f"{lock.machine} gave the stage back at {time} amid its plan"
    entry = root.entry(lock.session)
    assert entry is None, f"{lock.machine} gave the stage back at {time}, but has not ended"
