"""Segments of a size: allocated ahead, left by a roll that waits for nothing, with a reserve."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from pdfs.errors import DiskFull, JournalFailed, SessionError
from pdfs.local.journal import Journal
from pdfs.local.journal_format import HEADER_SIZE
from pdfs.local.sizes import JournalSizes, sizes_for
from tests.local.faulty_disk import Fault, FaultyDisk
from tests.local.journals import HEADER, directory_of, replay

SIZES = JournalSizes(segment=64 << 10, growth=8 << 10, reserve=8 << 10, often=5)
PIECE = b"x" * 1000
FULL = Fault(at=1, error=errno.ENOSPC, for_ever=True, calls=frozenset({"allocate"}))


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def journal(disk: FaultyDisk, tmp_path: Path) -> Iterator[Journal]:
    with directory_of(tmp_path) as directory:
        journal = Journal.create(disk, directory, HEADER, sizes=SIZES)
        yield journal
        journal.abandon()


def fill(journal: Journal, *, keep: int = SIZES.reserve) -> int:
    """Append until the disk is full; how many records were taken."""
    for count in range(1000):
        try:
            journal.append(2, b"", PIECE, keep=keep)
        except DiskFull:
            return count
    raise AssertionError("the disk never was full")


def partial(path: Path, number: int) -> Path:
    return path / f"journal-{number}.wal.__partial__"


def test_a_segment_is_allocated_when_it_is_made(journal: Journal, tmp_path: Path) -> None:
    assert partial(tmp_path, 1).stat().st_size == SIZES.segment


def test_appends_in_allocated_space_change_no_size(journal: Journal, tmp_path: Path) -> None:
    journal.append(2, b"", PIECE * 10)
    assert partial(tmp_path, 1).stat().st_size == SIZES.segment


def test_a_full_segment_gives_way_to_the_prepared_one_within_an_append(
    journal: Journal, disk: FaultyDisk, tmp_path: Path
) -> None:
    journal.prepare()
    before = len(disk.made)
    while journal.segment == 1:
        journal.append(2, b"", PIECE)
    assert set(disk.made[before:]) == {"pwritev"}
    assert SIZES.segment > HEADER_SIZE + (journal.last_sequence - 1) * (48 + len(PIECE))
    journal.abandon()
    result = replay(tmp_path)
    assert result.sequences == list(range(1, len(result.records) + 1))
    assert result.end.damage is None


def test_a_roll_is_told_from_within_the_append(journal: Journal) -> None:
    rolled: list[int] = []
    journal.on_roll = lambda: rolled.append(journal.segment)
    journal.prepare()
    assert rolled == []
    while journal.segment == 1:
        journal.append(2, b"", PIECE)
    assert rolled == [3]


def test_a_full_segment_grows_while_the_next_one_is_not_ready(
    journal: Journal, tmp_path: Path
) -> None:
    for _ in range(200):
        journal.append(2, b"", PIECE)
    assert journal.segment == 1
    assert partial(tmp_path, 1).stat().st_size > 2 * SIZES.segment
    journal.prepare()
    for _ in range(20):
        journal.append(2, b"", PIECE)
    assert journal.segment == 3
    journal.abandon()
    assert len(replay(tmp_path).records) == 220


def test_a_record_larger_than_a_segment_is_taken(journal: Journal, tmp_path: Path) -> None:
    journal.prepare()
    journal.append(2, b"", PIECE * 300)
    journal.append(2, b"", PIECE * 300)
    journal.append(2, b"small")
    journal.close()
    assert [len(data) for _, _, data in replay(tmp_path).records] == [300_000, 300_000, 0]


def test_the_next_segment_is_made_while_this_one_takes_records(
    journal: Journal, tmp_path: Path
) -> None:
    task = journal.preparation()
    assert task is not None
    journal.append(2, b"before")
    task.run()
    journal.append(2, b"meanwhile")
    journal.finish(task)
    assert journal.preparation() is None
    journal.roll()
    journal.append(2, b"after")
    journal.close()
    assert [body for _, body, _ in replay(tmp_path).records] == [b"before", b"meanwhile", b"after"]


def test_a_segment_is_sealed_while_the_next_one_takes_records(
    journal: Journal, tmp_path: Path
) -> None:
    journal.append(2, b"", PIECE)
    journal.roll()
    assert journal.sealing() is None, "it is not synced"
    journal.sync()
    task = journal.sealing()
    assert task is not None
    journal.append(2, b"meanwhile")
    task.run()
    journal.append(2, b"", PIECE)
    journal.finish(task)
    assert (tmp_path / "journal-1.wal").stat().st_size < HEADER_SIZE + 2 * len(PIECE)
    assert journal.sealing() is None
    assert not journal.has_unsealed


def test_a_task_under_way_keeps_the_journal_from_being_closed(journal: Journal) -> None:
    task = journal.preparation()
    assert task is not None
    with pytest.raises(SessionError, match="being made or sealed"):
        journal.close()
    task.run()
    journal.finish(task)
    journal.close()


def test_what_was_prepared_for_a_journal_that_was_abandoned_is_given_back(
    journal: Journal, tmp_path: Path
) -> None:
    task = journal.preparation()
    assert task is not None
    journal.abandon()
    task.run()
    journal.finish(task)
    assert replay(tmp_path).end.damage is None


def test_a_segment_is_zero_filled_once_syncs_are_frequent(
    journal: Journal, disk: FaultyDisk
) -> None:
    def writes_of_a_preparation() -> int:
        before = disk.made.count("pwritev")
        journal.roll()
        return disk.made.count("pwritev") - before

    assert writes_of_a_preparation() == 1
    for _ in range(SIZES.often):
        journal.append(2, b"")
        journal.sync()
    assert writes_of_a_preparation() == 2
    assert writes_of_a_preparation() == 1


# Full disk


def test_writes_leave_the_reserve_to_others_on_a_full_disk(
    journal: Journal, disk: FaultyDisk, tmp_path: Path
) -> None:
    disk.fault = FULL
    taken = fill(journal)
    assert taken * len(PIECE) > SIZES.segment - 2 * SIZES.reserve
    before = disk.made.count("pwritev")
    with pytest.raises(DiskFull):
        journal.append(2, b"", PIECE, keep=SIZES.reserve)
    assert disk.made.count("pwritev") == before, "it was refused before the journal took it"
    names = [journal.append(6, b"a name goes", keep=SIZES.reserve // 2) for _ in range(40)]
    assert fill(journal, keep=SIZES.reserve // 2) < 4
    ends = [journal.append(9, b"a publish") for _ in range(40)]
    journal.sync()
    journal.close()
    result = replay(tmp_path)
    kinds = [kind for kind, _, _ in result.records]
    assert kinds.count(6) == len(names)
    assert kinds.count(9) == len(ends)
    assert result.end.is_whole


def test_the_prepared_segment_is_room_on_a_full_disk(journal: Journal, disk: FaultyDisk) -> None:
    journal.prepare()
    disk.fault = FULL
    assert fill(journal) * len(PIECE) > 1.5 * SIZES.segment
    with pytest.raises(DiskFull):
        journal.prepare()
    journal.append(9, b"the publish still works")


def test_writes_leave_the_last_prepared_segment_to_others(
    journal: Journal, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no room for another one, and a checkpoint needs it."""
    journal.prepare()
    disk.fault = FULL
    monkeypatch.setattr("pdfs.local.journal.free_bytes", lambda directory: SIZES.segment - 1)
    fill(journal)
    assert journal.segment == 1
    journal.append(9, b"a publish", PIECE * 12)
    assert journal.segment == 3


