"""Judges what sessions were told: called saved means that it is in the bucket."""

from collections.abc import Collection

from pdfs.core.entries import Entry
from pdfs.core.ids import Path, SessionId
from pdfs.core.manifest import Manifest
from pdfs.core.record import Kind
from tests.simulation.diary import Saved
from tests.simulation.history import (
    CONFLICT,
    State,
    digest,
    etag,
    fence_in,
    fence_owners,
    is_readable,
    replayed,
    tree_in,
)
from tests.simulation.oracle_conflicts import is_contested
from tests.simulation.world import World


def check_saved(world: World, time: float, session: SessionId) -> None:
    """Whatever a session that was called saved had written is in the generation that it left."""
    diary = world.diaries.get(session)
    if diary is not None:
        saved = diary.untouched_since(diary.operations)
        check_published(world, time, session, saved, world.missing.get(session))


def check_published(
    world: World, time: float, session: SessionId, saved: Saved, told: Collection[Path] | None
) -> None:
    """What was called saved, at the end of a session or amid it, is in the generation it left.

    `told` are the files of which its user was told then that their bytes are nowhere, if he was
    told anything.
    """
    diary = world.diaries[session]
    state, left = _left_by(world, time, session)
    if not left:
        assert not saved.mine, f"{session} was called saved, but never committed"
        assert not saved.deleted, f"{session} was called saved, but never committed"
        return
    by_path = left[-1].by_path()
    for path, data in saved.mine.items():
        entry = by_path.get(path)
        names = [e.path for e in left[-1].entries if e.lost and CONFLICT.sub("", e.path) == path]
        is_told = bool(names) and (told is None or not set(names).isdisjoint(told))
        if is_told and data not in diary.own:
            continue  # another tool took the bytes away that were not the user's
        if entry is None or not _holds(world, state, entry, data):
            entries = [entry for tree in left for entry in tree.entries]
            places = [e for e in entries if e.path == path or CONFLICT.search(e.path)]
            found = any(_holds(world, state, place, data) for place in places)
            assert found, f"{path!r}, written in {session}, was called saved but is nowhere"
            reason = is_contested(world, session, path)
            assert reason, f"{path!r} became a conflict copy for nothing"
    for path in saved.deleted:
        if path in by_path and by_path[path].kind is Kind.FILE:
            reason = is_contested(world, session, path)
            assert reason, f"{path!r}, deleted in {session}, is back"


def check_nobody_forgotten(world: World) -> None:
    """Whoever wrote something was called saved, or is told that his work waits."""
    ended = {session for _, session in world.completed} | world.kept
    for session, diary in world.diaries.items():
        assert session in ended or not diary.operations, f"what {session} wrote is forgotten"


def _left_by(world: World, time: float, session: SessionId) -> tuple[State, list[Manifest]]:
    """The bucket at `time`, and the settled trees of that session's publishes by then.

    Another machine may have finished that publish, or published since, and collected what nobody
    needed any more by then: it counts as there; whether it might go is not judged here.
    """
    last: State = {}
    ours: State = {}
    left: list[Manifest] = []
    owners = fence_owners(world)
    for change, state, root in replayed(world):
        if change.time > time:
            break
        last = state
        if change.stored is not None and world.keys.internal_of(change.key) is not None:
            ours[change.key] = change.stored
        if change.key == world.keys.root and root is not None and root.tree and not root.plan:
            found = tree_in(world, state, root)
            if found.publish is not None and owners[fence_in(found.publish)] == session:
                left.append(found)
    return {**ours, **last}, left


def _holds(world: World, state: State, entry: Entry, data: bytes) -> bool:
    """Whether a file of a generation has these bytes, in the bucket's own objects."""
    if entry.content is None or entry.lost:
        return False
    if entry.content.digest is None:  # what another tool wrote, and nobody had to read
        return entry.etag == etag(data)
    if entry.content.digest != digest(data):
        return False
    return not data or is_readable(world, state, entry.content)
