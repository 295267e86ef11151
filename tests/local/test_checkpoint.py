"""Checkpoints while the work goes on: whatever crashes when, the tree is the same (C3, C4)."""

import errno
import os
import random
import re
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import pytest
import trio

from pdfs.core.intervals import NOWHERE
from pdfs.disk import OsDisk
from pdfs.errors import DiskError, JournalFailed, PdfsError
from pdfs.local import checkpoint
from pdfs.local.checkpoint import Checkpoint, Interrupted, Order, make_checkpoint
from pdfs.local.checkpoint_process import run_checkpoint_process
from pdfs.local.journal_inspection import verify_file, verify_journal
from pdfs.local.sizes import JournalSizes
from pdfs.local.snapshot import is_next_snapshot
from pdfs.local.upkeep import Make, Upkeep
from tests.conftest import Reached
from tests.lengths import Length
from tests.local.crashing_disk import CrashingDisk, Event, Moved, PowerCuts, materialize
from tests.local.desk import (
    Desk,
    Left,
    Memory,
    Opened,
    files_in,
    left_in,
    opened_session,
    seen,
)
from tests.local.faulty_disk import Fault, FaultyDisk
from tests.local.journals import HEADER, SESSION
from tests.local.ledgers import create, inline, made_here, write

SIZES = JournalSizes(segment=16 << 10, growth=1 << 10, reserve=1 << 10, garbage=16 << 10)


def upkeep_of(
    opened: Opened,
    disk: OsDisk,
    *,
    make: Make | None = None,
    told: list[PdfsError] | None = None,
) -> Upkeep:
    return Upkeep(
        opened.ledger,
        opened.journal,
        make=make or made_here(disk, opened.directory.descriptor),
        run_blocking=inline,
        tell=(told if told is not None else []).append,
    )


def damage(file: Path, held: bytes) -> None:
    """Flip a bit in the bytes `held`, which are somewhere in the file."""
    raw = bytearray(file.read_bytes())
    raw[raw.index(held)] ^= 1
    file.write_bytes(raw)


def steps(desk: Desk, count: int) -> None:
    for _ in range(count):
        desk.step()


async def test_a_checkpoint_changes_nothing_that_can_be_seen_and_old_segments_go(
    tmp_path: Path, seed: int, is_full: bool
) -> None:
    memory, disk = Memory(), OsDisk()
    with opened_session(tmp_path, disk, sizes=SIZES) as opened:
        desk = Desk(opened.ledger, random.Random(seed), memory, largest=5000)
        upkeep = upkeep_of(opened, disk)
        for number in range(80 if is_full else 40):
            steps(desk, 5 + number % 40)
            await upkeep.checkpoint()
            assert seen(opened, memory) == memory.history[opened.ledger.last]
            numbers = [name for name in files_in(tmp_path) if name.endswith(".wal")]
            assert len(numbers) < 8
        if opened.ledger.tree.in_flight is not None:
            desk.settle()
        desk.create("kept")
        desk.write("kept", 0, size=9000)
        await upkeep.checkpoint()
        assert seen(opened, memory) == memory.history[opened.ledger.last]
        stays = [name for name in files_in(tmp_path) if re.fullmatch(r"journal-\d+\.wal", name)]
        assert stays, "the segment that is mostly live is to stay"
        last = opened.ledger.last
    left = left_in(tmp_path, memory.bucket)
    assert left is not None
    assert (left.last, left.shown) == (last, memory.history[last])


async def test_what_was_written_since_a_publish_began_is_still_later_than_it(
    tmp_path: Path, seed: int
) -> None:
    """Though its segment is live enough to stay, and what the publish includes is copied above."""
    memory, disk = Memory(), OsDisk()
    with opened_session(tmp_path, disk, sizes=SIZES) as opened:
        desk = Desk(opened.ledger, random.Random(seed), memory, largest=5000)
        desk.create("a")
        for _ in range(30):
            desk.write("a", 0)
        desk.create("b")
        desk.publish()
        opened.journal.roll()
        for number in range(4):
            desk.write("b", 5000 * number)
        await upkeep_of(opened, disk).checkpoint()
        desk.settle()
        assert seen(opened, memory) == memory.history[opened.ledger.last]
        last = opened.ledger.last
    left = left_in(tmp_path, memory.bucket)
    assert left is not None
    assert left.shown == memory.history[last]


