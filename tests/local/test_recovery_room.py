"""Recovery leaves in place what is on the disk for certain, copies the rest, needs room for it."""

import errno
import os
import random
from pathlib import Path

import pytest

from pdfs.core.tree import Tree
from pdfs.errors import DiskFull, JournalFailed
from pdfs.local.carrying import live_bytes
from tests.local.crashing_disk import CrashingDisk, PowerCuts, Wrote, materialize
from tests.local.desk import Desk, Memory, Opened, files_in, left_in, opened_session, seen
from tests.local.faulty_disk import Fault
from tests.local.journals import SESSION
from tests.local.ledgers import create

SYNCS = frozenset({"fdatasync", "fsync"})


def roll(opened: Opened) -> None:
    """Let the next segment take the records; those before it are whole."""
    opened.journal.roll()
    opened.journal.sync()
    opened.journal.seal()


def work(opened: Opened, memory: Memory, seed: int, disk: CrashingDisk) -> list[tuple[int, int]]:
    """Operations, syncs and rolls until a sync fails; what was called synced, and when."""
    desk = Desk(opened.ledger, random.Random(seed), memory, largest=6000)
    promises = []
    try:
        for _ in range(60):
            desk.step()
            match desk.choice.randrange(12):
                case 0:
                    roll(opened)
                case 1 | 2:
                    opened.journal.sync()
                case _:
                    pass
            promises.append((len(disk.log), opened.journal.synced_sequence))
    except JournalFailed:
        pass
    return promises


async def test_what_a_failed_sync_left_behind_is_copied_and_what_is_whole_stays(
    tmp_path: Path, seed: int
) -> None:
    """Though the next process reads it all, and a sync of it would succeed now."""
    root, cut_down, memory = tmp_path / "root", tmp_path / "cut", Memory()
    root.mkdir()
    disk = CrashingDisk(root)
    with opened_session(root, disk) as opened:
        desk = Desk(opened.ledger, random.Random(seed), memory)
        desk.create("a")
        desk.write("a", 0, size=20_000)
        roll(opened)
        desk.write("a", 20_000, size=20_000)
        disk.fault = Fault(at=1, error=errno.EIO, calls=SYNCS)
        with pytest.raises(JournalFailed):
            opened.journal.sync()
    disk.fault = None
    found = memory.history[opened.ledger.last]
    with opened_session(root, disk, fence=9) as opened:
        assert live_bytes(opened.ledger.tree) == {1: 20_000, 4: 20_000}
    end = len(disk.log)
    for _, state in PowerCuts(disk, seed).states(since=end, until=end):
        materialize(state, cut_down)
        left = left_in(cut_down, memory.bucket)
        assert left is not None
        assert not left.recovered.damage
        assert left.shown == found


async def test_a_power_cut_amid_the_recovery_after_a_failed_sync_leaves_what_was_promised(
    tmp_path: Path, seed: int, is_full: bool
) -> None:
    """What it should have brought to the disk may never get there, whatever later syncs say."""
    cut_down, checked = tmp_path / "cut", 0
    for number in range(seed, seed + (40 if is_full else 1)):
        root, memory = tmp_path / str(number), Memory()
        root.mkdir()
        disk = CrashingDisk(root)
        with opened_session(root, disk) as opened:
            disk.fault = Fault(at=2 + 3 * (number % 10), error=errno.EIO, calls=SYNCS)
            promises = work(opened, memory, number, disk)
        disk.fault = None
        before = left_in(root, memory.bucket)
        assert before is not None
        begun = len(disk.log)
        with opened_session(root, disk, fence=9) as opened:
            assert seen(opened, memory) == memory.history[before.last] == before.shown
        memory.history[opened.ledger.last] = before.shown  # numbers that nobody saw are passed over
        cuts = PowerCuts(disk, number, tears=2)
        for cut, state in cuts.states(per_cut=20 if is_full else 4, since=begun):
            materialize(state, cut_down)
            left = left_in(cut_down, memory.bucket)
            assert left is not None
            assert not left.recovered.damage, (number, cut)
            assert left.shown == memory.history[left.last], (number, cut)
            least = max((last for when, last in promises if when <= cut), default=0)
            assert left.last >= (before.last if cut == len(disk.log) else least), (number, cut)
            checked += 1
    assert checked > 30


async def test_a_recovery_writes_what_may_not_be_on_the_disk_and_no_more(tmp_path: Path) -> None:
    memory, disk = Memory(), CrashingDisk(tmp_path)
    with opened_session(tmp_path, disk) as opened:
        desk = Desk(opened.ledger, random.Random(1), memory)
        for number in range(20):
            desk.create(f"{number}")
            desk.write(f"{number}", 0, size=50_000)
            if number < 19:
                roll(opened)
        last = opened.ledger.last
    begun = len(disk.log)
    with opened_session(tmp_path, disk, fence=9) as opened:
        assert seen(opened, memory) == memory.history[last]
        assert set(live_bytes(opened.ledger.tree)) == {*range(1, 39, 2), 40}
    written = sum(len(event.content) for event in disk.log[begun:] if isinstance(event, Wrote))
    assert 50_000 < written < 80_000
    assert "journal-39.wal.__partial__" not in files_in(tmp_path)


