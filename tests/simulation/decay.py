"""Weeks pass over a stage: generations become garbage, and sessions, readers and crashes last.

Machines crash, stand still or are cut off amid a collect, and another takes the stage over at once;
sessions that crashed wait for weeks before they are resumed; readers show what they opened for as
long as it is promised to them.
"""

import trio

from pdfs.core.ids import Path
from pdfs.core.root import Root
from pdfs.store.faulty import Fate, Request
from pdfs.store.memory import Change
from pdfs.store.objects import Traits
from pdfs.store.step import Step
from tests.simulation.handover import Accident
from tests.simulation.history import digest
from tests.simulation.machine import TIMING, Machine
from tests.simulation.oracle import check_everything
from tests.simulation.story import come_to_rest
from tests.simulation.world import Visit, World, new_world

NAMES = [Path(name) for name in ("a.dwg", "b.dwg", "dir/c.dwg", "big.bin", "g")]
DAY = 86400.0
PLACES = (
    *(Step.COLLECT_LIST, Step.COLLECT_READ),
    *(Step.COLLECT_CHECK_ROOT, Step.COLLECT_DELETE, Step.COLLECT_DELETE, Step.COLLECT_DELETE),
    *(Step.STAGE_CONTENT, Step.COMMIT_TREE, Step.COMMIT_ROOT, Step.APPLY_PUT, Step.SETTLE_ROOT),
)
KINDS = (Fate.CRASH_BEFORE, Fate.CRASH_AFTER, Fate.FROZEN, Fate.LATE, Fate.ECHOED)


async def decay(seed: int, traits: Traits) -> tuple[World, int, int]:
    """How it ended, how many objects were let go, and how many readers were served to their end."""
    world = new_world(seed, traits)
    accidents: dict[str, Accident] = {}
    served: list[float] = []

    def fate_of(machine: Machine, request: Request) -> Fate:
        accident = accidents.get(machine.name)
        return Fate.FINE if accident is None else accident.fate_of(request)

    async with trio.open_nursery() as late:
        people = (("ws1", "anna"), ("ws2", "bert"), ("ws3", "carl"))
        machines = [world.add_machine(name, user, late, fate_of) for name, user in people]
        for name in NAMES[:3]:
            await world.foreign_put(name, world.rng.randbytes(90))
        for _ in range(7):
            await _week(world, machines, accidents)
            late.start_soon(_read_for_days, world, served)
        await trio.sleep(TIMING.kept_for)
        await come_to_rest(world)
        late.cancel_scope.cancel()
    check_everything(world)
    let_go = sum(_is_let_go(world, change) for change in world.store.history)
    return world, let_go, len(served)


def _is_let_go(world: World, change: Change) -> bool:
    return change.stored is None and world.keys.internal_of(change.key) is not None


async def _week(world: World, machines: list[Machine], accidents: dict[str, Accident]) -> None:
    accidents.clear()
    owner, heir = world.rng.sample(machines, 2)
    if world.rng.random() < 0.6:
        place, kind = world.rng.choice(PLACES), world.rng.choice(KINDS)
        accident = Accident(place, kind, world.rng.choice([90.0, 900.0]))
        accidents[owner.name] = accident
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_inherit, world, accident, heir)
            # One that crashed may wait for weeks before he is back.
            await world.visit_somehow(owner, _edit, gives_up_at_crash=True)
            if not accident.happened.is_set():
                nursery.cancel_scope.cancel()
    else:
        await world.visit_somehow(owner, _edit, gives_up_at_crash=True)
    await world.foreign_put(world.rng.choice(NAMES[:3]), world.rng.randbytes(60))
    await trio.sleep(world.rng.choice([1, 3, 8, 15]) * DAY)


async def _inherit(world: World, accident: Accident, heir: Machine) -> None:
    await accident.happened.wait()
    await trio.sleep(world.rng.choice([0.0, 0.5, 20.0]))
    await world.visit_somehow(heir, _edit, is_forceful=True)


async def _edit(visit: Visit) -> None:
    """Parts of files, too, so that their bases are needed for as long as the session lasts."""
    for name in visit.world.rng.sample(NAMES, 3):
        if visit.editor.exists(name):
            await visit.editor.append(name, visit.editor.fresh(9))
        else:
            visit.editor.write(name, visit.editor.fresh(700 if name == "big.bin" else 40))
    await visit.editor.anything(NAMES)
    await trio.sleep(visit.world.rng.choice([0.0, 3.0, 100.0]))


async def _read_for_days(world: World, served: list[float]) -> None:
    """A read-only mount: it opened a generation once, and reads all of it a week later.

    A week after that generation was replaced, to be exact; what other tools took away is not ours
    to give.
    """
    opened = world.root()
    if opened is None or opened.tree is None:
        return
    manifest = world.manifest(opened)
    while _is_current(world, opened):  # noqa: ASYNC110 - a bucket tells nobody of a new generation
        await trio.sleep(DAY / 4)
    await trio.sleep(TIMING.kept_for - DAY / 4 - 1.0)
    for entry in manifest.entries:
        content = entry.content
        if content is None or not content.packed:
            continue
        home = content.packed[0]
        stored = world.store.objects.get(world.keys.content(home.name))
        assert stored is not None, f"{entry.path!r} of {opened} can't be read any more"
        body = stored.body[home.offset : home.offset + content.size]
        assert digest(body) == content.digest
    served.append(world.time())


def _is_current(world: World, opened: Root) -> bool:
    root = world.root()
    return root is not None and root.tree == opened.tree
