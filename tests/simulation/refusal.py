"""A bucket that refuses some keys for a while, and users who set aside what it refuses, or wait."""

import random
from contextlib import suppress

import trio

from pdfs.core.ids import Path
from pdfs.core.states import State
from pdfs.errors import PdfsError
from pdfs.store.faulty import READ_FATES, WRITE_FATES, Fate, Request
from pdfs.store.objects import Traits
from tests.simulation.machine import Killed, Machine, Process
from tests.simulation.oracle import check_everything
from tests.simulation.story import come_to_rest
from tests.simulation.world import Visit, World, new_world

NAMES = [Path(name) for name in ("a.dwg", "b.dwg", "d/c.dwg", "d", "g")]
FAULTS = 0.02
"""The share of requests that don't fare well for another reason."""


class _Bucket:
    """Which keys are refused now."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = random.Random(world.rng.getrandbits(64))
        self._closed: set[str] = set()

    def fate_of(self, machine: Machine, request: Request) -> Fate:
        if request.is_write and request.key in self._closed:
            self._world.refused.add(request.key)
            return Fate.REFUSED
        if self._chance.random() >= FAULTS:
            return Fate.FINE
        return self._chance.choice(sorted(WRITE_FATES if request.is_write else READ_FATES))

    async def change_rules(self) -> None:
        """Some keys at a time, for as long as somebody might wait, and longer."""
        while True:
            names = self._chance.sample(NAMES, self._chance.randrange(1, 4))
            self._closed = {self._world.keys.plain(name) for name in names}
            await trio.sleep(self._chance.choice([30.0, 300.0, 3000.0, 30_000.0]))
            self._closed = set()
            await trio.sleep(self._chance.choice([0.0, 5.0, 30.0]))


async def refuse(seed: int, traits: Traits) -> int:
    """One run; how many words were obeyed. Raises AssertionError where a rule was broken."""
    world = new_world(seed, traits)
    bucket = _Bucket(world)
    obeyed: list[Process] = []
    async with trio.open_nursery() as late:
        people = [("ws1", "anna"), ("ws2", "bert")]
        machines = [world.add_machine(*each, late, bucket.fate_of) for each in people]
        async with trio.open_nursery() as rules:
            rules.start_soon(bucket.change_rules)
            async with trio.open_nursery() as nursery:
                for machine in machines:
                    nursery.start_soon(_work, world, machine, obeyed)
            rules.cancel_scope.cancel()
        await come_to_rest(world)
        late.cancel_scope.cancel()
    check_everything(world)
    root = world.root()
    assert root is not None
    assert root.tree is None or not world.manifest(root).aside, "nobody tried it again"
    return len(obeyed)


async def _work(world: World, machine: Machine, obeyed: list[Process]) -> None:
    async with trio.open_nursery() as nursery:

        async def edit(visit: Visit) -> None:
            nursery.start_soon(_speak, world, visit.process, obeyed)
            await _edit(world, visit)

        for _ in range(3):
            await trio.sleep(world.rng.uniform(0, 600))
            await world.visit_somehow(machine, edit, resumed=edit)


async def _edit(world: World, visit: Visit) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(world.rng.randrange(1, 6)):
            await visit.editor.anything(NAMES)
            await trio.sleep(world.rng.choice([0.0, 2.0, 90.0]))
            if world.rng.random() < 0.4:
                nursery.start_soon(visit.publish)
        if world.rng.random() < 0.5:
            nursery.cancel_scope.cancel()


async def _speak(world: World, process: Process, obeyed: list[Process]) -> None:
    """Set aside some of what is refused, as long as the session lasts; or nothing at all."""
    patience = world.rng.choice([1.0, 40.0, 400.0, 10_000.0])
    session = process.session
    while not process.is_dead and session.state is not State.CLOSED and session.lost is None:
        await trio.sleep(patience)
        words = sorted(session.refused)[: world.rng.randrange(1, 4)]
        with suppress(PdfsError, Killed), trio.move_on_after(20_000.0):
            if words and await session.set_aside(words):
                assert not set(words) & set(session.refused)
                obeyed.append(process)
