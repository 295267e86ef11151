"""Judges a finished run from outside: by the bucket's whole history and the users' diaries.

Nothing here asks the product what it believes. Each function raises AssertionError with the names
and times that a person needs to find the sequence of events.
"""

from pdfs.core import plan as core_plan
from pdfs.core.ids import Path
from pdfs.errors import ObjectDamaged
from pdfs.stage.load import PUBLISH
from pdfs.store.memory import StoredObject
from tests.simulation.history import (
    digest,
    etag,
    fence_in,
    fence_owners,
    foreign_bodies,
    is_foreign,
    is_foreign_at,
    is_late,
    was_removed_by_others,
)
from tests.simulation.machine import TIMING
from tests.simulation.oracle_conflicts import check_conflicts
from tests.simulation.oracle_garbage import check_garbage
from tests.simulation.oracle_lock import check_locks
from tests.simulation.oracle_roots import check_roots
from tests.simulation.oracle_saved import check_nobody_forgotten, check_published, check_saved
from tests.simulation.world import World


def check_everything(world: World) -> None:
    """All rules over one run that has come to rest."""
    check_roots(world)
    check_locks(world)
    for time, session in world.completed:
        check_saved(world, time, session)
    for time, session, saved, told in world.published:
        check_published(world, time, session, saved, told)
    check_nobody_forgotten(world)
    check_foreign_survive(world)
    check_conflicts(world)
    check_at_rest(world)
    check_garbage(world)


# --- other tools' bytes -------------------------------------------------------------------------


def check_foreign_survive(world: World) -> None:
    """What another tool wrote is gone only by that tool, or by a user who had been served it."""
    for put in world.foreign:
        if put.body is None:
            continue
        ending = _ending_of(world, put.key, put.time)
        if ending is None or is_foreign_at(world, put.key, ending[0]):
            continue
        in_gap = not world.store.traits.conditional_delete and ending[1] is None
        if in_gap and ending[0] - put.time <= TIMING.delete_valid:
            continue
        assert _was_served(world, etag(put.body), ending[1]), (
            f"{put.key!r}, written by another tool at {put.time}, was overwritten unseen"
            f" at {ending[0]}"
        )


def _ending_of(world: World, key: str, time: float) -> tuple[float, StoredObject | None] | None:
    """When, and by what, the version written at `time` was replaced."""
    return next(
        ((c.time, c.stored) for c in world.store.history if c.key == key and c.time > time), None
    )


def _was_served(world: World, version: str, by: StoredObject | None) -> bool:
    """Whether the user whose publish replaced that version, or any for a delete, had seen it."""
    publish = None if by is None else by.metadata.get(PUBLISH)
    if publish is None:
        return any(version in diary.served for diary in world.diaries.values())
    diary = world.diaries.get(fence_owners(world)[fence_in(publish)])
    return diary is not None and version in diary.served


# --- at rest ------------------------------------------------------------------------------------


def check_at_rest(world: World) -> None:
    """After the last session, plain objects and generation say the same."""
    root = world.root()
    assert root is not None
    assert root.plan is None
    if root.tree is None:  # nobody has ever published anything
        return
    manifest = world.manifest(root)
    plain = {
        world.keys.path_of(key): stored
        for key, stored in world.store.objects.items()
        if key.startswith(world.keys.plain_prefix)
    }
    for entry in manifest.entries:
        stored = plain.pop(entry.path, None)
        if entry.etag is None or _is_theirs(world, entry.path, stored):
            continue
        assert stored is not None, f"{entry.path!r} has no plain object"
        assert stored.etag == entry.etag, f"{entry.path!r} has another plain object"
        assert entry.content is not None
        if entry.content.digest is not None:
            assert digest(stored.body) == entry.content.digest, f"{entry.path!r} is damaged"
        check_plan_known(world, stored)
    for path, stored in plain.items():
        reason = _is_theirs(world, path, stored) or is_late(world, path)
        assert reason or _is_left_over(world, path, stored), (
            f"{path!r} is a plain object that no generation knows"
        )


def _is_theirs(world: World, path: Path, stored: StoredObject | None) -> bool:
    """Whether it was another tool that left the plain object of `path` like this."""
    if stored is None:
        return was_removed_by_others(world, path)
    return stored.body in foreign_bodies(world, path)


def _is_left_over(world: World, path: Path, stored: StoredObject) -> bool:
    """Whether it is the conflict copy of a put whose cause was gone when the put was tried again.

    Who made the copy failed before the settle, and another tool removed what was in its way: the
    next one found nothing there, and put ours under its own name. A listing finds the copy.
    """
    name = stored.metadata.get(PUBLISH)
    if name is None:
        return False
    key = f"{world.keys.internal_prefix}plans/{name}.json.gz"
    puts = core_plan.decode(key, world.store.objects[key].body).puts
    return any(path in (put.conflict, put.aside) and is_foreign(world, put.path) for put in puts)


def check_plan_known(world: World, stored: StoredObject) -> None:
    """An object of ours names a publish whose plan can be read, unless it was garbage by then."""
    name = stored.metadata.get(PUBLISH)
    if name is None:
        return
    key = f"{world.keys.internal_prefix}plans/{name}.json.gz"
    if any(change.key == key and change.stored is None for change in world.store.history):
        return
    try:
        core_plan.decode(key, world.store.objects[key].body)
    except ObjectDamaged as error:
        raise AssertionError(str(error)) from error
