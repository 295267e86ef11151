"""The journal while its session runs."""

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pdfs.disk import Buffer, OsDisk
from pdfs.errors import DiskFull, JournalDamaged, JournalFailed, SessionError, UsageError
from pdfs.local.journal import Journal
from pdfs.local.journal_format import HEADER_SIZE, Header
from pdfs.local.journal_loader import load
from tests.local.faulty_disk import Fault, FaultyDisk
from tests.local.journals import (
    HEADER,
    RUN,
    SESSION,
    append_all,
    directory_of,
    replay,
    some_records,
)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    with directory_of(tmp_path) as descriptor:
        yield descriptor


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def journal(disk: FaultyDisk, directory: int) -> Iterator[Journal]:
    journal = Journal.create(disk, directory, HEADER)
    yield journal
    journal.abandon()


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_data_of_a_record_is_read_back_from_where_append_says(journal: Journal) -> None:
    written = [(data, journal.append(2, b"body", data)) for data in (b"one", b"", b"three" * 999)]
    for data, place in written:
        assert journal.read(place.segment, place.data_offset, len(data)) == data
    assert [place.sequence for _, place in written] == [1, 2, 3]


def test_data_is_any_buffer_of_bytes(journal: Journal, tmp_path: Path) -> None:
    journal.append(2, b"", memoryview(b"abcdef")[1:4])
    journal.append(2, b"", bytearray(b"xyz"))
    journal.close()
    assert replay(tmp_path).records == [(2, b"", b"bcd"), (2, b"", b"xyz")]


def test_data_of_other_items_is_refused(journal: Journal) -> None:
    for data in (memoryview(b"abcdefgh").cast("I"), memoryview(b"abcdefgh")[::2]):
        with pytest.raises(ValueError, match="not a buffer of bytes"):
            journal.append(2, b"", data)
    assert journal.append(2, b"").sequence == 1


def test_header_and_name_are_synced_before_the_journal_takes_a_record(
    journal: Journal, disk: FaultyDisk
) -> None:
    assert disk.made == ["open", "pwritev", "fsync", "fsync"]


def test_append_is_one_call_of_the_disk(journal: Journal, disk: FaultyDisk) -> None:
    before = len(disk.made)
    journal.append(2, b"body", b"data" * 100_000)
    assert disk.made[before:] == ["pwritev"]


@pytest.mark.parametrize("kind", [-1, 0, 255, 256])
def test_reserved_kinds_are_refused(journal: Journal, kind: int) -> None:
    with pytest.raises(ValueError, match="kind"):
        journal.append(kind, b"")
    assert journal.last_sequence == 0


