"""A machine fails in the middle of a publish, and it or another one goes on with it at once.

All that is written bears on few names: what the first machine was about to put or delete is what
the heir edits before the plan that he found is settled, what another tool replaces meanwhile, and
what the first user edits again as soon as his machine is back.
"""

from dataclasses import dataclass, field

import trio

from pdfs.core.ids import Path
from pdfs.store.faulty import Fate, Request
from pdfs.store.objects import Traits
from pdfs.store.step import Step
from tests.simulation.machine import Machine
from tests.simulation.oracle import check_everything
from tests.simulation.story import come_to_rest
from tests.simulation.world import Visit, World, new_world

HOT = [Path(name) for name in ("a.dwg", "b.dwg", "dir/c.dwg", "dir", "g")]
QUIET = [Path("own/1.dwg"), Path("own/2.dwg"), Path("own/3.dwg")]
"""Names of which each belongs to one round, and no other tool writes them."""

PLACES = {
    Step.START_TAKE_LOCK: 1,
    Step.START_WRITE_ROOT: 2,
    Step.STAGE_CONTENT: 1,
    Step.COMMIT_ROOT: 3,
    Step.APPLY_CHECK_ROOT: 2,
    Step.APPLY_PUT: 3,
    Step.APPLY_JUDGE: 1,
    Step.APPLY_DELETE: 4,
    Step.SETTLE_ROOT: 2,
    Step.END_ROOT: 1,
    Step.RELEASE_MARK: 1,
}
"""Where it happens, and how often."""

KINDS = (Fate.CRASH_BEFORE, Fate.CRASH_AFTER, Fate.FROZEN, Fate.LATE, Fate.LATE)


@dataclass(slots=True)
class Accident:
    """The next request of `step` that a machine sends has `fate`, and it notices nothing more."""

    step: Step
    fate: Fate
    seconds: float
    """How long a machine that lives on is cut off."""
    begun: float | None = None
    happened: trio.Event = field(default_factory=trio.Event)

    def fate_of(self, request: Request) -> Fate:
        now = trio.current_time()
        if self.begun is None:
            if request.step is not self.step:
                return Fate.FINE
            self.begun = now
            self.happened.set()
            is_possible = request.is_write or self.fate is not Fate.LATE
            return self.fate if is_possible else Fate.REQUEST_LOST
        is_cut = self.fate is Fate.LATE and now < self.begun + self.seconds
        return Fate.REQUEST_LOST if is_cut else Fate.FINE


async def hand_over(seed: int, traits: Traits) -> tuple[World, int]:
    """Three such accidents in a row, and which is up to the seed; how many there were."""
    world = new_world(seed, traits)
    accidents: dict[str, Accident] = {}
    happened = 0

    def fate_of(machine: Machine, request: Request) -> Fate:
        accident = accidents.get(machine.name)
        return Fate.FINE if accident is None else accident.fate_of(request)

    async with trio.open_nursery() as late:
        people = [("ws1", "anna"), ("ws2", "bert")]
        machines = [world.add_machine(name, user, late, fate_of) for name, user in people]
        for name in HOT[:3]:
            await world.foreign_put(name, world.rng.randbytes(60))
        await world.visit_somehow(machines[0], lambda visit: _edit(world, visit, QUIET))
        for number in range(3):
            victim, heir = machines[number % 2], machines[(number + 1) % 2]
            (place,) = world.rng.choices(list(PLACES), list(PLACES.values()))
            accident = Accident(
                place, world.rng.choice(KINDS), seconds=world.rng.choice([90.0, 900.0])
            )
            accidents[victim.name] = accident
            await _round(world, accident, victim, heir, QUIET[number])
            happened += accident.happened.is_set()
        await come_to_rest(world)
        late.cancel_scope.cancel()
    check_everything(world)
    return world, happened


async def _round(
    world: World, accident: Accident, victim: Machine, heir: Machine, quiet: Path
) -> None:
    async with trio.open_nursery() as nursery:
        if world.rng.random() < 0.7:
            nursery.start_soon(_inherit, world, accident, heir, quiet)
        nursery.start_soon(_meddle, world)
        await world.visit_somehow(
            victim,
            lambda visit: _edit(world, visit, HOT),
            resumed=lambda visit: _edit(world, visit, HOT),
        )
        if not accident.happened.is_set():
            nursery.cancel_scope.cancel()


async def _inherit(world: World, accident: Accident, heir: Machine, quiet: Path) -> None:
    await accident.happened.wait()
    await trio.sleep(world.rng.choice([0.0, 0.5, 5.0, 20.0]))
    if world.rng.random() < 0.5:
        await _meddle_once(world)
    names = [*HOT, quiet]
    in_a_hurry = world.rng.random() < 0.5

    async def edit(visit: Visit) -> None:
        if in_a_hurry:
            for name in (*HOT[:3], quiet):
                visit.editor.write(name, visit.editor.fresh())
        else:
            await _edit(world, visit, names)

    await world.visit_somehow(heir, edit, is_forceful=True)


async def _edit(world: World, visit: Visit, names: list[Path]) -> None:
    """At once, and again after a while."""
    for _ in range(world.rng.randrange(1, 4)):
        for _ in range(world.rng.randrange(1, 4)):
            await visit.editor.anything(names)
        await trio.sleep(world.rng.choice([0.0, 0.0, 0.3, 3.0, 61.0]))
    await visit.editor.write_to_all_open()


async def _meddle(world: World) -> None:
    for _ in range(3):
        await trio.sleep(world.rng.choice([0.2, 1.0, 10.0, 50.0]))
        await _meddle_once(world)


async def _meddle_once(world: World) -> None:
    """Another tool writes or removes a plain object."""
    name = world.rng.choice(HOT[:3])
    if world.rng.random() < 0.4:
        await world.foreign_delete(name)
    else:
        await world.foreign_put(name, world.rng.randbytes(60))
