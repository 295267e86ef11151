"""Recovery: however often and wherever it dies, the next one finds what was acknowledged, once."""

import errno
import os
import random
import shutil
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from pdfs.core.ids import TOP, Inode, PublishId
from pdfs.core.ids import Path as StagePath
from pdfs.core.record import Create, Kind, Publishing, SetAttributes, Unlink, Write
from pdfs.disk import OsDisk
from pdfs.errors import DiskError, DiskFull, JournalDamaged
from pdfs.local.journal_format import encode_header
from pdfs.local.ledger import Ledger
from pdfs.local.recovery import Recovered, recover
from pdfs.local.state import StateDirectory
from tests.conftest import Reached
from tests.fs.sessions import SESSION, empty_tree, inline, ledger_of
from tests.lengths import Length
from tests.local.crashing_disk import CrashingDisk, PowerCuts, materialize
from tests.local.faulty_disk import Fault, FaultyDisk
from tests.local.journals import HEADER

Pread = Callable[[int, int, int], bytes]

BIG = (1 << 20) + 4321
"""More than one piece of what a recovery copies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A session's tree, without where in the journal its bytes lie."""

    files: Mapping[str, bytes]
    orphans: frozenset[Inode]
    edits: int
    publish: str
    included: Mapping[Inode, str]
    """For each byte that was written, whether the publish under way includes it."""


async def seen(ledger: Ledger) -> Seen:
    tree = ledger.tree
    flight = tree.in_flight
    return Seen(
        files={path: await ledger.read(node, 0, node.size) for path, node in tree.walk()},
        orphans=frozenset(tree.orphans),
        edits=tree.edits,
        publish="" if flight is None else flight.record.publish,
        included={
            node.ino: "".join(
                ("-" if flight is None or extent.at >= flight.boundary else "+")
                * (extent.stop - extent.start)
                for extent in node.extents
            )
            for node in tree.nodes.values()
        },
    )


def create(ledger: Ledger, name: str) -> Inode:
    ino = ledger.new_inode()
    ledger.commit(
        Create(parent=TOP, name=name, ino=ino, kind=Kind.FILE, mode=0, uid=0, gid=0, time=0)
    )
    return ino


def write(ledger: Ledger, ino: Inode, offset: int, data: bytes) -> None:
    ledger.commit(Write(ino=ino, offset=offset, time=0), data)


def work(ledger: Ledger) -> None:
    """What a session has done when its process dies amid a publish."""
    chance = random.Random(0)
    a, big, gone = (create(ledger, name) for name in ("a", "big", "gone"))
    write(ledger, a, 0, b"first")
    write(ledger, big, 7, chance.randbytes(BIG))
    write(ledger, gone, 0, b"unlinked while it was open")
    ledger.commit(Unlink(parent=TOP, name="gone", time=0))
    ledger.commit(Publishing(publish=PublishId("000000000001-a"), sequence=ledger.last))
    write(ledger, a, 3, b"second")
    ledger.commit(SetAttributes(ino=big, size=BIG - 5, time=0))
    write(ledger, big, 100, b"late")


