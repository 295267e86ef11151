"""Judges every version of the root, and every plain object by the root that it was written under.

Fences rise with each process, generations by one; a generation can be read from its first instant,
brings in what its session did and nothing else, and its plan is carried out while it is the root's.
"""

from pdfs.core.entries import Entry
from pdfs.core.ids import ObjectName, Path, SessionId
from pdfs.core.manifest import Manifest
from pdfs.core.record import Kind
from pdfs.core.root import Root
from pdfs.stage.load import PUBLISH
from pdfs.store.memory import Change
from tests.simulation.history import (
    State,
    before_of,
    digest,
    etag,
    foreign_bodies,
    is_copy_of,
    is_foreign,
    is_foreign_at,
    is_readable,
    plan_in,
    replayed,
    surely_in,
    tree_in,
    was_removed_by_others,
)
from tests.simulation.world import World


def check_roots(world: World) -> None:
    """All rules over the root and what is written under it, in the order in which it happened."""
    judged = _Judged(world)
    for change, state, root in replayed(world):
        if change.key == world.keys.root:
            assert root is not None
            judged.root(change.time, state, root)
        elif change.key.startswith(world.keys.plain_prefix):
            judged.plain(change, state)


class _Judged:
    """What was seen so far."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now: Root | None = None
        self.committed: dict[SessionId, float] = {}
        """All that each session did before then was in its last commit."""

    def root(self, time: float, state: State, root: Root) -> None:
        before = self.now
        if before is not None:
            self._check_fence(time, before, root)
            assert root.generation - before.generation in (0, 1), (time, before, root)
            if root.generation > before.generation:
                assert before.plan is None, "committed over a plan that was not settled"
                since = self.committed.get(root.session, 0.0)
                check_nothing_vanished(self.world, state, before, root, since)
                check_kept(self.world, state, root)
                self.committed[root.session] = surely_in(self.world, root)
        if root.tree is not None:
            manifest = tree_in(self.world, state, root)
            check_readable(self.world, state, root, manifest)
        self.now = root

    def _check_fence(self, time: float, before: Root, root: Root) -> None:
        if root.run == before.run:
            assert root.fence >= before.fence, (time, before, root)
        else:
            assert root.fence > before.fence, f"{root.run} took the stage without a higher fence"

    def plain(self, change: Change, state: State) -> None:
        """A plain object is written by a process that holds the stage, or by another tool."""
        path = self.world.keys.path_of(change.key)
        if is_foreign_at(self.world, change.key, change.time) or self._may_be_late(change):
            return
        plan = None if self.now is None else self.now.plan
        if change.stored is not None:
            assert change.stored.metadata.get(PUBLISH) == plan, (
                f"{path!r} was put at {change.time} by a publish that is not the root's any more"
            )
            return
        assert plan is not None, f"{path!r} was deleted at {change.time} under no plan"
        steps = plan_in(self.world, state, ObjectName(plan)).deletes
        assert path in {step.path for step in steps}, f"{path!r} was deleted against the plan"

    def _may_be_late(self, change: Change) -> bool:
        """Whether this may be a request whose own condition alone holds it by now.

        A delete that carries none is never late, unless it was answered once before: its signature
        is over before anybody else goes on.
        """
        if change.stored is None and not self.world.store.traits.conditional_delete:
            return change.key in self.world.echoed_keys
        return change.key in self.world.late_keys


def check_readable(world: World, state: State, root: Root, manifest: Manifest) -> None:
    """Each file of the root's tree has a home with its bytes, but for what others took away."""
    for entry in manifest.entries:
        if entry.content is None or entry.lost or not entry.content.size:
            continue
        if not is_readable(world, state, entry.content):
            assert is_foreign(world, entry.path), f"{entry.path!r} of {root} has no home"


def check_nothing_vanished(
    world: World, state: State, before: Root, after: Root, since: float
) -> None:
    """Between two generations only that changed which the session's user, or another tool, did.

    What the user did before the session's last commit was in that one: it counts no more.
    """
    if before.tree is None:
        return
    diary = world.diaries.get(after.session)
    touched = set() if diary is None else diary.touched_since(since)
    old, new = (tree_in(world, state, root).by_path() for root in (before, after))
    for path, entry in old.items():
        if entry.kind is not Kind.FILE or path in touched:
            continue
        if any(is_copy_of(path, each) for each in touched):
            continue  # the user's file became this copy while he edited
        if path not in new:
            there = state.get(world.keys.plain(path))
            waits = there is not None and there.body in foreign_bodies(world, path)
            is_theirs = waits or was_removed_by_others(world, path, version=entry.etag)
            assert is_theirs, f"{path!r} vanished in generation {after.generation}"
        else:
            _check_same(world, path, entry, new[path], after.generation)


def _check_same(world: World, path: Path, was: Entry, now: Entry, generation: int) -> None:
    assert was.content is not None
    assert now.content is not None
    if was.lost:
        return
    if was.content.digest is not None and was.content.digest == now.content.digest:
        return
    if was.content.digest is None and was.etag is not None and was.etag == now.etag:
        return
    theirs = foreign_bodies(world, path)
    assert any(now.etag == etag(body) or now.content.digest == digest(body) for body in theirs), (
        f"{path!r} changed in generation {generation}"
    )


def check_kept(world: World, state: State, root: Root) -> None:
    """What a plan is about to replace or delete has been copied to where no plan reaches.

    What was set aside was copied by the publish that would have replaced it, and copies last for a
    week of some machine's clock.
    """
    if root.plan is None:
        return
    manifest = tree_in(world, state, root)
    aside = before_of(world, state, manifest).aside
    plan = plan_in(world, state, root.plan)
    steps = [(put.path, put.expect) for put in plan.puts]
    for path, expect in [*steps, *((step.path, step.expect) for step in plan.deletes)]:
        there = state.get(world.keys.plain(path))
        if there is None or there.etag != expect or not there.body or aside.get(path) == expect:
            continue
        found = digest(there.body)
        assert found is not None
        home = manifest.homes_of(found)
        assert home is not None, f"{path!r} is replaced without a copy"
        copied = is_readable(world, state, home.with_plain())
        assert copied, f"{path!r} is replaced, and no contents object has its bytes"
