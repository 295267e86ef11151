"""What the bucket went through, read by whoever judges a run: its versions, and who made them."""

import re
from collections.abc import Iterator
from functools import lru_cache
from hashlib import md5
from math import inf

from pdfs.core import lease
from pdfs.core import manifest as core_manifest
from pdfs.core import plan as core_plan
from pdfs.core import root as core_root
from pdfs.core.content import Content, Digest, content_of
from pdfs.core.ids import ObjectName, Path, SessionId
from pdfs.core.keys import ancestors, leaf
from pdfs.core.lease import Lock
from pdfs.core.manifest import Manifest, never_published
from pdfs.core.plan import Plan
from pdfs.core.root import Root
from pdfs.store.memory import Change, StoredObject
from tests.simulation.machine import SIZES
from tests.simulation.world import World

State = dict[str, StoredObject]
"""All objects of the bucket at one time."""


def replayed(world: World) -> Iterator[tuple[Change, State, Root | None]]:
    """Each change, with the bucket and the root after it. The state is changed in place."""
    state: State = {}
    root: Root | None = None
    for change in world.store.history:
        if change.stored is None:
            state.pop(change.key, None)
        else:
            state[change.key] = change.stored
        if change.key == world.keys.root:
            assert change.stored is not None, "the root was deleted"
            root = decoded_root(change.key, change.stored.body)
        yield change, state, root


@lru_cache(maxsize=256)
def decoded_root(key: str, body: bytes) -> Root:
    return core_root.decode(key, body)


@lru_cache(maxsize=64)
def _decoded_tree(key: str, body: bytes) -> Manifest:
    return core_manifest.decode(key, body)


@lru_cache(maxsize=64)
def _decoded_plan(key: str, body: bytes) -> Plan:
    return core_plan.decode(key, body)


@lru_cache(maxsize=64)
def decoded_lock(key: str, body: bytes) -> Lock:
    return lease.decode(key, body)


@lru_cache(maxsize=1024)
def digest(body: bytes) -> Digest | None:
    return content_of(body, smallest_part=SIZES.part).digest


@lru_cache(maxsize=1024)
def etag(body: bytes) -> str:
    return md5(body).hexdigest()


def fence_owners(world: World) -> dict[int, SessionId]:
    """The session that held each fence."""
    roots = [
        decoded_root(change.key, change.stored.body)
        for change in world.store.history
        if change.key == world.keys.root and change.stored is not None
    ]
    return {root.fence: root.session for root in roots}


def surely_in(world: World, root: Root) -> float:
    """What the user did before then was in what his session committed with this root.

    The root may be written when the publish is over: it was cancelled with that on its way.
    """
    assert root.tree is not None
    key = world.keys.tree(root.tree)
    written = next(change.time for change in world.store.history if change.key == key)
    begun = [
        begin for who, begin, end in world.asides if who == root.session and begin <= written <= end
    ]
    return min(begun, default=written)


def fence_in(name: str) -> int:
    """The fence under which a publish, or an internal object, was made."""
    return int(name[:12])


def tree_in(world: World, state: State, root: Root) -> Manifest:
    assert root.tree is not None
    key = world.keys.tree(root.tree)
    return _decoded_tree(key, state[key].body)


def before_of(world: World, state: State, manifest: Manifest) -> Manifest:
    """The generation before."""
    if manifest.predecessor is None:
        return never_published()
    key = world.keys.tree(manifest.predecessor)
    return _decoded_tree(key, state[key].body)


def manifest_written(world: World, name: ObjectName) -> Manifest:
    """The tree of that name, also where it has been collected since."""
    key = world.keys.tree(name)
    *_, written = (c.stored for c in world.store.history if c.key == key and c.stored is not None)
    return _decoded_tree(key, written.body)


def plan_in(world: World, state: State, name: ObjectName) -> Plan:
    key = world.keys.plan(name)
    return _decoded_plan(key, state[key].body)


def is_readable(world: World, state: State, content: Content) -> bool:
    """Whether one of the homes that a generation names for a content has its bytes."""
    for home in content.packed:
        stored = state.get(world.keys.content(home.name))
        if stored is not None:
            body = stored.body[home.offset : home.offset + content.size]
            if digest(body) == content.digest:
                return True
    for plain in content.plain:
        there = state.get(world.keys.plain(plain.path))
        if there is not None and there.etag == plain.etag:
            return True
    return False


# --- other tools, and what came late ------------------------------------------------------------


def is_foreign(world: World, path: Path) -> bool:
    """Whether another tool ever wrote or removed the plain object of this path."""
    key = world.keys.plain(path)
    return any(change.key == key for change in world.foreign)


def is_foreign_at(world: World, key: str, time: float) -> bool:
    return any(change.key == key and change.time == time for change in world.foreign)


def foreign_bodies(world: World, path: Path) -> list[bytes]:
    """Everything that other tools ever put there."""
    key = world.keys.plain(path)
    return [put.body for put in world.foreign if put.key == key and put.body is not None]


def was_removed_by_others(world: World, path: Path, *, version: str | None = None) -> bool:
    """Whether another tool ever removed the plain object of this path, or that version of it."""
    key = world.keys.plain(path)
    made = [
        change.time
        for change in world.store.history
        if change.key == key and change.stored is not None and change.stored.etag == version
    ]
    since = max(made, default=-inf)
    return any(
        change.key == key and change.body is None and change.time >= since
        for change in world.foreign
    )


CONFLICT = re.compile(r" \(conflict [^)]*\)")
"""What the name of a conflict copy has beyond that of its file."""


def is_copy_of(copy: Path, path: Path) -> bool:
    """Whether this may be the name of a conflict copy of `path`: beside it, or on top."""
    plain = CONFLICT.sub("", copy)
    return plain != copy and plain in (path, leaf(path))


def is_disturbed(world: World, path: Path) -> bool:
    """Whether another tool, a late write or a store that refused what it should not had to do with
    this path, or with one above or below it."""
    denied = {key for key, times in world.denied.items() if times > 1}
    keys = {change.key for change in world.foreign} | world.late_keys | denied
    paths = {world.keys.path_of(key) for key in keys}
    return any(
        path == other or path in ancestors(other) or other in ancestors(path) for other in paths
    )


def is_late(world: World, path: Path) -> bool:
    """Whether a write of ours to this path may have arrived long after its session was over."""
    return world.keys.plain(path) in world.late_keys
