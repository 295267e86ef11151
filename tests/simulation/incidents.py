"""Sequences of events that chance seldom makes, each told exactly."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from pdfs.core.ids import Path
from pdfs.store.faulty import Fate, Request
from pdfs.store.objects import Traits
from pdfs.store.step import Step
from tests.simulation.handover import Accident
from tests.simulation.machine import Machine
from tests.simulation.oracle import check_everything
from tests.simulation.story import come_to_rest
from tests.simulation.world import Story, Visit, World, idle, new_world

NAME = Path("a.dwg")
MOVED = Path("b.dwg")


async def delete_late(seed: int, traits: Traits) -> None:
    """anna's delete is under way when her machine is cut off, and arrives twenty seconds later.

    bert has the stage by then, and wants to make a new file of that name.
    """
    async with _two(seed, traits, Accident(Step.APPLY_DELETE, Fate.LATE, 900.0), 20.0) as here:
        await here.world.visit_somehow(here.anna, _write)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_take_over, here, _write)
            await here.world.visit_somehow(here.anna, _delete)


async def delete_unanswered(seed: int, traits: Traits) -> None:
    """anna's delete arrives after twenty seconds; she makes a new file of that name at once."""
    async with _two(seed, traits, Accident(Step.APPLY_DELETE, Fate.LATE, 0.0), 20.0) as here:
        for story in (_write, _delete, _write):
            await here.world.visit_somehow(here.anna, story)


async def put_frozen(seed: int, traits: Traits) -> None:
    """anna's machine stands still amid her publish; bert finishes it and goes on with her file."""
    frozen = Accident(Step.APPLY_PUT, Fate.FROZEN, 900.0)
    async with _two(seed, traits, frozen, 7200.0) as here, trio.open_nursery() as nursery:
        nursery.start_soon(_take_over, here, _write)
        await here.world.visit_somehow(here.anna, _write)


async def lose_name(seed: int, traits: Traits) -> list[Path]:
    """anna renames a file that another tool then replaces, and dies once that is committed.

    Returns what she is told is missing when bert has published and she resumes.
    """
    async with _two(seed, traits, Accident(Step.COMMIT_ROOT, Fate.CRASH_AFTER, 900.0), 1.0) as here:
        world = here.world
        await world.foreign_put(NAME, world.rng.randbytes(60))

        async def rename(visit: Visit) -> None:
            await visit.editor.rename(NAME, MOVED)
            await world.foreign_put(NAME, world.rng.randbytes(60))

        await world.visit(here.anna, rename)
        assert here.accident.happened.is_set()
        (session,) = world.diaries
        await here.world.visit_somehow(here.bert, _write_another, is_forceful=True)
        await here.world.visit_somehow(here.anna, idle)
    return world.missing[session]


async def list_frozen(seed: int, traits: Traits) -> None:
    """anna's machine stands still before it lists; bert takes over and publishes meanwhile.

    What the listing shows then is no late write of hers, though it replaced exactly what she knows.
    """
    frozen = Accident(Step.LOAD_LISTING, Fate.FROZEN, 900.0)
    async with _two(seed, traits, frozen, 7200.0) as here:
        await here.world.visit_somehow(here.bert, _write)

        async def draw_long(visit: Visit) -> None:
            await _write_another(visit)
            await trio.sleep(8000.0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_take_over, here, _write)
            await here.world.visit_somehow(here.anna, draw_long)


async def lose_lock(seed: int, traits: Traits) -> None:
    """bert takes the stage over from anna, and somebody deletes his lock.

    She is the first to look for it, and has not heard of bert yet.
    """
    world = new_world(seed, traits)
    async with trio.open_nursery() as late:
        anna, bert = (
            world.add_machine(name, user, late, lambda machine, request: Fate.FINE)
            for name, user in (("ws1", "anna"), ("ws2", "bert"))
        )

        async def draw_long(visit: Visit) -> None:
            visit.editor.write(NAME, visit.editor.fresh())
            await trio.sleep(400.0)

        async def lose(visit: Visit) -> None:
            await world.foreign_delete_lock()
            await trio.sleep(200.0)
            visit.editor.write(MOVED, visit.editor.fresh())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.visit_somehow, anna, draw_long)
            await trio.sleep(world.rng.uniform(70.0, 110.0))
            await world.visit_somehow(bert, lose, is_forceful=True)
        await come_to_rest(world)
        late.cancel_scope.cancel()
    check_everything(world)


async def change_kinds(seed: int, traits: Traits) -> None:
    """A file of one session becomes a directory in the next, and a file again after that."""
    world = new_world(seed, traits)
    async with trio.open_nursery() as late:
        anna = world.add_machine("ws1", "anna", late, lambda machine, request: Fate.FINE)
        for path in (Path("d"), Path("d/e.dwg"), Path("d")):

            async def write(visit: Visit, path: Path = path) -> None:
                visit.editor.write(path, visit.editor.fresh())

            await world.visit_somehow(anna, write)
        await come_to_rest(world)
        late.cancel_scope.cancel()
    check_everything(world)
    assert not [key for key in world.store.objects if "(conflict " in key]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where it happens, and to whom."""

    world: World
    accident: Accident
    anna: Machine
    bert: Machine


@asynccontextmanager
async def _two(
    seed: int, traits: Traits, accident: Accident, lateness: float
) -> AsyncIterator[_Place]:
    """anna and bert, and an accident of her machine; all is judged in the end."""
    world = new_world(seed, traits)

    def fate_of(machine: Machine, request: Request) -> Fate:
        return accident.fate_of(request) if machine.name == "ws1" else Fate.FINE

    async with trio.open_nursery() as late:
        anna = world.add_machine("ws1", "anna", late, fate_of)
        bert = world.add_machine("ws2", "bert", late, fate_of)
        anna.lateness = (lateness,)
        yield _Place(world, accident, anna, bert)
        await come_to_rest(world)
        late.cancel_scope.cancel()
    assert accident.happened.is_set(), "nothing happened"
    check_everything(world)


async def _take_over(here: _Place, story: Story) -> None:
    await here.accident.happened.wait()
    await here.world.visit_somehow(here.bert, story, is_forceful=True)


async def _write(visit: Visit) -> None:
    visit.editor.write(NAME, visit.editor.fresh())


async def _write_another(visit: Visit) -> None:
    visit.editor.write(Path("c.dwg"), visit.editor.fresh())


async def _delete(visit: Visit) -> None:
    if visit.editor.exists(NAME):
        visit.editor.delete(NAME)
