"""Judges a finished run from outside: by the bucket's whole history and the users' diaries.

Nothing here asks the product what it believes. Each function raises AssertionError with the names
and times that a person needs to find the sequence of events.
"""

import re
from functools import lru_cache
from hashlib import md5

from pdfs.core import manifest as core_manifest
from pdfs.core import plan as core_plan
from pdfs.core import root as core_root
from pdfs.core.content import content_of
from pdfs.core.ids import Path, SessionId
from pdfs.core.manifest import Entry, Manifest
from pdfs.core.record import Kind
from pdfs.core.root import Root
from pdfs.errors import ObjectDamaged
from pdfs.stage.load import PUBLISH
from pdfs.store.memory import StoredObject
from tests.simulation.machine import SIZES, TIMING
from tests.simulation.world import World

State = dict[str, StoredObject]
_CONFLICT = re.compile(r" \(conflict [^)]*\)")


def check_everything(world: World) -> None:
    """All rules over one run that has come to rest."""
    check_roots(world)
    for time, session in world.completed:
        check_saved(world, time, session)
    check_foreign_survive(world)
    check_at_rest(world)


# --- every version of the root ------------------------------------------------------------------


def check_roots(world: World) -> None:
    """Fences never fall, generations rise by one, and every root's tree can be read as it is."""
    state: State = {}
    before: Root | None = None
    for change in world.store.history:
        _step(state, change.key, change.stored)
        if change.key != world.keys.root:
            continue
        assert change.stored is not None, "the root was deleted"
        root = _decoded_root(change.key, change.stored.body)
        if before is not None:
            assert root.fence >= before.fence, (change.time, before, root)
            assert root.generation - before.generation in (0, 1), (change.time, before, root)
            if root.generation > before.generation:
                assert before.plan is None, "committed over a plan that was not settled"
                check_nothing_vanished(world, state, before, root)
                check_kept(world, state, root)
        if root.tree is not None:
            check_readable(world, state, root)
        before = root


def _step(state: State, key: str, stored: StoredObject | None) -> None:
    if stored is None:
        state.pop(key, None)
    else:
        state[key] = stored


def _manifest(world: World, state: State, root: Root) -> Manifest:
    assert root.tree is not None
    key = world.keys.tree(root.tree)
    return _decoded_tree(key, state[key].body)


@lru_cache(maxsize=64)
def _decoded_tree(key: str, body: bytes) -> Manifest:
    return core_manifest.decode(key, body)


@lru_cache(maxsize=256)
def _decoded_root(key: str, body: bytes) -> Root:
    return core_root.decode(key, body)


def check_readable(world: World, state: State, root: Root) -> None:
    """Each file of the root's tree has a home with its bytes, but for what others took away."""
    for entry in _manifest(world, state, root).entries:
        if entry.content is None or entry.lost or not entry.content.size:
            continue
        if not _is_readable(world, state, entry):
            assert _foreign_touched(world, entry.path), f"{entry.path!r} of {root} has no home"


def _is_readable(world: World, state: State, entry: Entry) -> bool:
    content = entry.content
    assert content is not None
    for home in content.packed:
        stored = state.get(world.keys.content(home.name))
        if stored is not None:
            body = stored.body[home.offset : home.offset + content.size]
            if content_of(body, smallest_part=SIZES.part).digest == content.digest:
                return True
    for plain in content.plain:
        there = state.get(world.keys.plain(plain.path))
        if there is not None and there.etag == plain.etag:
            return True
    return False


def check_nothing_vanished(world: World, state: State, before: Root, after: Root) -> None:
    """Between two generations only that changed which the session's user, or another tool, did."""
    if before.tree is None:
        return
    diary = world.diaries.get(after.session)
    touched = set() if diary is None else diary.touched
    old, new = (_manifest(world, state, root).by_path() for root in (before, after))
    for path, entry in old.items():
        if entry.kind is not Kind.FILE or path in touched or _foreign_touched(world, path):
            continue
        if _CONFLICT.sub("", path) in touched:  # the user's file became this copy while he edited
            continue
        assert path in new, f"{path!r} vanished in generation {after.generation}"
        was, now = entry.content, new[path].content
        assert was is not None
        assert now is not None
        assert was.digest == now.digest, f"{path!r} changed in generation {after.generation}"


def check_kept(world: World, state: State, root: Root) -> None:
    """What a plan is about to replace or delete has been copied to where no plan reaches."""
    if root.plan is None:
        return
    manifest = _manifest(world, state, root)
    key = world.keys.plan(root.plan)
    plan = core_plan.decode(key, state[key].body)
    steps = [(put.path, put.expect) for put in plan.puts]
    for path, expect in [*steps, *((step.path, step.expect) for step in plan.deletes)]:
        there = state.get(world.keys.plain(path))
        if there is None or there.etag != expect or not there.body:
            continue
        digest = content_of(there.body, smallest_part=SIZES.part).digest
        assert digest is not None
        home = manifest.homes_of(digest)
        assert home is not None, f"{path!r} is replaced without a copy"
        assert home.packed, f"{path!r} is replaced, its only copy is a plain object"


def _foreign_touched(world: World, path: Path) -> bool:
    key = world.keys.plain(path)
    return any(change.key == key for change in world.foreign)


def _echoed(world: World, path: Path) -> bool:
    """Whether a write of ours to this path may have arrived long after its session was over."""
    return world.keys.plain(path) in world.late_keys


