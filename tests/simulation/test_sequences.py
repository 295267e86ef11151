"""Whole sessions through sequences of events that once lost something; each found by reading."""

from dataclasses import replace

import pytest
import trio

from pdfs.core import root as core_root
from pdfs.core.ids import Path
from pdfs.errors import UnpublishedWork
from pdfs.store.faulty import Fate, Request
from pdfs.store.step import Step
from tests.simulation.machine import Machine
from tests.simulation.oracle_saved import check_saved
from tests.simulation.world import AWS, Visit, World, idle, new_world

PLAN = Path("plan.dwg")
BYTES = b"drawn by anna, and nobody else has it"


async def draw(visit: Visit) -> None:
    visit.editor.write(PLAN, BYTES)
    await trio.lowlevel.checkpoint()


async def discard(world: World) -> None:
    """All sessions are taken out of the root, as `pdfs recover discard` does it."""
    root = world.root()
    assert root is not None
    body = core_root.encode(replace(root, id="discarded", sessions=()))
    await world.store.put(world.keys.root, body, condition=None)


async def take_away_contents(world: World) -> None:
    """Another tool removes every contents object that PDFS keeps."""
    for key in [key for key in world.store.objects if "/contents/" in key]:
        await world.store.delete(key, condition=None)


def plain(world: World) -> bytes:
    return world.store.objects[world.keys.plain(PLAN)].body


async def test_a_session_that_was_discarded_and_brought_back_is_published(seed: int) -> None:
    world = new_world(seed, AWS)
    fates = {Step.COMMIT_ROOT: Fate.CRASH_BEFORE}

    def fate_of(machine: Machine, request: Request) -> Fate:
        return fates.pop(request.step, Fate.FINE) if request.step else Fate.FINE

    async with trio.open_nursery() as late:
        anna = world.add_machine("ws1", "anna", late, fate_of)
        assert not await world.visit(anna, draw)
        (crashed,) = anna.crashed
        await discard(world)
        assert await world.visit(anna, idle, resume=crashed)
        late.cancel_scope.cancel()
    assert plain(world) == BYTES
    check_saved(world, world.time(), crashed.session)


async def test_a_file_whose_bytes_got_lost_is_published_again_when_its_session_resumes(
    seed: int,
) -> None:
    """Between commit and apply another tool empties the bucket; her machine has the bytes."""
    world = new_world(seed, AWS)

    def fate_of(machine: Machine, request: Request) -> Fate:
        if request.step is Step.APPLY_CHECK_ROOT and not world.calm:
            late.start_soon(take_away_contents, world)
            world.calm = True
        return Fate.FINE

    async with trio.open_nursery() as late:
        anna = world.add_machine("ws1", "anna", late, fate_of)
        with pytest.raises(UnpublishedWork, match=r"'plan\.dwg'"):
            await world.visit(anna, draw)
        assert world.keys.plain(PLAN) not in world.store.objects
        (crashed,) = anna.crashed
        assert await world.visit(anna, idle, resume=crashed)
        late.cancel_scope.cancel()
    assert plain(world) == BYTES
    assert not anna.disks
    check_saved(world, world.time(), crashed.session)


async def test_a_file_that_another_machine_lost_is_published_when_its_session_resumes(
    seed: int,
) -> None:
    """bert finishes anna's plan without her file, and publishes; her machine has its bytes."""
    world = new_world(seed, AWS)
    fates = {Step.COMMIT_ROOT: Fate.CRASH_AFTER}

    def fate_of(machine: Machine, request: Request) -> Fate:
        return fates.pop(request.step, Fate.FINE) if request.step else Fate.FINE

    async def other(visit: Visit) -> None:
        await trio.sleep(200.0)
        visit.editor.write(Path("bert.txt"), b"by bert")

    async with trio.open_nursery() as late:
        anna = world.add_machine("ws1", "anna", late, fate_of)
        bert = world.add_machine("ws2", "bert", late, fate_of)
        assert not await world.visit(anna, draw)
        (crashed,) = anna.crashed
        await take_away_contents(world)
        assert await world.visit(bert, other, take_over=True)
        assert world.keys.plain(PLAN) not in world.store.objects
        assert await world.visit(anna, idle, resume=crashed)
        late.cancel_scope.cancel()
    assert plain(world) == BYTES
    assert not anna.disks
