"""Whole sessions through sequences of events that once lost something; each found by reading."""

from dataclasses import replace

import pytest
import trio

from pdfs.core import root as core_root
from pdfs.core.ids import Path
from pdfs.errors import DamageFound, UnpublishedWork
from pdfs.store.faulty import Fate, Request
from pdfs.store.step import Step
from tests.simulation.machine import Machine
from tests.simulation.oracle_garbage import check_garbage
from tests.simulation.oracle_roots import check_roots
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


@pytest.mark.parametrize("batch", [1, 2], ids=["before-trees", "before-contents"])
async def test_what_a_session_that_comes_back_stands_on_is_not_collected_under_it(
    seed: int, batch: int
) -> None:
    """bert's machine stands still amid a collect; anna, who had given her session up, resumes it.

    What she stands on is about to go: either it stays, and she publishes; or its tree is gone by
    then, so that she learns of it, and publishes nothing that rests on what follows.
    """
    world = new_world(seed, AWS)
    checks, frozen, fates = -1000, trio.Event(), {Step.COMMIT_ROOT: Fate.CRASH_BEFORE}

    def fate_of(machine: Machine, request: Request) -> Fate:
        nonlocal checks
        if machine.name == "ws1":
            return fates.pop(request.step, Fate.FINE) if request.step else Fate.FINE
        if request.step is Step.COLLECT_CHECK_ROOT and not frozen.is_set():
            checks += 1
            if checks == batch:
                frozen.set()
                return Fate.FROZEN
        return Fate.FINE

    async def draw_all(visit: Visit) -> None:
        visit.process.session.collects_all = True  # as a repair does: no time limit ends it
        for number in range(3):
            visit.editor.write(Path(f"{number}.dwg"), visit.editor.fresh(50))
        await trio.lowlevel.checkpoint()

    async def rename(visit: Visit) -> None:
        await visit.editor.rename(Path("1.dwg"), Path("renamed.dwg"))

    async def stay(visit: Visit) -> None:
        await trio.sleep(9000.0)

    async with trio.open_nursery() as late:
        anna = world.add_machine("ws1", "anna", late, fate_of)
        bert = world.add_machine("ws2", "bert", late, fate_of)
        bert.lateness = (7200.0,)
        assert await world.visit(bert, draw_all)
        assert not await world.visit(anna, rename)
        (crashed,) = anna.crashed
        await discard(world)
        await world.visit_somehow(bert, draw_all, is_forceful=True)
        await trio.sleep(9 * 86400.0)
        checks = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.visit, bert, draw_all)
            await frozen.wait()
            await trio.sleep(60.0)
            if batch == 1:
                assert await world.visit(anna, stay, resume=crashed, take_over=True)
            else:
                with pytest.raises(DamageFound, match="is gone from the bucket"):
                    await world.visit(anna, idle, resume=crashed, take_over=True)
        late.cancel_scope.cancel()
    check_garbage(world)
    check_roots(world)