async def test_live_extents_are_few_after_a_checkpoint(tmp_path: Path, seed: int) -> None:
    memory, disk, choice = Memory(), OsDisk(), random.Random(seed)
    with opened_session(tmp_path, disk, sizes=SIZES) as opened:
        desk = Desk(opened.ledger, choice, memory)
        desk.create("a")
        for _ in range(300):
            desk.write("a")
        node = opened.ledger.tree.nodes[desk.ino("a")]
        before = len(node.extents)
        await upkeep_of(opened, disk).checkpoint()
        assert len(node.extents) == 1 < before
        assert seen(opened, memory) == memory.history[opened.ledger.last]


async def test_a_session_that_writes_in_place_needs_disk_for_what_counts(
    tmp_path: Path, is_full: bool
) -> None:
    """100 MB over 1 MB, 200 MB in full: as much is there as starts a checkpoint, and no more."""
    count = 3200 if is_full else 1600
    sizes = JournalSizes(segment=512 << 10, growth=64 << 10, reserve=64 << 10, garbage=2 << 20)
    memory, disk, peak = Memory(), OsDisk(), 0
    with opened_session(tmp_path, disk, sizes=sizes) as opened:
        ledger, upkeep = opened.ledger, upkeep_of(opened, disk)
        ino = create(ledger, "model.db")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upkeep.run)
            for number in range(count):
                write(ledger, ino, number % 16 << 16, bytes([number % 251]) * (64 << 10))
                await trio.testing.wait_all_tasks_blocked()
                if number % 16 == 0:
                    peak = max(peak, used(tmp_path))
            nursery.cancel_scope.cancel()
    assert peak < 5 << 20, f"{peak} bytes for 1 MiB"
    left = left_in(tmp_path, memory.bucket)
    assert left is not None
    assert left.shown["model.db"][1] == b"".join(
        bytes([number % 251]) * (64 << 10) for number in range(count - 16, count)
    )


def used(root: Path) -> int:
    """Bytes on the disk."""
    return sum(path.stat().st_blocks * 512 for path in root.rglob("*"))


async def test_what_a_publish_reads_is_there_though_its_segment_is_gone(tmp_path: Path) -> None:
    disk = OsDisk()
    with opened_session(tmp_path, disk, sizes=SIZES) as opened:
        desk = Desk(opened.ledger, random.Random(1), Memory())
        desk.create("a")
        desk.write("a", 0)
        node, data = opened.ledger.tree.nodes[desk.ino("a")].frozen(), desk.model["a"][1]
        before = len(os.listdir("/proc/self/fd"))
        with opened.ledger.pinned():
            desk.cut("a", 0)
            await upkeep_of(opened, disk).checkpoint()
            assert "journal-1.wal" not in files_in(tmp_path)
            assert await opened.ledger.read(node, 0, len(data)) == data
        assert len(os.listdir("/proc/self/fd")) <= before + 1
        with pytest.raises(DiskError):
            await opened.ledger.read(node, 0, len(data))


# Requests, crashes and power cuts in between


@dataclass(slots=True)
class Worker:
    """Works at a desk beside a checkpoint, and notes what it was promised."""

    opened: Opened
    desk: Desk
    disk: CrashingDisk
    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    """(events on the disk, last record that was acknowledged by then)."""
    synced: list[tuple[int, int]] = field(default_factory=list)

    async def work(self, count: int) -> None:
        for _ in range(count):
            self.desk.step()
            self.note()
            await trio.lowlevel.checkpoint()
            if self.desk.choice.random() < 0.1:
                await self.opened.ledger.sync()
                self.note()

    def note(self) -> None:
        self.acknowledged.append((len(self.disk.log), self.opened.ledger.last))
        self.synced.append((len(self.disk.log), self.opened.journal.synced_sequence))


def promised(notes: list[tuple[int, int]], events: int) -> int:
    return max((sequence for when, sequence in notes if when <= events), default=0)


async def a_session_with_checkpoints(root: Path, seed: int) -> tuple[Worker, Memory, int]:
    """The work, what is known of it, and how many events there were before it began."""
    disk, memory = CrashingDisk(root), Memory()
    with opened_session(root, disk, sizes=SIZES) as opened:
        begun = len(disk.log)
        worker = Worker(opened, Desk(opened.ledger, random.Random(seed), memory), disk)
        upkeep = upkeep_of(opened, disk)
        await worker.work(15)
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.work, 12)
                nursery.start_soon(upkeep.checkpoint)
        await worker.work(4)
        assert seen(opened, memory) == memory.history[opened.ledger.last]
    return worker, memory, begun


def _is_commit(event: Event) -> bool:
    return isinstance(event, Moved) and event.new == "snapshot" and is_next_snapshot(event.old)


