"""What a stage can go on from when its root, or the tree that this names, is gone or damaged.

The trees say it themselves. That of the highest fence, and among those of one fence that of the
highest generation, was made from all before it; and as settled it says more than as committed. What
is only committed brings its plan along: each step of that can be done twice, so it does no harm
that it may have been carried out. Without its plan, a publish that has anything to put did not get
as far as its commit, since plans are written before that.

The new root carries a fence above all that was seen, and room for those that left no trace; nobody
holds it: whoever starts next raises it, and who held the stage before can't swap it.
"""

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, replace

from pdfs.core.ids import (
    MOST_FENCE,
    Fence,
    ObjectName,
    Path,
    PublishId,
    RunId,
    Sequence,
    SessionId,
    fence_of,
    publish_name,
)
from pdfs.core.lease import Lock, LockState
from pdfs.core.manifest import Manifest
from pdfs.core.root import LastPublish, Restored, Root, SessionEntry

ROOM = 1000
"""Starts that may have been without leaving an object: their inode numbers are not given again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A generation that the root can name."""

    name: ObjectName
    generation: int
    time: float
    """When it was published, by the clock of who did."""
    plan: ObjectName | None
    """What is to be carried out, perhaps once more, to settle it."""
    lacks: int = 0
    """How many trees that may be newer can't be read."""
    is_behind: bool = False
    """A root that can be read says that a newer generation was published."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing that was published is newer, as far as anybody can say."""
        return not (self.lacks or self.is_behind)

    def rank(self) -> tuple[Fence, int, bool]:
        """What is greater is newer."""
        return fence_of(self.name), self.generation, self.plan is None


def past_of(
    name: ObjectName, tree: Manifest, plans: Set[ObjectName], is_visible: Callable[[Path], bool]
) -> Past | None:
    """The generation of that tree; None if it was never committed. `plans` are those there."""
    is_committed_form = tree.publish is not None and publish_name(tree.publish) == name
    if is_committed_form and name not in plans and _has_puts(tree, is_visible):
        return None
    return Past(
        name=name,
        generation=tree.generation,
        time=tree.time,
        plan=name if is_committed_form and name in plans else None,
    )


def _has_puts(tree: Manifest, is_visible: Callable[[Path], bool]) -> bool:
    return any(
        entry.content is not None
        and entry.etag is None
        and not entry.lost
        and is_visible(entry.path)
        for entry in tree.entries
    )


def restored_root(
    past: Past,
    before: Root | None,
    lock: Lock | None,
    seen: Iterable[ObjectName],
    *,
    publisher: SessionId | None,
    session: SessionId,
    run: RunId,
    until: float,
) -> Root:
    """The root that names `past`; `before` is the one that was there, where that can be read.

    `seen` are the names of all internal objects, and `until` is how long these are kept;
    `publisher` is the session whose plan it is.
    """
    fence = _fence_above(before, lock, seen)
    root = Root(
        id="",
        generation=past.generation,
        fence=fence,
        session=session,
        run=run,
        tree=past.name,
        plan=past.plan,
        sessions=() if before is None else tuple(_undone(each, past) for each in before.sessions),
        restored=Restored(fence=fence, until=until),
    )
    has_ended = lock is not None and before is not None and before.has_ended(*_whose(lock))
    return root if lock is None or has_ended else _with_owner(root, lock, publisher)


def _undone(entry: SessionEntry, past: Past) -> SessionEntry:
    """A publish that is lost was none: its session, when it is resumed, makes it again."""
    is_gone = entry.last is not None and entry.last.generation > past.generation
    return replace(entry, last=None) if is_gone else entry


def _fence_above(before: Root | None, lock: Lock | None, seen: Iterable[ObjectName]) -> Fence:
    fences = [Fence(0), *map(fence_of, seen)]
    if lock is not None:
        fences.append(lock.fence)
    if before is not None:
        fences += [before.fence, *(fence for entry in before.sessions for fence in entry.fences)]
    most = MOST_FENCE - ROOM
    return Fence(max(fence for fence in fences if fence <= most) + ROOM)


def _whose(lock: Lock) -> tuple[SessionId, Fence]:
    return lock.session, lock.fence


def _with_owner(root: Root, lock: Lock, publisher: SessionId | None) -> Root:
    """`root`, where the session that the lock tells of has not ended: its work may wait.

    If the plan is its own, it has committed that, and can't be discarded any more.
    """
    if lock.state is LockState.RELEASED and not lock.pending:
        return root
    entry = root.entry(lock.session) or SessionEntry(
        session=lock.session,
        user=lock.user,
        machine=lock.machine,
        fences=(lock.fence,),
        base=root.tree,
    )
    if publisher == lock.session and root.tree is not None and entry.last is None:
        last = LastPublish(
            generation=root.generation,
            publish=PublishId(root.tree),
            tree=root.tree,
            sequence=Sequence(0),  # its journal knows
        )
        entry = replace(entry, last=last)
    return root.with_entry(replace(entry, unpublished=lock.pending))