async def left(path: Path) -> Seen:
    """What a session left there, as the first recovery of a copy finds it."""
    copy = path.with_name(f"{path.name}-copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy)
    with ledger_of(copy, empty_tree, run_blocking=inline) as ledger:
        return await seen(ledger)


async def crash(path: Path) -> Seen:
    """A session at work dies there; what it had acknowledged, but for the orphan."""
    with ledger_of(path, empty_tree, run_blocking=inline) as ledger:
        work(ledger)
    return await left(path)


def files_of(path: Path) -> list[str]:
    return sorted(os.listdir(path / "sessions" / SESSION))


async def calls_of_a_recovery(path: Path) -> list[str]:
    disk, copy = FaultyDisk(), path.with_name("counted")
    shutil.copytree(path, copy)
    with ledger_of(copy, empty_tree, run_blocking=inline, disk=disk):
        return list(disk.made)


async def fails(path: Path, fault: Fault) -> bool:
    """Recover with that fault; whether it was refused."""
    try:
        with ledger_of(path, empty_tree, run_blocking=inline, disk=FaultyDisk(fault)):
            return False
    except DiskError:
        return True


async def test_a_recovery_keeps_every_byte_and_what_the_publish_includes(tmp_path: Path) -> None:
    path = tmp_path / "state"
    found = await crash(path)
    assert found.files["a"] == b"firsecond"
    assert found.files["big"][:7] == bytes(7)
    assert found.files["big"][100:104] == b"late"
    assert len(found.files["big"]) == BIG - 5
    assert found.edits == 10
    assert found.publish == "000000000001-a"
    assert {mask[:3] for mask in found.included.values() if mask} == {"+++"}
    assert all("-" in mask for mask in found.included.values() if mask)
    assert not found.orphans


async def test_a_journal_whose_snapshot_is_gone_is_damage_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "state"
    await crash(path)
    (path / "sessions" / SESSION / "snapshot").unlink()
    before = files_of(path)
    with (
        pytest.raises(JournalDamaged, match="snapshot is gone"),
        ledger_of(path, empty_tree, run_blocking=inline),
    ):
        pass
    assert files_of(path) == before


async def test_a_session_whose_only_used_segment_is_gone_is_not_resumed_as_one_that_wrote_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state"
    with ledger_of(path, empty_tree, run_blocking=inline) as ledger:
        work(ledger)
    session = path / "sessions" / SESSION
    (used,) = session.glob("journal-*")
    used.unlink()
    (session / "journal-3.wal.__partial__").write_bytes(encode_header(HEADER, 3))
    found = recovered_in(path)
    assert found is not None
    assert found.damage == "journal-1.wal is gone: what was done after operation number 0 is lost"


def recovered_in(path: Path) -> Recovered | None:
    with StateDirectory(OsDisk(), path) as state, state.open_session(SESSION) as directory:
        return recover(OsDisk(), directory)


@pytest.mark.parametrize("recoveries", [0, 1], ids=["begun", "recovered"])
async def test_a_session_whose_segments_are_all_gone_is_not_resumed_as_one_that_wrote_nothing(
    tmp_path: Path, recoveries: int
) -> None:
    """Somebody has tidied up."""
    path = tmp_path / "state"
    for number in range(recoveries + 1):
        with ledger_of(path, empty_tree, run_blocking=inline) as ledger:
            write(ledger, create(ledger, f"{number}"), 0, b"work")
    for segment in (path / "sessions" / SESSION).glob("journal-*"):
        segment.unlink()
    found = recovered_in(path)
    assert found is not None
    assert found.damage == (
        f"journal-{1 + 2 * recoveries}.wal is gone: what was done after operation number"
        f" {2 * recoveries} is lost"
    )
    assert found.tree.find(StagePath("0")) is not None or not recoveries


@pytest.mark.parametrize("recoveries", [0, 1], ids=["begun", "recovered"])
@pytest.mark.parametrize("keeps_size", [False, True], ids=["cut to nothing", "all zeros"])
async def test_a_session_whose_segment_was_emptied_is_not_resumed_as_one_that_wrote_nothing(
    tmp_path: Path, recoveries: int, *, keeps_size: bool
) -> None:
    """What a file system's repair leaves. The header was synced before the snapshot counted."""
    path = tmp_path / "state"
    for number in range(recoveries + 1):
        with ledger_of(path, empty_tree, run_blocking=inline) as ledger:
            write(ledger, create(ledger, f"{number}"), 0, b"work")
    (segment,) = (path / "sessions" / SESSION).glob("journal-*")
    size = segment.stat().st_size
    os.truncate(segment, 0)
    os.truncate(segment, size if keeps_size else 0)
    found = recovered_in(path)
    assert found is not None
    assert found.damage == (
        f"journal-{1 + 2 * recoveries}.wal is gone: what was done after operation number"
        f" {2 * recoveries} is lost; its file has not even a header any more"
    )
    assert found.tree.find(StagePath("0")) is not None or not recoveries


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "dead from there"])
async def test_a_session_that_dies_while_it_begins_has_no_work_and_no_damage(
    tmp_path: Path, for_ever: bool
) -> None:
    counted = FaultyDisk()
    with ledger_of(tmp_path / "counted", empty_tree, run_blocking=inline, disk=counted):
        pass
    begun = 0
    for number, call in enumerate(counted.made, start=1):
        path = tmp_path / f"{number}"
        await fails(path, Fault(at=number, error=errno.EIO, for_ever=for_ever))
        with StateDirectory(OsDisk(), path) as state:
            if not state.sessions():
                continue
        found = recovered_in(path)
        assert found is None or not found.damage, (number, call)
        assert found is None or list(found.tree.walk()) == [], (number, call)
        begun += found is not None
    assert 0 < begun < len(counted.made)