def test_a_record_over_the_limit_is_refused_before_it_is_written(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdfs.local.journal.PAYLOAD_LIMIT", 1000)
    journal.append(1, bytes(1000), bytes(1000))
    with pytest.raises(ValueError, match="1001 bytes"):
        journal.append(1, b"", bytes(1001))
    assert journal.last_sequence == 1


def test_a_header_that_does_not_fit_is_refused_and_leaves_no_file(
    directory: int, tmp_path: Path
) -> None:
    header = Header(
        session=SESSION, run=RUN, project="p", stage="s", user="u" * 4096, machine="m", base={}
    )
    with pytest.raises(UsageError, match="too long"):
        Journal.create(OsDisk(), directory, header)
    assert names(tmp_path) == []


@pytest.mark.parametrize("existing", ["journal-1.wal", "journal-1.wal.__partial__"])
def test_a_segment_that_exists_is_never_written_over(
    directory: int, tmp_path: Path, existing: str
) -> None:
    (tmp_path / existing).write_bytes(b"somebody's work")
    with pytest.raises(JournalFailed):
        Journal.create(OsDisk(), directory, HEADER)
    assert (tmp_path / existing).read_bytes() == b"somebody's work"
    assert names(tmp_path) == [existing]


def test_files_are_private_under_umask_zero(directory: int, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with Journal.create(OsDisk(), directory, HEADER) as journal:
            journal.append(2, b"")
            journal.roll()
    finally:
        os.umask(old)
    modes = {entry.name: entry.stat().st_mode & 0o777 for entry in tmp_path.iterdir()}
    assert modes == {"journal-1.wal": 0o600, "journal-3.wal": 0o600}


# Sync


def test_what_is_appended_while_a_sync_runs_is_not_called_synced(journal: Journal) -> None:
    journal.append(2, b"before")
    point = journal.sync_point()
    journal.append(2, b"meanwhile")
    point.run()
    assert journal.synced_sequence == 0
    journal.mark_synced(point)
    assert (journal.synced_sequence, journal.last_sequence) == (1, 2)


def test_a_sync_covers_every_unsynced_segment_oldest_first(
    directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    class WatchedDisk(OsDisk):
        def fdatasync(self, descriptor: int) -> None:
            synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))

    with Journal.create(WatchedDisk(), directory, HEADER) as journal:
        for _ in range(3):
            journal.append(2, b"")
            journal.roll()
        journal.sync()
        assert synced == [f"journal-{number}.wal.__partial__" for number in (1, 3, 5)]
        journal.append(2, b"")
        synced.clear()
        journal.sync()
        assert synced == ["journal-7.wal.__partial__"]


def test_a_sync_with_nothing_to_sync_makes_no_call(journal: Journal, disk: FaultyDisk) -> None:
    journal.append(2, b"")
    journal.sync()
    before = len(disk.made)
    journal.sync()
    assert len(disk.made) == before


def test_a_second_sync_beside_one_is_refused(journal: Journal) -> None:
    point = journal.sync_point()
    with pytest.raises(SessionError, match="under way"):
        journal.sync_point()
    with pytest.raises(SessionError, match="under way"):
        journal.close()
    journal.mark_synced(point)
    with pytest.raises(SessionError, match="not under way"):
        journal.mark_synced(point)
    journal.sync()


def test_after_a_failed_sync_nothing_is_ever_synced_or_taken_again(
    journal: Journal, disk: FaultyDisk, tmp_path: Path
) -> None:
    journal.append(2, b"lost, maybe")
    disk.fault = Fault(at=1, error=errno.EIO, calls=frozenset({"fdatasync"}))
    with pytest.raises(JournalFailed, match="Input/output error"):
        journal.sync()
    before = len(disk.made)
    for attempt in (journal.sync, journal.sync_point, journal.roll, journal.seal, journal.close):
        with pytest.raises(JournalFailed):
            attempt()
    assert journal.has_failed
    assert journal.synced_sequence == 0
    assert disk.made[before:] == []
    assert names(tmp_path) == ["journal-1.wal.__partial__"]


def test_append_after_a_failed_sync_raises(journal: Journal) -> None:
    point = journal.sync_point()
    told = journal.mark_failed(point, OSError(errno.ENOSPC, "no space"))
    assert isinstance(told, JournalFailed)
    with pytest.raises(JournalFailed, match="no space"):
        journal.append(2, b"")


def test_a_sync_of_unknown_outcome_counts_as_failed(
    journal: Journal, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    journal.append(2, b"")
    monkeypatch.setattr(disk, "fdatasync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        journal.sync()
    with pytest.raises(JournalFailed, match="KeyboardInterrupt"):
        journal.append(2, b"")


def test_descriptors_stay_open_until_a_running_sync_has_ended(
    directory: int, tmp_path: Path
) -> None:
    before = open_descriptors()
    journal = Journal.create(OsDisk(), directory, HEADER)
    journal.append(2, b"")
    point = journal.sync_point()
    journal.abandon()
    point.run()
    assert open_descriptors() > before
    journal.mark_synced(point)
    assert open_descriptors() == before


# Full disk


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("takes", [0, 40])
def test_a_record_that_finds_the_disk_full_leaves_no_trace(
    journal: Journal, disk: FaultyDisk, tmp_path: Path, code: int, takes: int
) -> None:
    journal.append(2, b"kept", b"k" * 1000)
    size = journal.segment_size
    disk.fault = Fault(at=1, error=code, takes=takes, calls=frozenset({"pwritev"}))
    with pytest.raises(DiskFull):
        journal.append(2, b"refused", b"r" * 1000)
    assert (journal.segment_size, journal.last_sequence) == (size, 1)
    assert (tmp_path / "journal-1.wal.__partial__").stat().st_size == size
    journal.append(3, b"kept too")
    journal.close()
    result = replay(tmp_path)
    assert result.records == [(2, b"kept", b"k" * 1000), (3, b"kept too", b"")]
    assert result.end.is_whole


def test_torn_bytes_that_stay_are_overwritten(
    journal: Journal, disk: FaultyDisk, tmp_path: Path
) -> None:
    for attempt in range(3):
        disk.fault = Fault(at=1, error=errno.ENOSPC, takes=80, for_ever=True)  # ftruncate as well
        with pytest.raises(DiskFull):
            journal.append(2, b"refused", b"r" * 5000)
        disk.fault = None
        journal.append(2, b"kept %d" % attempt)
        assert (tmp_path / "journal-1.wal.__partial__").stat().st_size > journal.segment_size
    journal.abandon()
    result = replay(tmp_path)
    assert [body for _, body, _ in result.records] == [b"kept 0", b"kept 1", b"kept 2"]
    assert result.end.damage is None
    assert result.end.torn_tail is not None


def test_torn_bytes_at_the_end_of_a_segment_hide_nothing_in_the_next(
    journal: Journal, disk: FaultyDisk, tmp_path: Path
) -> None:
    journal.append(2, b"first")
    journal.prepare()
    disk.fault = Fault(at=1, error=errno.ENOSPC, takes=80, for_ever=True)
    with pytest.raises(DiskFull):
        journal.append(2, b"refused", b"r" * 5000)
    journal.roll()
    disk.fault = None
    journal.append(2, b"second")
    journal.abandon()
    result = replay(tmp_path)
    assert [body for _, body, _ in result.records] == [b"first", b"second"]
    assert (result.end.damage, result.end.torn_tail) == (None, None)


def test_an_append_that_was_interrupted_is_as_if_it_had_not_been(
    journal: Journal, disk: FaultyDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal may come when all bytes are in the file and the caller has no answer."""

    def interrupted(descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        OsDisk().pwritev(descriptor, buffers, offset)
        raise KeyboardInterrupt

    journal.append(2, b"first")
    with monkeypatch.context() as patch:
        patch.setattr(disk, "pwritev", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.append(2, b"nobody was told", b"x" * 5000)
    assert journal.last_sequence == 1
    journal.append(2, b"second")
    journal.close()
    result = replay(tmp_path)
    assert [body for _, body, _ in result.records] == [b"first", b"second"]
    assert result.end.is_whole


def test_a_full_disk_while_rolling_leaves_the_journal_as_it_was(
    journal: Journal, disk: FaultyDisk, tmp_path: Path
) -> None:
    disk.fault = Fault(at=1, error=errno.ENOSPC, calls=frozenset({"pwritev"}))
    with pytest.raises(DiskFull):
        journal.roll()
    assert names(tmp_path) == ["journal-1.wal.__partial__"]
    journal.append(2, b"goes on")
    journal.roll()
    journal.append(2, b"and on")
    journal.close()
    assert replay(tmp_path).sequences == [1, 2]


# Segments


def test_records_go_on_in_the_next_segment_with_the_next_number(
    journal: Journal, tmp_path: Path
) -> None:
    records = some_records(40, seed=1)
    for start in range(0, 40, 10):
        append_all(journal, records[start : start + 10])
        journal.roll()
    assert journal.segment == 9
    journal.abandon()
    result = replay(tmp_path)
    assert result.records == records
    assert result.sequences == list(range(1, 41))


def test_roll_waits_for_nothing_after_prepare(journal: Journal, disk: FaultyDisk) -> None:
    journal.prepare()
    journal.prepare()
    before = len(disk.made)
    journal.roll()
    assert disk.made[before:] == []
    assert journal.segment == 3


def test_seal_takes_only_segments_that_are_synced_and_full(
    journal: Journal, tmp_path: Path
) -> None:
    journal.append(2, b"one")
    journal.roll()
    journal.seal()
    assert names(tmp_path) == ["journal-1.wal.__partial__", "journal-3.wal.__partial__"]
    journal.append(2, b"two")
    journal.sync()
    journal.seal()
    assert names(tmp_path) == ["journal-1.wal", "journal-3.wal.__partial__"]
    journal.append(2, b"three")
    journal.abandon()
    assert replay(tmp_path).sequences == [1, 2, 3]


def test_a_sealed_segment_is_still_read(journal: Journal) -> None:
    place = journal.append(2, b"", b"content")
    journal.roll()
    journal.sync()
    journal.seal()
    assert journal.read(1, place.data_offset, 7) == b"content"


def test_segments_of_an_earlier_run_are_read(directory: int) -> None:
    with Journal.create(OsDisk(), directory, HEADER) as earlier:
        whole = earlier.append(2, b"", b"whole")
        earlier.roll()
        earlier.append(2, b"", b"x")
    with Journal.create(OsDisk(), directory, HEADER, segment=5, first_sequence=3) as journal:
        assert journal.read(1, whole.data_offset, 5) == b"whole"


def test_reading_beyond_a_segment_is_damage_and_never_short(journal: Journal) -> None:
    place = journal.append(2, b"", b"content")
    with pytest.raises(JournalDamaged, match="segment 1"):
        journal.read(1, place.data_offset, 8)


def test_a_journal_goes_on_where_an_earlier_one_ended(directory: int, tmp_path: Path) -> None:
    with Journal.create(OsDisk(), directory, HEADER) as journal:
        append_all(journal, some_records(5, seed=2))
    with Journal.create(OsDisk(), directory, HEADER, segment=3, first_sequence=6) as journal:
        assert (journal.last_sequence, journal.synced_sequence) == (5, 0)
        assert journal.append(2, b"sixth").sequence == 6
        journal.sync()
        assert journal.synced_sequence == 6
    assert replay(tmp_path).sequences == [1, 2, 3, 4, 5, 6]


# The end


def test_close_makes_every_segment_whole_and_is_idempotent(
    journal: Journal, disk: FaultyDisk, tmp_path: Path
) -> None:
    records = some_records(12, seed=3)
    append_all(journal, records[:6])
    journal.roll()
    append_all(journal, records[6:])
    journal.prepare()
    journal.close()
    assert names(tmp_path) == ["journal-1.wal", "journal-3.wal"]
    before = len(disk.made)
    journal.close()
    journal.abandon()
    assert disk.made[before:] == []
    result = replay(tmp_path)
    assert result.records == records
    assert result.end.is_whole


def test_an_empty_journal_closes_whole(journal: Journal, tmp_path: Path) -> None:
    journal.roll()
    journal.close()
    assert replay(tmp_path).end.is_whole


def test_the_trailer_is_synced_before_the_rename(journal: Journal, disk: FaultyDisk) -> None:
    journal.append(2, b"")
    before = len(disk.made)
    journal.close()
    assert disk.made[before:] == ["fdatasync", "pwritev", "ftruncate", "fsync", "rename", "fsync"]


def test_abandon_leaves_the_files_as_a_crash_would(journal: Journal, tmp_path: Path) -> None:
    append_all(journal, some_records(3, seed=4))
    content = (tmp_path / "journal-1.wal.__partial__").read_bytes()
    journal.abandon()
    journal.abandon()
    assert names(tmp_path) == ["journal-1.wal.__partial__"]
    assert (tmp_path / "journal-1.wal.__partial__").read_bytes() == content
    assert not replay(tmp_path).end.is_whole


def test_an_exception_in_the_block_abandons(directory: int, tmp_path: Path) -> None:
    def fail() -> None:
        with Journal.create(OsDisk(), directory, HEADER) as journal:
            journal.append(2, b"kept")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path) == ["journal-1.wal.__partial__"]
    assert replay(tmp_path).sequences == [1]


def test_a_closed_journal_takes_nothing(journal: Journal) -> None:
    journal.close()
    for attempt in (journal.sync, journal.sync_point, journal.roll, journal.seal, journal.prepare):
        with pytest.raises(SessionError, match="closed"):
            attempt()
    with pytest.raises(SessionError, match="closed"):
        journal.append(2, b"")
    with pytest.raises(SessionError, match="closed"):
        journal.read(1, HEADER_SIZE, 0)


def test_a_full_disk_at_close_loses_no_record(
    journal: Journal, disk: FaultyDisk, tmp_path: Path
) -> None:
    records = some_records(3, seed=5)
    append_all(journal, records)
    disk.fault = Fault(at=1, error=errno.ENOSPC, takes=50, calls=frozenset({"pwritev"}))
    with pytest.raises(DiskFull):
        journal.close()
    result = replay(tmp_path)
    assert result.records == records
    assert result.end.damage is None
    assert not result.end.is_whole


def test_no_descriptor_is_left_open(directory: int) -> None:
    before = open_descriptors()
    with Journal.create(OsDisk(), directory, HEADER) as journal:
        journal.append(2, b"")
        journal.roll()
        journal.prepare()
        journal.read(1, 0, 1)
    for number in range(1, 5):
        disk = FaultyDisk(Fault(at=number, error=errno.EIO))
        with pytest.raises(JournalFailed):
            Journal.create(disk, directory, HEADER, segment=9)
        assert disk.made[:number] == ["open", "pwritev", "fsync", "fsync"][:number]
    assert len(list(load(OsDisk(), directory, session=SESSION).records())) == 1
    assert open_descriptors() == before
