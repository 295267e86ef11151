"""What kills between any two requests leave: nothing but leftovers, which a repair removes."""

import pytest
import trio

from pdfs.core.finding import Level
from pdfs.core.ids import Path
from pdfs.stage.check import look_at
from pdfs.store.faulty import Fate, Request
from pdfs.store.objects import Traits
from tests.conftest import Reached
from tests.lengths import Length
from tests.simulation.machine import Machine
from tests.simulation.world import AWS, POOR, R2, Visit, idle
from tests.stage.stages import BIG, OTHER, SMALL, Stage, published


def edit(visit: Visit) -> None:
    """Something of everything that a publish can be about."""
    editor = visit.editor
    editor.write(SMALL, b"drawn anew")
    editor.write(BIG, bytes(range(200)) * 5)
    editor.write(Path("new/model.bin"), bytes(range(251)) * 4)
    editor.delete(OTHER)


async def killed_at(stage: Stage, number: int, fate: Fate) -> bool:
    """A session whose process dies at that request; whether it came so far."""
    left = number

    def fate_of(machine: Machine, request: Request) -> Fate:
        nonlocal left
        left -= 1
        return fate if left == 0 else Fate.FINE

    stage.fate.append(fate_of)
    await stage.edit(edit)
    stage.fate.clear()
    return left <= 0


@pytest.mark.figure(name="S5")
@pytest.mark.parametrize("traits", [AWS, R2, POOR], ids=["aws", "r2", "poor"])
async def test_a_kill_between_any_two_requests_leaves_only_what_a_repair_removes(
    traits: Traits, seed: int, length: Length, reached: Reached
) -> None:
    stride = length.pick(sample=8, full=1, long=1)
    number, kills = 1 + seed % stride, 0
    while True:
        fate = (Fate.CRASH_BEFORE, Fate.CRASH_AFTER)[kills % 2]
        async with trio.open_nursery() as nursery:
            stage = await published(nursery, traits)
            was_killed = await killed_at(stage, number, fate)
            await check_left(stage)
            nursery.cancel_scope.cancel()
        if not was_killed:
            break
        number, kills = number + stride, kills + 1
    assert kills, "nobody was killed: nothing was tested"
    reached(kills, "kills")


async def check_left(stage: Stage) -> None:
    """The killed session is resumed; then a repair leaves what somebody needs, and nothing else."""
    levels = {each.level for each in await stage.check()}
    assert Level.DAMAGE not in levels
    if stage.anna.crashed:
        await stage.world.visit(stage.anna, idle, resume=stage.anna.crashed[0])
    found = await stage.check()
    assert {each.level for each in found} <= {Level.LEFTOVER}, found
    await stage.repair_all()
    assert not await stage.check()
    assert not stage.world.store._uploads
    look = await look_at(stage.context())
    assert not [each for each in look.objects if each not in look.named]