async def test_a_power_cut_while_a_session_begins_leaves_no_damage(
    tmp_path: Path, seed: int, length: Length
) -> None:
    path, cut_down = tmp_path / "disk", tmp_path / "cut"
    path.mkdir()
    disk = CrashingDisk(path)
    with ledger_of(path / "state", empty_tree, run_blocking=inline, disk=disk):
        pass
    alone = 0
    for cut, state in PowerCuts(disk, seed).states(
        per_cut=length.pick(sample=20, full=None, long=None)
    ):
        materialize(state, cut_down)
        session = cut_down / "state" / "sessions" / SESSION
        if not (session / "snapshot").exists():
            continue
        found = recovered_in(cut_down / "state")
        assert found is not None
        assert not found.damage, cut
        alone += not list(session.glob("journal-*"))
    assert alone


async def test_what_a_recovery_that_was_killed_had_copied_takes_no_room_from_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    found = await crash(path)
    at_snapshot = Fault(at=2, error=errno.EIO, for_ever=True, calls=frozenset({"rename", "unlink"}))
    assert await fails(path, at_snapshot)
    session = path / "sessions" / SESSION

    def free(_: int) -> int:
        taken = sum(each.stat().st_size for each in session.glob("carried-*"))
        return 2 * BIG - taken

    monkeypatch.setattr("pdfs.local.recovery.free_bytes", free)
    with ledger_of(path, empty_tree, run_blocking=inline) as ledger:
        assert await seen(ledger) == found


@pytest.mark.figure(name="C3")
@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "dead from there"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.__getitem__)
async def test_a_recovery_that_fails_at_any_call_loses_nothing_and_doubles_nothing(
    tmp_path: Path, error: int, for_ever: bool
) -> None:
    path, broken = tmp_path / "state", tmp_path / "broken"
    found = await crash(path)
    calls = await calls_of_a_recovery(path)
    assert {"open", "pwritev", "fsync", "rename", "mkdir"} <= set(calls)
    refused = 0
    for number, call in enumerate(calls, start=1):
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(path, broken)
        fault = Fault(at=number, error=error, for_ever=for_ever, takes=60)
        refused += await fails(broken, fault)
        assert await left(broken) == found, (number, call)
    assert refused > len(calls) * 3 // 4


@pytest.mark.figure(name="C3")
async def test_recoveries_that_die_one_after_another_lose_nothing(
    tmp_path: Path, seed: int, length: Length, reached: Reached
) -> None:
    path = tmp_path / "state"
    chance = random.Random(seed)
    found = await crash(path)
    calls = len(await calls_of_a_recovery(path))
    rounds = length.pick(sample=15, full=200, long=5_000)
    reached(rounds, "recoveries that died")
    for _ in range(rounds):
        at = chance.randrange(1, calls + 5)
        await fails(path, Fault(at=at, error=errno.EIO, for_ever=True, takes=60))
        assert await left(path) == found, at


@pytest.mark.figure(name="C3")
async def test_a_power_cut_amid_a_recovery_loses_nothing(
    tmp_path: Path, seed: int, length: Length, reached: Reached
) -> None:
    path, cut_down = tmp_path / "disk", tmp_path / "cut"
    path.mkdir()
    disk = CrashingDisk(path)
    with ledger_of(path / "state", empty_tree, run_blocking=inline, disk=disk) as ledger:
        work(ledger)
        await ledger.sync()
    found, begun = await left(path / "state"), len(disk.log)
    with ledger_of(path / "state", empty_tree, run_blocking=inline, disk=disk):
        pass
    cuts = PowerCuts(disk, seed)
    checked = 0
    per_cut = length.pick(sample=2, full=20, long=None)
    for cut, state in cuts.states(per_cut=per_cut, since=begun):
        materialize(state, cut_down)
        assert await left(cut_down / "state") == found, cut
        checked += 1
    reached(checked, "power cuts amid a recovery")
    assert checked > 30