async def test_what_a_publish_includes_stays_before_what_came_after_it(tmp_path: Path) -> None:
    """Some segments of either stay, or are copied; the settle drops the right ones."""
    for rolls in range(8):
        root, memory = tmp_path / str(rolls), Memory()
        with opened_session(root) as opened:
            desk = Desk(opened.ledger, random.Random(rolls), memory)
            for number in range(3):
                desk.create(f"{number}")
                desk.write(f"{number}", 0, size=30_000)
                if rolls & 1:
                    roll(opened)
            desk.publish()
            for number in range(1, 3):
                if rolls & 2:
                    roll(opened)
                desk.write(f"{number}", 10_000 * number, size=30_000)
            if rolls & 4:
                roll(opened)
            last = opened.ledger.last
        with opened_session(root, fence=9) as opened:
            memory.history[opened.ledger.last] = memory.history[last]
            desk = Desk(opened.ledger, random.Random(0), memory, changed=set())
            desk.changed = {desk.ino("1"), desk.ino("2")}
            desk.settle()
            assert seen(opened, memory) == memory.history[opened.ledger.last]
            assert [length for length in lengths(opened.ledger.tree) if length] == [30_000, 30_000]


def lengths(tree: Tree) -> list[int]:
    return [node.extents.total for node in tree.nodes.values()]


async def test_a_damaged_session_is_copied_as_a_whole_and_its_segments_are_kept(
    tmp_path: Path,
) -> None:
    with opened_session(tmp_path) as opened:
        desk = Desk(opened.ledger, random.Random(1), Memory())
        desk.create("a")
        desk.write("a", 0, size=5000)
        roll(opened)
        desk.write("a", 5000, size=5000)
        roll(opened)
    file = tmp_path / "sessions" / SESSION / "journal-3.wal"
    raw = bytearray(file.read_bytes())
    raw[-3000] ^= 1
    file.write_bytes(raw)
    with opened_session(tmp_path, fence=9) as opened:
        assert set(live_bytes(opened.ledger.tree)) == {6}
    names = files_in(tmp_path)
    assert [name for name in names if name.startswith("journal-")] == ["journal-7.wal.__partial__"]
    assert "journal-3.wal" in os.listdir(tmp_path / "sessions" / SESSION / "damaged")


async def test_a_recovery_that_has_no_room_says_how_much_it_needs_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()
    with opened_session(tmp_path) as opened:
        desk = Desk(opened.ledger, random.Random(1), memory)
        desk.create("a")
        desk.write("a", 0, size=3 << 20)
        roll(opened)
        desk.write("a", 3 << 20, size=2 << 20)
        last = opened.ledger.last
    before = files_in(tmp_path)
    monkeypatch.setattr("pdfs.local.recovery.free_bytes", lambda directory: 1 << 20)
    with pytest.raises(DiskFull) as refused, opened_session(tmp_path, fence=9):
        pass
    assert "2.0 MiB must be written" in str(refused.value)
    assert "1.0 MiB are free" in str(refused.value)
    assert f"pdfs recover rescue {SESSION} DIR" in refused.value.remedy
    assert files_in(tmp_path) == before
    left = left_in(tmp_path, memory.bucket)
    assert left is not None
    assert left.shown == memory.history[last]


async def test_what_came_after_a_publish_began_needs_room_though_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is copied behind what the publish includes; so is what may not be on the disk."""
    memory = Memory()
    with opened_session(tmp_path) as opened:
        desk = Desk(opened.ledger, random.Random(1), memory)
        desk.create("a")
        desk.write("a", 0, size=20_000)
        roll(opened)
        desk.publish()
        desk.write("a", 20_000, size=3 << 20)
        roll(opened)
        desk.create("b")
        desk.write("b", 0, size=2 << 20)
    before = files_in(tmp_path)
    monkeypatch.setattr("pdfs.local.recovery.free_bytes", lambda directory: 4 << 20)
    wanted = r"5.0 MiB must be written"
    with pytest.raises(DiskFull, match=wanted), opened_session(tmp_path, fence=9):
        pass
    assert files_in(tmp_path) == before
    monkeypatch.setattr("pdfs.local.recovery.free_bytes", lambda directory: 6 << 20)
    with opened_session(tmp_path, fence=9) as opened:
        assert live_bytes(opened.ledger.tree).keys() == {1, 6}


async def test_the_new_snapshot_needs_room_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """There is nothing to be copied, but many names."""
    choice = random.Random(seed)
    with opened_session(tmp_path) as opened:
        for _ in range(2000):
            create(opened.ledger, choice.randbytes(120).hex())
    monkeypatch.setattr("pdfs.local.recovery.free_bytes", lambda directory: 200_000)
    wanted = r"0.[34] MiB must be written in .*, and 0.2 MiB are free"
    with pytest.raises(DiskFull, match=wanted), opened_session(tmp_path, fence=9):
        pass
    monkeypatch.setattr("pdfs.local.recovery.free_bytes", lambda directory: 500_000)
    with opened_session(tmp_path, fence=9) as opened:
        assert len(opened.ledger.tree.nodes) == 2001


async def test_damage_that_an_earlier_recovery_found_costs_the_next_no_room(
    tmp_path: Path,
) -> None:
    """What that one copied is whole, and stays."""
    with opened_session(tmp_path) as opened:
        desk = Desk(opened.ledger, random.Random(1), Memory())
        desk.create("a")
        desk.write("a", 0, size=5000)
        opened.directory.note_damage()
        roll(opened)
    for fence in (9, 10):
        with opened_session(tmp_path, fence=fence) as opened:
            assert live_bytes(opened.ledger.tree).keys() == {1}
