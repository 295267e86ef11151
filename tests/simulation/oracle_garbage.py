"""Judges every delete of an internal object: nobody can have needed it.

What was current when, is known here from the history of the root itself, not from the chain of
trees or the times that listings show.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from pdfs.core.ids import ObjectName, publish_name
from pdfs.core.keys import CONTENTS, PLANS, TREES
from pdfs.core.root import Root
from tests.simulation.history import State, fence_in, plan_in, replayed, tree_in
from tests.simulation.machine import TIMING
from tests.simulation.world import World

_AT_ONCE = 60.0
"""Seconds in which nobody comes to need less, as far as this goes."""


def check_garbage(world: World) -> int:
    """All deletes, in the order in which they happened; how many there were."""
    history: list[tuple[float, Root]] = []
    needs: _Needs | None = None
    deletes = 0
    for change, state, root in replayed(world):
        if change.key == world.keys.root and root is not None:
            history.append((change.time, root))
            needs = None
        elif change.stored is None and (place := world.keys.internal_of(change.key)) is not None:
            if needs is None or change.time > needs.time + _AT_ONCE:
                needs = _needs(world, change.time, state, history)
            _check_delete(change.time, history[-1][1], needs, *place)
            deletes += 1
    return deletes


def _check_delete(time: float, root: Root, needs: "_Needs", folder: str, name: ObjectName) -> None:
    what = f"{folder}/{name}, deleted at {time},"
    assert fence_in(name) < root.fence, f"{what} was written under the fence of its collector"
    for entry in root.sessions:
        assert fence_in(name) not in entry.fences, f"{what} is of a session that has not ended"
    why = needs.why[folder].get(name)
    assert why is None, f"{what} is needed by {why}"


@dataclass(slots=True)
class _Needs:
    """What somebody needs at one time, and who."""

    time: float
    why: dict[str, dict[ObjectName, str]] = field(
        default_factory=lambda: {TREES: {}, PLANS: {}, CONTENTS: {}}
    )


def _needs(world: World, time: float, state: State, history: list[tuple[float, Root]]) -> _Needs:
    needs, root = _Needs(time), history[-1][1]
    for name, why in dict(_trees(time, history)).items():
        needs.why[TREES][name] = why
        if world.keys.tree(name) not in state:
            continue  # its own delete is judged
        manifest = tree_in(world, state, replace(root, tree=name))
        if manifest.publish is not None:
            needs.why[PLANS][publish_name(manifest.publish)] = why
        contents = [entry.content for entry in manifest.entries if entry.content is not None]
        for content in (*contents, *(kept.content for kept in manifest.kept.values())):
            needs.why[CONTENTS].update({home.name: why for home in content.packed})
    if root.plan is not None:
        why = "the plan that is to be carried out"
        needs.why[PLANS][root.plan] = why
        for put in plan_in(world, state, root.plan).puts:
            needs.why[CONTENTS].update({home.name: why for home in put.content.packed})
    return needs


def _trees(time: float, history: list[tuple[float, Root]]) -> Iterator[tuple[ObjectName, str]]:
    """Trees that somebody may show, or stands on."""
    root = history[-1][1]
    ends = [begun for begun, _ in history[1:]] + [float("inf")]
    oldest = _oldest_base(history, root)
    for (_, each), end in zip(history, ends, strict=True):
        if each.tree is None:
            continue
        if end > time - TIMING.kept_for:
            yield each.tree, f"who opened generation {each.generation}, current until {end}"
        elif each.generation > oldest:
            yield each.tree, "a session that has not ended, and looks for its own publish"
    for entry in root.sessions:
        if entry.base is not None:
            yield entry.base, "a session that has not ended, as its base"
        if entry.last is not None:
            yield entry.last.tree, "a session that has not ended, as what it committed"


def _oldest_base(history: list[tuple[float, Root]], root: Root) -> int:
    generations = {each.tree: each.generation for _, each in history}
    return min((generations.get(e.base, 0) for e in root.sessions), default=root.generation)