async def test_what_the_dead_process_never_synced_is_on_the_disk_when_a_recovery_returns(
    tmp_path: Path, seed: int
) -> None:
    """It was read from the page cache, maybe: nobody can tell what of it a disk has."""
    path, cut_down = tmp_path / "disk", tmp_path / "cut"
    path.mkdir()
    disk = CrashingDisk(path)
    with ledger_of(path / "state", empty_tree, run_blocking=inline, disk=disk) as ledger:
        work(ledger)
    found = await left(path / "state")
    with ledger_of(path / "state", empty_tree, run_blocking=inline, disk=disk):
        recovered = len(disk.log)
    checked = 0
    for _, state in PowerCuts(disk, seed).states(since=recovered):
        materialize(state, cut_down)
        assert await left(cut_down / "state") == found
        checked += 1
    assert checked


async def test_no_number_of_a_record_that_could_not_be_replayed_is_used_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state"
    with ledger_of(path, empty_tree, run_blocking=inline) as ledger:
        ino = create(ledger, "a")
        for number in range(9):
            write(ledger, ino, number, b"word %d" % number)
        last = ledger.last
    (segment,) = (path / "sessions" / SESSION).glob("journal-*")
    raw = segment.read_bytes()
    segment.write_bytes(raw.replace(b"word 5", b"torn 5"))
    with ledger_of(path, empty_tree, run_blocking=inline) as ledger:
        node = ledger.tree.nodes[ino]
        assert await ledger.read(node, 0, node.size) == b"wwwwword 4"
        assert ledger.last == last


async def test_what_a_dead_recovery_copied_is_passed_over_by_the_next(tmp_path: Path) -> None:
    """It dies before its snapshot: its copies lie there, and nothing refers to them."""
    path = tmp_path / "state"
    found = await crash(path)
    at_snapshot = Fault(at=2, error=errno.EIO, for_ever=True, calls=frozenset({"rename", "unlink"}))
    assert await fails(path, at_snapshot)
    assert any(name.startswith("carried-") for name in files_of(path))
    assert await left(path) == found


async def test_a_disk_that_is_full_at_the_copying_has_its_room_back_for_the_next_try(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state"
    found = await crash(path)
    before = files_of(path)
    for at in (2, 3, 4):
        full = Fault(at=at, error=errno.ENOSPC, for_ever=True, calls=frozenset({"pwritev"}))
        with (
            pytest.raises(DiskFull),
            ledger_of(path, empty_tree, run_blocking=inline, disk=FaultyDisk(full)),
        ):
            pass
        assert files_of(path) == before
    assert await left(path) == found


async def test_what_is_done_after_a_recovery_survives_the_next_one(tmp_path: Path) -> None:
    """No number appears twice, or one of the two records would be missed."""
    path = tmp_path / "state"
    found = await crash(path)
    for number in range(3):
        await fails(path, Fault(at=10 + 3 * number, error=errno.EIO, for_ever=True))
        with ledger_of(path, empty_tree, run_blocking=inline) as ledger:
            write(ledger, create(ledger, f"new {number}"), 0, b"%d" % number)
    after = await left(path)
    assert dict(after.files) == {**found.files, "new 0": b"0", "new 1": b"1", "new 2": b"2"}
    assert after.edits == found.edits + 6


@pytest.mark.figure(name="C6")
async def test_a_recovery_reads_the_journal_twice_at_most_and_holds_little_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What bounds the time and the memory of recovering a gigabyte (C6): scripts/bench journal."""
    size, path = 48 << 20, tmp_path / "state"
    with ledger_of(path, empty_tree, run_blocking=inline) as ledger:
        ino = create(ledger, "model")
        for offset in range(0, size, 64 << 10):
            write(ledger, ino, offset % (8 << 20), bytes([offset >> 16 & 255]) * (64 << 10))
    read = 0

    def counted(descriptor: int, length: int, offset: int, pread: Pread = os.pread) -> bytes:
        nonlocal read
        read += length
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", counted)
    tracemalloc.start()
    with ledger_of(path, empty_tree, run_blocking=inline):
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size < read < 2 * size, "what is dead is read once, what counts twice"
    assert peak < 24 << 20