# --- what was called saved ------------------------------------------------------------------------


def check_saved(world: World, time: float, session: SessionId) -> None:
    """Whatever a session that was called saved had written is in the generation that it left."""
    diary = world.diaries.get(session)
    if diary is None:
        return
    state, manifest = _left_by(world, time, session)
    if manifest is None:
        assert not diary.operations, f"{session} was called saved, but never committed"
        return
    by_path = manifest.by_path()
    for path, data in diary.mine.items():
        entry = by_path.get(path)
        if entry is not None and entry.lost and path in world.missing.get(session, ()):
            continue  # the user was told: another tool took the bytes away
        if entry is None or not _holds(world, state, entry, data):
            copies = [e for p, e in by_path.items() if "(conflict " in p]
            found = any(_holds(world, state, copy, data) for copy in copies)
            assert found, f"{path!r}, written in {session}, was called saved but is nowhere"
            reason = _foreign_touched(world, path) or _echoed(world, path)
            assert reason, f"{path!r} became a conflict copy for nothing"
    for path in diary.deleted:
        if path in by_path and by_path[path].kind is Kind.FILE:
            reason = _foreign_touched(world, path) or _echoed(world, path)
            assert reason, f"{path!r}, deleted in {session}, is back"


def _left_by(world: World, time: float, session: SessionId) -> tuple[State, Manifest | None]:
    """The bucket at `time`, and the settled tree of the newest publish of that session by then.

    Another machine may have finished that publish, or published since.
    """
    state: State = {}
    manifest: Manifest | None = None
    for change in world.store.history:
        if change.time > time:
            break
        _step(state, change.key, change.stored)
        if change.key == world.keys.root and change.stored is not None:
            root = _decoded_root(change.key, change.stored.body)
            if root.tree is not None and root.plan is None:
                found = _manifest(world, state, root)
                if found.publish is not None and _publisher(world, found) == session:
                    manifest = found
    return state, manifest


def _publisher(world: World, manifest: Manifest) -> SessionId | None:
    """The session that committed a generation: the one that held the fence in its name."""
    assert manifest.publish is not None
    fence = int(manifest.publish[:12])
    for change in world.store.history:
        if change.key == world.keys.root and change.stored is not None:
            root = _decoded_root(change.key, change.stored.body)
            if root.fence == fence:
                return root.session
    return None


def _holds(world: World, state: State, entry: Entry, data: bytes) -> bool:
    """Whether a file of a generation has these bytes, in the bucket's own objects."""
    if entry.content is None or entry.lost:
        return False
    if entry.content.digest is None:  # what another tool wrote, and nobody had to read
        return entry.etag == md5(data).hexdigest()
    if entry.content.digest != content_of(data, smallest_part=SIZES.part).digest:
        return False
    return not data or _is_readable(world, state, entry)


# --- other tools' bytes -------------------------------------------------------------------------


def check_foreign_survive(world: World) -> None:
    """What another tool wrote is gone only by that tool, or by a user who had been served it."""
    served = {etag: diary for diary in world.diaries.values() for etag in diary.served}
    for put in world.foreign:
        if put.body is None:
            continue
        ending = _ending_of(world, put.key, md5(put.body).hexdigest())
        if ending is None or _is_foreign(world, put.key, ending[0]):
            continue
        etag = md5(put.body).hexdigest()
        in_gap = not world.store.traits.conditional_delete and ending[1] is None
        assert etag in served or (in_gap and ending[0] - put.time <= TIMING.delete_valid), (
            f"{put.key!r}, written by another tool at {put.time}, was overwritten unseen"
            f" at {ending[0]}"
        )


def _ending_of(world: World, key: str, etag: str) -> tuple[float, StoredObject | None] | None:
    """When, and by what, the version of that ETag was replaced."""
    seen = False
    for change in world.store.history:
        if change.key != key:
            continue
        if seen:
            return change.time, change.stored
        seen = change.stored is not None and change.stored.etag == etag
    return None


def _is_foreign(world: World, key: str, time: float) -> bool:
    return any(change.key == key and change.time == time for change in world.foreign)


# --- at rest ------------------------------------------------------------------------------------


def check_at_rest(world: World) -> None:
    """After the last session, plain objects and generation say the same."""
    root = world.root()
    assert root is not None
    assert root.plan is None
    assert root.tree is not None
    manifest = world.manifest(root)
    plain = {
        world.keys.path_of(key): stored
        for key, stored in world.store.objects.items()
        if key.startswith(world.keys.plain_prefix)
    }
    for entry in manifest.entries:
        stored = plain.pop(entry.path, None)
        if entry.etag is None or _foreign_touched(world, entry.path):
            continue
        assert stored is not None, f"{entry.path!r} has no plain object"
        assert stored.etag == entry.etag, f"{entry.path!r} has another plain object"
        check_plan_known(world, stored)
    for path in plain:
        reason = _foreign_touched(world, path) or _echoed(world, path)
        assert reason, f"{path!r} is a plain object that no generation knows"


def check_plan_known(world: World, stored: StoredObject) -> None:
    """An object of ours names a publish whose plan can be read."""
    name = stored.metadata.get(PUBLISH)
    if name is None:
        return
    key = f"{world.keys.internal_prefix}plans/{name}.json.gz"
    try:
        core_plan.decode(key, world.store.objects[key].body)
    except ObjectDamaged as error:
        raise AssertionError(str(error)) from error
