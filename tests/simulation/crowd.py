"""Several machines and another tool at once on a bad network, all of it drawn from one seed."""

import random
from dataclasses import dataclass

import trio

from pdfs.core.ids import Path
from pdfs.store.faulty import LIST, Fate, Request, fates_of
from pdfs.store.objects import Traits
from tests.simulation.machine import Machine
from tests.simulation.onlooker import Onlooker
from tests.simulation.oracle import check_everything
from tests.simulation.story import come_to_rest
from tests.simulation.world import Visit, World, new_world

OURS = [Path(name) for name in ("a.dwg", "b.dwg", "d/c.dwg", "d/e/f.dxf", "d/e", "g")]
SHARED = [Path("shared.dwg"), Path("s/other.dxf")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How bad a run is."""

    faults: float
    """The share of requests that don't fare well."""
    graver: float
    """The share of faults that kill or freeze the process, or end an attempt at something."""
    stale: float = 0.0
    """The share of listings that show what was."""
    rounds: int = 3
    """Sessions of each machine."""


async def edit_alone(seed: int, traits: Traits) -> World:
    """One user, one machine, a quarter of all requests lost: his sessions must be called saved.

    Whoever takes his own late or lost write for another's would lose the stage to himself, or find
    conflict copies of his own files.
    """
    world = new_world(seed, traits)
    chance = random.Random(seed)
    silent = (Fate.ANSWER_LOST, Fate.LATE, Fate.DOUBLED, Fate.ECHOED, Fate.REQUEST_LOST)
    mounts = 0

    def fate_of(machine: Machine, request: Request) -> Fate:
        # Before it has got the stage, a silent store is the user's to hear of.
        if len(world.diaries) < mounts or chance.random() >= 0.25:
            return Fate.FINE
        return chance.choice(silent if request.is_write else (Fate.REQUEST_LOST,))

    async with trio.open_nursery() as late:
        machine = world.add_machine("ws1", "anna", late, fate_of)
        for _ in range(2):
            mounts += 1
            assert await world.visit(machine, lambda visit: _edit_surely(world, visit))
        await come_to_rest(world)
        late.cancel_scope.cancel()
    check_everything(world)
    return world


async def _edit_surely(world: World, visit: Visit) -> None:
    visit.editor.write(world.rng.choice(OURS), visit.editor.fresh())
    await _edit(world, visit)


async def meet(seed: int, traits: Traits, weather: Weather) -> World:
    """One run; raises AssertionError where a rule was broken."""
    world = new_world(seed, traits)
    chance = random.Random(seed ^ 0x5EED)

    def fate_of(machine: Machine, request: Request) -> Fate:
        if request.operation == LIST and chance.random() < weather.stale:
            return Fate.STALE
        if chance.random() >= weather.faults:
            return Fate.FINE
        is_graver = chance.random() < weather.graver
        possible = sorted(fates_of(request))
        return chance.choice([fate for fate in possible if (fate in _GRAVER) == is_graver])

    async with trio.open_nursery() as late:
        people = [("ws1", "anna"), ("ws2", "anna"), ("ws3", "bert")]
        machines = [world.add_machine(name, user, late, fate_of) for name, user in people]
        onlooker = Onlooker(world, world.new_machine("ws4", "dora", late, fate_of))
        late.start_soon(onlooker.look_on)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_other_tool, world)
            for machine in machines:
                nursery.start_soon(_work, world, machine, weather.rounds)
        await come_to_rest(world)
        await onlooker.check_moved_on()
        late.cancel_scope.cancel()
    check_everything(world)
    return world


_GRAVER = frozenset({Fate.CRASH_BEFORE, Fate.CRASH_AFTER, Fate.FROZEN, Fate.REFUSED, Fate.UNMET})


async def _work(world: World, machine: Machine, rounds: int) -> None:
    for _ in range(rounds):
        await trio.sleep(world.rng.uniform(0, 600))
        await world.visit_somehow(
            machine,
            lambda visit: _edit(world, visit),
            resumed=lambda visit: _edit(world, visit),
        )


async def _edit(world: World, visit: Visit) -> None:
    """A few operations; some users publish amid them, and don't wait for it."""
    async with trio.open_nursery() as nursery:
        for _ in range(world.rng.randrange(1, 8)):
            await trio.sleep(world.rng.choice([0.0, 0.1, 2.0, 90.0]))
            await visit.editor.anything(OURS + SHARED)
            if world.rng.random() < 0.2:
                nursery.start_soon(visit.publish)
        if world.rng.random() < 0.5:
            nursery.cancel_scope.cancel()


async def _other_tool(world: World) -> None:
    """Overwrites and deletes plain objects of a few names, at any time."""
    for _ in range(6):
        await trio.sleep(world.rng.uniform(0, 400))
        name = world.rng.choice(SHARED)
        if world.rng.random() < 0.25:
            await world.foreign_delete(name)
        else:
            await world.foreign_put(name, world.rng.randbytes(world.rng.choice([20, 90, 400])))