def check(left: Left | None, memory: Memory, at_least: int, where: object) -> None:
    if left is None:
        assert at_least == 0, where
        return
    assert not left.recovered.damage, where
    assert left.last >= at_least, where
    assert left.shown == memory.history[left.last], where


@pytest.mark.figure(name="C4")
async def test_a_crash_or_a_power_cut_at_any_step_of_a_checkpoint_loses_nothing(
    tmp_path: Path, seed: int, length: Length, reached: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdfs.core.relocation._SLICE", 2)
    checked = both = 0
    for number in range(length.pick(sample=2, full=20, long=100)):
        root, cut_down = tmp_path / str(number), tmp_path / "cut"
        root.mkdir()
        worker, memory, begun = await a_session_with_checkpoints(root, seed + number)
        first: dict[int, bool] = {}
        cuts = PowerCuts(worker.disk, seed + number, tears=3)
        commits = [n for n, event in enumerate(worker.disk.log) if _is_commit(event)]
        assert len(commits) >= 2
        for cut, state in chain(
            cuts.states(per_cut=length.pick(sample=3, full=40, long=40), since=begun),
            *(cuts.states(per_cut=50, since=at + 1, until=at + 1) for at in commits[-2:]),
        ):
            materialize(state, cut_down)
            left = left_in(cut_down, memory.bucket)
            check(left, memory, promised(worker.synced, cut), (number, cut))
            if first.setdefault(cut, True):  # nothing is missing: the process died, no more
                first[cut] = False
                check(left, memory, promised(worker.acknowledged, cut), (number, cut))
            names = os.listdir(cut_down / "sessions" / SESSION)
            both += any(map(is_next_snapshot, names))
            checked += 1
    reached(checked, "power cuts beside a checkpoint")
    assert checked > 300
    assert both > 5, "no cut fell between a snapshot and its rename"


async def test_recovery_that_dies_at_any_call_is_as_if_it_had_not_begun(
    tmp_path: Path, seed: int
) -> None:
    """Three deep: each of them begins with what the one before it left."""
    root = tmp_path / "root"
    root.mkdir()
    worker, memory, _ = await a_session_with_checkpoints(root, seed)
    last = worker.opened.ledger.last
    choice = random.Random(seed)

    class Killed(BaseException):
        pass

    class DyingDisk(FaultyDisk):
        def _is_due(self, call: str) -> bool:
            if super()._is_due(call):
                raise Killed
            return False

    def died(at: int) -> bool:
        with suppress(Killed), opened_session(root, DyingDisk(Fault(at=at)), fence=9):
            return False
        return True

    tries = 0
    for _ in range(40):
        for _ in range(3):
            tries += died(choice.randrange(1, 45))
            left = left_in(root, memory.bucket)
            assert left is not None
            assert left.shown == memory.history[last]
            assert not left.recovered.damage
    assert tries > 60


async def test_a_power_cut_at_any_step_of_a_recovery_loses_nothing(
    tmp_path: Path, seed: int, is_full: bool
) -> None:
    root, cut_down = tmp_path / "root", tmp_path / "cut"
    root.mkdir()
    worker, memory, _ = await a_session_with_checkpoints(root, seed)
    last = worker.opened.ledger.last
    disk = CrashingDisk(root)
    begun = len(disk.log)
    with opened_session(root, disk, fence=9) as opened:
        assert seen(opened, memory) == memory.history[last]
    checked = 0
    for cut, state in PowerCuts(disk, seed).states(per_cut=None if is_full else 9, since=begun):
        materialize(state, cut_down)
        left = left_in(cut_down, memory.bucket)
        assert left is not None
        assert not left.recovered.damage
        assert left.shown == memory.history[last], cut
        checked += 1
    operations = len(disk.log) - begun
    assert operations > 15, "there was next to nothing to recover"
    assert checked > 2 * operations


# Failures


async def test_a_checkpoint_that_fails_at_any_call_changes_nothing_and_the_next_one_works(
    tmp_path: Path, seed: int
) -> None:
    calls = 0
    for at in range(1, 60):
        root = tmp_path / str(at)
        root.mkdir()
        memory, disk = Memory(), FaultyDisk()
        with opened_session(root, disk, sizes=SIZES) as opened:
            desk = Desk(opened.ledger, random.Random(seed), memory)
            upkeep = upkeep_of(opened, disk)
            steps(desk, 40)
            disk.fault = Fault(at=at, error=errno.ENOSPC)
            try:
                await upkeep.checkpoint()
            except JournalFailed:
                assert disk.made[-1] in ("fsync", "fdatasync") or "sync" in "".join(disk.made)
            except DiskError:
                assert seen(opened, memory) == memory.history[opened.ledger.last]
                await upkeep.checkpoint()
                steps(desk, 10)
            assert seen(opened, memory) == memory.history[opened.ledger.last]
            calls += disk.failed
        left = left_in(root, memory.bucket)
        assert left is not None
        assert left.shown == memory.history[left.last]
        assert not left.recovered.damage
        if not disk.failed:
            break
    assert calls > 15
    assert calls < 59, "the fault never came behind the end"


async def test_a_checkpoint_is_not_made_of_a_damaged_journal(tmp_path: Path, seed: int) -> None:
    memory, disk = Memory(), OsDisk()
    with opened_session(tmp_path, disk, sizes=SIZES) as opened:
        desk = Desk(opened.ledger, random.Random(seed), memory)
        steps(desk, 50)

        async def make(order: Order) -> Checkpoint:
            await trio.lowlevel.checkpoint()
            file = tmp_path / "sessions" / SESSION / "journal-1.wal"
            raw = bytearray(file.read_bytes())
            raw[5000] ^= 1
            file.write_bytes(raw)
            return make_checkpoint(disk, opened.directory.descriptor, order)

        with pytest.raises(PdfsError, match="damaged from byte"):
            await upkeep_of(opened, disk, make=make).checkpoint()
        assert not any(map(is_next_snapshot, files_in(tmp_path)))
        assert not any(name.startswith("carried") for name in files_in(tmp_path))


async def test_what_a_checkpoint_carried_is_checked_before_it_is_carried_again(
    tmp_path: Path, seed: int
) -> None:
    memory, disk = Memory(), OsDisk()
    with opened_session(tmp_path, disk, sizes=SIZES) as opened:
        desk = Desk(opened.ledger, random.Random(seed), memory)
        upkeep = upkeep_of(opened, disk)
        desk.create("a")
        for _ in range(20):
            desk.write("a", 0, size=400)
        await upkeep.checkpoint()
        (carried,) = (tmp_path / "sessions" / SESSION).glob("carried-*")
        damage(carried, desk.model["a"][1][:16])
        desk.cut("a", 30)  # most of it is dead: the rest is to be copied
        with pytest.raises(PdfsError, match="bytes of files are lost in segment"):
            await upkeep.checkpoint()
    left = left_in(tmp_path, memory.bucket)
    assert left is not None
    assert "bytes of files are lost in segment" in left.recovered.damage


@pytest.mark.parametrize("offset", [0, 100], ids=["before the publish", "since"])
async def test_bytes_that_are_lost_come_back_from_a_publish_that_has_them_and_no_other(
    tmp_path: Path, seed: int, offset: int
) -> None:
    memory, disk = Memory(), OsDisk()
    with opened_session(tmp_path, disk, sizes=SIZES) as opened:
        desk = Desk(opened.ledger, random.Random(seed), memory)
        desk.create("a")
        desk.write("a", 0, size=400)
        desk.publish()
        desk.write("a", 100, size=50)
        await upkeep_of(opened, disk).checkpoint()
        (carried,) = (tmp_path / "sessions" / SESSION).glob("carried-*")
        damage(carried, desk.model["a"][1][offset : offset + 16])
    with opened_session(tmp_path, disk, sizes=SIZES) as opened:
        assert opened.recovered is not None
        assert "bytes of files are lost" in opened.recovered.damage
        desk.ledger = opened.ledger
        desk.settle()
        node = opened.ledger.tree.nodes[desk.ino("a")]
        lost = [extent for extent in node.extents if extent.at.segment == NOWHERE.segment]
        assert [(each.start, each.stop) for each in lost] == ([(100, 150)] if offset else [])


# The process


@pytest.mark.real_clock
async def test_a_process_makes_checkpoints_while_requests_go_on(tmp_path: Path, seed: int) -> None:
    memory, disk = Memory(), OsDisk()
    with opened_session(tmp_path, disk, sizes=SIZES) as opened:
        desk = Desk(opened.ledger, random.Random(seed), memory)
        directory = opened.directory.descriptor

        async def make(order: Order) -> Checkpoint:
            return await run_checkpoint_process(directory, order)

        upkeep = upkeep_of(opened, disk, make=make)
        is_made = False

        async def work_on() -> None:
            while not is_made:
                desk.step()
                await trio.sleep(0.001)

        for _ in range(2):
            steps(desk, 100)
            is_made = False
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work_on)
                before = opened.ledger.last
                await upkeep.checkpoint()
                is_made = True
                assert opened.ledger.last > before + 10, "requests had to wait"
            assert seen(opened, memory) == memory.history[opened.ledger.last]
        last = opened.ledger.last
    left = left_in(tmp_path, memory.bucket)
    assert left is not None
    assert left.shown == memory.history[last]


