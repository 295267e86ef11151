"""Which internal objects of a stage nobody can need any more: the garbage rule.

An internal object stays while it is *named*: by the root's tree or plan; by the base, or the
committed tree, of a session that has not ended; or by a tree of the chain of predecessors that was
current in the last days, since a reader may still show it, or that leads from the root's tree back
to the oldest of those bases, since a session that resumes looks for its own publish along the
chain. A tree names its contents, those that it has kept, and the plan of its publish.

It stays, too, while it belongs to a session that has not ended, or was written under a fence that
is not below the collector's; and, where a repair has made the root anew, for some days what was
written before: sessions that the root forgot may need it, or a tree that comes back from a backup.
Everything else is garbage.

Times are those at which the store wrote the trees, never a machine's own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pdfs.core.content import Content
from pdfs.core.ids import Fence, ObjectName, PublishId, fence_of, publish_name
from pdfs.core.keys import CONTENTS, PLANS, TREES
from pdfs.core.manifest import Manifest
from pdfs.core.plan import Plan
from pdfs.core.root import Root


@dataclass(frozen=True, slots=True, kw_only=True)
class Internal:
    """An immutable object as a listing shows it."""

    folder: str
    """`trees`, `plans` or `contents`."""
    name: ObjectName
    size: int
    written: float
    """When, in seconds since 1970 by the store's clock."""


@dataclass(slots=True)
class Named:
    """What is named, so far."""

    trees: set[ObjectName] = field(default_factory=set)
    plans: set[ObjectName] = field(default_factory=set)
    contents: dict[ObjectName, int] = field(default_factory=dict)
    """How long each contents object has to be, at least."""

    def by_tree(self, name: ObjectName, manifest: Manifest) -> None:
        """Add a tree and all that it names."""
        self.trees.add(name)
        if manifest.publish is not None:
            self.plans.add(publish_name(manifest.publish))
        for content in manifest.contents():
            self._by_content(content)

    def by_plan(self, name: ObjectName, plan: Plan) -> None:
        """Add a plan and the contents that it puts."""
        self.plans.add(name)
        for put in plan.puts:
            self._by_content(put.content)

    def _by_content(self, content: Content) -> None:
        for home in content.packed:
            stop = home.offset + content.size
            self.contents[home.name] = max(self.contents.get(home.name, 0), stop)

    def __contains__(self, found: Internal) -> bool:
        named = {TREES: self.trees, PLANS: self.plans, CONTENTS: self.contents}
        return found.name in named[found.folder]


def is_in_use(
    names: Sequence[ObjectName], written: Mapping[ObjectName, float], *, now: float, kept_for: float
) -> bool:
    """Whether the predecessor of the last of `names`, the chain from the root's on, may be shown.

    The root's predecessor may always be. One before that was replaced, at the latest, when the
    successor of its successor was written: that was made from a root that named its successor.
    """
    if len(names) < 2:
        return True
    return now - written.get(names[-2], now) <= kept_for


@dataclass(frozen=True, slots=True)
class Origin:
    """Where in a stage's history a tree stands."""

    generation: int
    publish: PublishId | None


def forgotten(trees: Mapping[ObjectName, Origin], root: Root) -> list[ObjectName]:
    """Trees of a history that the root does not continue: it was brought back, or began anew.

    Who takes the stage later finds at least the generation that an earlier owner made his next one
    from: a tree that is more than one generation ahead of one of a higher fence is of another
    history. So is one of two settled trees that are of the same generation, but of two publishes.
    Both prove it for as long as nothing goes.
    """
    return [*_ahead(trees, root), *_twice(trees)]


def _ahead(trees: Mapping[ObjectName, Origin], root: Root) -> list[ObjectName]:
    found: list[ObjectName] = []
    fence, lowest, seen = root.fence + 1, root.generation, root.generation
    for name in sorted(trees, reverse=True):
        if fence_of(name) != fence:
            fence, lowest = fence_of(name), seen
        if trees[name].generation > lowest + 1:
            found.append(name)
        seen = min(seen, trees[name].generation)
    return found


def _twice(trees: Mapping[ObjectName, Origin]) -> list[ObjectName]:
    settled: dict[int, dict[PublishId, ObjectName]] = {}
    for name, origin in sorted(trees.items()):
        if origin.publish is not None and publish_name(origin.publish) != name:
            settled.setdefault(origin.generation, {})[origin.publish] = name
    return [name for names in settled.values() if len(names) > 1 for name in names.values()]


def is_unowned(name: ObjectName, root: Root, fence: Fence, now: float) -> bool:
    """Whether who made an object of that name can't need it any more, as far as `fence` can say.

    `now` is by the store's clock.
    """
    living = {each for entry in root.sessions for each in entry.fences}
    if fence_of(name) >= fence or fence_of(name) in living:
        return False
    restored = root.restored
    return restored is None or fence_of(name) >= restored.fence or now >= restored.until


def garbage(
    objects: Iterable[Internal], named: Named, root: Root, fence: Fence, now: float
) -> list[Internal]:
    """What the holder of `fence` may let go, in the order in which it must go: trees first.

    So no tree that is there names contents that are gone; a session that was brought back from the
    trash is refused then, and publishes nothing that rests on them.
    """
    order = {TREES: 0, PLANS: 1, CONTENTS: 2}
    found = [
        each for each in objects if each not in named and is_unowned(each.name, root, fence, now)
    ]
    return sorted(found, key=lambda each: (order[each.folder], each.name))
