"""One session through many lives: random operations against a model, and a crash after each (J5).

In each life the journal rolls, syncs, seals and makes checkpoints beside the work; at its end the
process dies, or the power goes at any moment of it. What the next life begins with is what the
model says, as of a record that was not promised away.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from pdfs.local.sizes import ALONE, JournalSizes
from pdfs.local.upkeep import Upkeep
from tests.conftest import Reached
from tests.lengths import Length
from tests.local.crashing_disk import CrashingDisk, PowerCuts, materialize
from tests.local.desk import Desk, Memory, Opened, left_in, opened_session
from tests.local.ledgers import inline, made_here

SIZES = (
    ALONE,
    JournalSizes(segment=8 << 10, growth=1 << 10, reserve=512, garbage=4 << 10, often=3),
    JournalSizes(segment=24 << 10, growth=2 << 10, reserve=1 << 10, garbage=1 << 40),
)


@dataclass(slots=True)
class Life:
    """What one process was told, and when."""

    disk: CrashingDisk
    begun: int
    """Events before it."""
    found: int
    """The last record that it found."""
    promises: list[tuple[int, int]] = field(default_factory=list)
    """(events on the disk, last record that was synced by then)."""
    last: int = 0
    """Record that was acknowledged."""

    def note(self, opened: Opened) -> None:
        self.promises.append((len(self.disk.log), opened.journal.synced_sequence))
        self.last = opened.ledger.last

    def promised(self, events: int) -> int:
        return max((number for when, number in self.promises if when <= events), default=self.found)


async def live(root: Path, memory: Memory, choice: random.Random, number: int, count: int) -> Life:
    """One process, from its recovery to where it dies."""
    disk = CrashingDisk(root)
    life = Life(disk, len(disk.log), 0)
    with opened_session(root, disk, sizes=choice.choice(SIZES), fence=number + 1) as opened:
        if opened.recovered is not None:
            life.found = opened.recovered.end.last_sequence
            memory.history[opened.ledger.last] = memory.history[opened.recovered.end.last_sequence]
        desk = Desk(opened.ledger, choice, memory)
        upkeep = Upkeep(
            opened.ledger,
            opened.journal,
            make=made_here(disk, opened.directory.descriptor),
            run_blocking=inline,
            tell=lambda error: None,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upkeep.run)
            for _ in range(count):
                desk.step()
                life.note(opened)
                match choice.randrange(40):
                    case 0 | 1 | 2:
                        await opened.ledger.sync()
                        life.note(opened)
                    case 3:
                        nursery.start_soon(upkeep.checkpoint)
                    case 4 | 5 | 6 | 7 | 8 | 9 | 10:
                        await trio.lowlevel.checkpoint()
                    case _:
                        pass
            nursery.cancel_scope.cancel()
        life.note(opened)
        if choice.random() < 0.1:
            opened.journal.close()
    return life


def crash(life: Life, root: Path, choice: random.Random) -> tuple[Path, int]:
    """Where the next life finds its disk, and the least record that it must find there."""
    if choice.random() < 0.4:
        return root, life.last
    cut = choice.randrange(life.begun, len(life.disk.log) + 1)
    states = list(PowerCuts(life.disk, choice.randrange(1 << 30)).states(6, since=cut, until=cut))
    after = root.with_name(f"{root.name}+")
    materialize(choice.choice(states)[1], after)
    return after, life.promised(cut)


@pytest.mark.figure(name="J5")
async def test_every_life_begins_with_what_the_one_before_was_promised(
    tmp_path: Path, seed: int, length: Length, reached: Reached
) -> None:
    sample, full, long = (4, 8, 60), (10, 100, 120), (40, 250, 120)
    sessions, lives, count = length.pick(sample=sample, full=full, long=long)
    operations = cuts = 0
    for number in range(sessions):
        choice, memory = random.Random(seed * 1000 + number), Memory()
        root = tmp_path / str(number)
        root.mkdir()
        has_begun = False
        for depth in range(lives):
            life = await live(root, memory, choice, depth, count)
            operations += count
            at, least = crash(life, root, choice)
            cuts += at != root
            root = at
            left = left_in(root, memory.bucket)
            if left is None:
                assert least == 0, (number, depth)
                assert not has_begun, (number, depth)
                continue
            has_begun = True
            assert not left.recovered.damage, (number, depth)
            assert left.last >= least, (number, depth)
            assert left.shown == memory.history[left.last], (number, depth)
            again = left_in(root, memory.bucket)
            assert again is not None
            assert again.recovered.tree == left.recovered.tree
    reached(operations, "operations through many lives")
    assert operations >= 4 * 8 * 60
    assert cuts > sessions