@pytest.mark.real_clock
async def test_a_process_that_is_killed_leaves_the_session_as_it_was(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, disk = Memory(), OsDisk()
    killed = ("sh", "-c", "cat > /dev/null; echo nothing made >&2; kill -9 $$")
    monkeypatch.setattr("pdfs.local.checkpoint_process._COMMAND", killed)
    with opened_session(tmp_path, disk, sizes=SIZES) as opened:
        steps(Desk(opened.ledger, random.Random(seed), memory), 50)

        async def make(order: Order) -> Checkpoint:
            return await run_checkpoint_process(opened.directory.descriptor, order)

        with pytest.raises(DiskError, match="could not be made: nothing made"):
            await upkeep_of(opened, disk, make=make).checkpoint()
        assert seen(opened, memory) == memory.history[opened.ledger.last]
        assert not any(name.startswith(("carried", "snapshot.")) for name in files_in(tmp_path))


def test_a_process_whose_session_is_gone_writes_no_more(tmp_path: Path, seed: int) -> None:
    memory, disk = Memory(), OsDisk()
    with opened_session(tmp_path, disk, sizes=SIZES) as opened:
        steps(Desk(opened.ledger, random.Random(seed), memory), 50)
        opened.journal.roll()
        opened.journal.sync()
        opened.journal.seal()
        order = Order(header=HEADER, last=1, after=opened.ledger.last)
        with pytest.raises(Interrupted):
            make_checkpoint(disk, opened.directory.descriptor, order, is_wanted=lambda: False)
    assert not any(map(is_next_snapshot, files_in(tmp_path)))


async def test_a_process_of_a_dead_daemon_that_wakes_late_replaces_no_later_checkpoint(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, disk, chance = Memory(), OsDisk(), random.Random(seed)
    stopped: list[tuple[OsDisk, int, Order, bytes]] = []

    def stop(disk: OsDisk, directory: int, order: Order, content: bytes) -> None:
        stopped.append((disk, directory, order, content))

    with opened_session(tmp_path, disk, sizes=SIZES) as opened:
        desk = Desk(opened.ledger, chance, memory)
        desk.create("a")
        desk.write("a")
        opened.journal.roll()
        opened.journal.sync()
        opened.journal.seal()
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "_write_next", stop)
            order = Order(header=HEADER, last=1, after=opened.ledger.last)
            make_checkpoint(disk, opened.directory.descriptor, order)
        opened.journal.abandon()
    with opened_session(tmp_path, disk, sizes=SIZES) as opened:
        desk.ledger = opened.ledger
        desk.write("a")

        async def make(order: Order) -> Checkpoint:
            await trio.lowlevel.checkpoint()
            made = make_checkpoint(disk, opened.directory.descriptor, order)
            ((_, _, old, content),) = stopped
            checkpoint._write_next(disk, opened.directory.descriptor, old, content)
            return made

        await upkeep_of(opened, disk, make=make).checkpoint()
        last = opened.ledger.last
    left = left_in(tmp_path, memory.bucket)
    assert left is not None
    assert not left.recovered.damage
    assert left.shown == memory.history[last]


async def test_what_was_carried_is_looked_at_by_who_verifies_the_journal(
    tmp_path: Path, seed: int
) -> None:
    disk = OsDisk()
    with opened_session(tmp_path, disk, sizes=SIZES) as opened:
        desk = Desk(opened.ledger, random.Random(seed), Memory())
        desk.create("a")
        for offset in (0, 1000, 5000):
            desk.write("a", offset, size=300)
        await upkeep_of(opened, disk).checkpoint()
        desk.write("a", 0)
        directory = opened.directory.descriptor
        (carried,) = (tmp_path / "sessions" / SESSION).glob("carried-*")
        verdict = verify_file(disk, directory, carried.name, SESSION)
        assert (verdict.records, verdict.is_whole, verdict.is_damaged) == (3, True, False)
        assert not verify_journal(disk, directory, SESSION).is_damaged
        damage(carried, desk.model["a"][1][5000:5016])
        assert verify_file(disk, directory, carried.name, SESSION).is_damaged
        assert "bytes of files are lost" in verify_journal(disk, directory, SESSION).problem