def test_writes_go_on_when_there_is_room_again(
    journal: Journal, disk: FaultyDisk, tmp_path: Path
) -> None:
    disk.fault = FULL
    taken = fill(journal)
    disk.fault = None
    for _ in range(100):
        journal.append(2, b"", PIECE, keep=SIZES.reserve)
    journal.close()
    assert len(replay(tmp_path).records) == taken + 100


def test_an_io_error_while_allocating_is_for_ever(journal: Journal, disk: FaultyDisk) -> None:
    disk.fault = Fault(at=1, error=errno.EIO, calls=frozenset({"allocate"}))
    with pytest.raises(JournalFailed):
        fill(journal)
    with pytest.raises(JournalFailed):
        journal.append(9, b"nothing more")


def test_a_failed_append_gives_back_no_reserve(
    journal: Journal, disk: FaultyDisk, tmp_path: Path
) -> None:
    disk.fault = Fault(at=1, error=errno.EDQUOT, takes=50, calls=frozenset({"pwritev"}))
    with pytest.raises(DiskFull):
        journal.append(2, b"", PIECE)
    assert partial(tmp_path, 1).stat().st_size == SIZES.segment
    journal.append(2, b"kept")
    journal.abandon()
    assert [body for _, body, _ in replay(tmp_path).records] == [b"kept"]


@pytest.mark.parametrize("free", [0, 1 << 20, 64 << 20, 1 << 30, 1 << 40])
def test_two_segments_fit_on_a_disk_and_one_holds_its_reserve_many_times(free: int) -> None:
    sizes = sizes_for(free)
    assert 1 << 20 <= sizes.segment <= max(1 << 20, free // 16)
    assert sizes.reserve + sizes.growth < sizes.segment // 4
    assert 4 * sizes.segment <= sizes.garbage <= max(4 << 20, free // 4)
