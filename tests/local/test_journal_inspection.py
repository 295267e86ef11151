"""Looking at journals from outside: damage, torn tails, and what is only just being written."""

import contextlib
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core import snapshot
from pdfs.core.generation import tree_of
from pdfs.core.ids import Inode, SessionId
from pdfs.core.manifest import Top, never_published
from pdfs.core.record import Create, Kind, Record, Write, encode
from pdfs.disk import Disk, OsDisk, replace_file
from pdfs.errors import DamageFound, DiskError, NotFoundError, UsageError
from pdfs.local.journal import Journal
from pdfs.local.journal_format import HEADER_SIZE
from pdfs.local.journal_inspection import (
    Verdict,
    opened_place,
    summarize_snapshot,
    verify_file,
    verify_journal,
)
from pdfs.local.journal_loader import Loaded, load_segment
from pdfs.local.snapshot import encode_snapshot_head
from tests.local.journals import HEADER, SESSION, directory_of

ROOT = Path(__file__).parents[2]
FIRST, SECOND = "journal-1.wal", "journal-3.wal.__partial__"


def create(number: int) -> Record:
    return Create(
        parent=Inode(1),
        name=f"pump-{number}-\udcff.dwg",
        ino=Inode((1 << 32) + number),
        kind=Kind.FILE,
        mode=0o644,
        uid=1000,
        gid=1000,
        time=number,
    )


def append(journal: Journal, number: int, data: bytes = b"") -> None:
    """Every other record is a write."""
    if number % 2:
        journal.append(*encode(create(number)))
    else:
        record = Write(ino=Inode((1 << 32) + number - 1), offset=0, time=number)
        journal.append(*encode(record), data or b"bytes %d " % number * 20)


@dataclass(frozen=True, slots=True)
class Sample:
    """A session's directory: records 1 to 6 in a whole segment, 7 to 12 in one that is open."""

    path: Path
    starts: tuple[int, ...]
    """Of each record in its segment, the end of the last included."""


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    path = tmp_path / SESSION
    path.mkdir()
    starts = []
    with directory_of(path) as directory:
        tree = tree_of(never_published(Top(mtime=1)), None, uid=1000, gid=1000)
        body = bytes(16) + snapshot.encode(tree)
        replace_file(OsDisk(), directory, "snapshot", encode_snapshot_head(SESSION, body), body)
        journal = Journal.create(OsDisk(), directory, HEADER)
        for number in range(1, 13):
            starts.append(journal.segment_size)
            append(journal, number)
            if number == 6:
                journal.roll()
                journal.sync()
                journal.seal()
        starts.append(journal.segment_size)
        journal.abandon()
    return Sample(path, tuple(starts))


def verify(path: Path) -> Verdict:
    with opened_place(OsDisk(), str(path)) as place:
        if place.is_directory:
            return verify_journal(OsDisk(), place.directory, place.name)
        session = SessionId(place.parent) if place.parent == SESSION else None
        return verify_file(OsDisk(), place.directory, place.name, session)


def contents(path: Path) -> dict[str, tuple[bytes, int]]:
    return {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in path.iterdir()}


def flip(file: Path, byte: int) -> bytes:
    """Flip a bit; the bytes as they were."""
    raw = file.read_bytes()
    file.write_bytes(raw[:byte] + bytes([raw[byte] ^ 4]) + raw[byte + 1 :])
    return raw


# Sound journals


def test_a_sound_journal_is_told_with_its_records(sample: Sample) -> None:
    before = contents(sample.path)
    first, second, all_of_it = (
        verify(sample.path / FIRST),
        verify(sample.path / SECOND),
        verify(sample.path),
    )
    assert (first.records, first.first_sequence, first.last_sequence) == (6, 1, 6)
    assert first.is_whole
    assert (second.records, second.first_sequence, second.last_sequence) == (6, 7, 12)
    assert (second.is_whole, second.torn_tail, second.is_damaged) == (False, None, False)
    assert (all_of_it.records, all_of_it.last_sequence, all_of_it.is_damaged) == (12, 12, False)
    assert not verify(sample.path / "snapshot").is_damaged
    assert contents(sample.path) == before


def test_segments_without_a_snapshot_are_judged_from_their_first_record_on(sample: Sample) -> None:
    (sample.path / "snapshot").unlink()
    (sample.path / FIRST).unlink()
    verdict = verify(sample.path.rename(sample.path.parent / "copied"))
    assert (verdict.records, verdict.first_sequence, verdict.is_damaged) == (6, 7, False)


@pytest.mark.parametrize("size", [0, 1, 300, 4095])
def test_a_segment_whose_creation_was_cut_short_is_no_damage(sample: Sample, size: int) -> None:
    file = sample.path / "journal-5.wal.__partial__"
    file.write_bytes((sample.path / SECOND).read_bytes()[:size])
    assert not verify(file).is_damaged
    assert not verify(sample.path).is_damaged


@pytest.mark.parametrize("size", [0, 1, 300, 4095])
@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_a_segment_that_has_lost_its_header_is_damage_where_others_prove_that_it_had_one(
    sample: Sample, name: str, size: int
) -> None:
    """By the trailer before it, or by the segment that was made behind it."""
    os.truncate(sample.path / name, size)
    assert verify(sample.path).is_damaged
    (sample.path / FIRST).rename(sample.path / f"{FIRST}.__partial__")
    assert verify(sample.path).is_damaged


@pytest.mark.parametrize("records", [0, 1])
def test_a_sealed_segment_with_few_records_is_whole(tmp_path: Path, records: int) -> None:
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER, first_sequence=11)
        for number in range(records):
            append(journal, 11 + number)
        journal.close()
    verdict = verify(tmp_path / FIRST)
    assert (verdict.records, verdict.is_whole, verdict.is_damaged) == (records, True, False)


# Damage


def test_every_flipped_byte_of_a_whole_segment_is_found_where_its_record_begins(
    sample: Sample, is_full: bool
) -> None:
    file = sample.path / FIRST
    size = file.stat().st_size
    begins = [0, *sample.starts[:6], size]
    end_of_records = file.read_bytes().rindex(b"PDJ")
    for byte in range(0, size, 1 if is_full else 3):
        raw = flip(file, byte)
        verdict = verify(file)
        assert verdict.is_damaged, byte
        assert verdict.damage is not None
        expected = max(start for start in (*begins[:7], end_of_records) if start <= byte)
        assert verdict.damage.offset == (0 if byte < HEADER_SIZE else expected)
        lost = sum(start >= expected for start in begins[1:7]) if byte >= HEADER_SIZE else 6
        assert verdict.damage.lost_records == lost, byte
        assert verify(sample.path).is_damaged
        file.write_bytes(raw)
    assert not verify(file).is_damaged


def test_every_cut_of_records_that_were_never_synced_is_a_torn_tail(sample: Sample) -> None:
    file = sample.path / SECOND
    raw = file.read_bytes()
    for size in range(HEADER_SIZE, len(raw)):
        file.write_bytes(raw[:size])
        for verdict in (verify(file), verify(sample.path)):
            assert not verdict.is_damaged, size
            is_torn = size not in sample.starts[6:]
            assert (verdict.torn_tail is not None) == is_torn
            if verdict.torn_tail is not None:
                assert verdict.torn_tail.offset == max(s for s in sample.starts[6:] if s <= size)


def test_a_later_segment_proves_what_is_missing_in_an_earlier_one(sample: Sample) -> None:
    """One by one both files look sound: only together they tell."""
    file = sample.path / FIRST
    raw = file.read_bytes()
    partial = sample.path / "journal-1.wal.__partial__"
    file.unlink()
    partial.write_bytes(raw[: sample.starts[4]])
    assert not verify(partial).is_damaged
    assert not verify(sample.path / SECOND).is_damaged
    verdict = verify(sample.path)
    assert verdict.damage is not None
    assert (verdict.damage.file, verdict.damage.offset) == (partial.name, sample.starts[4])
    assert (verdict.damage.lost_records, verdict.damage.intact_records) == (8, 6)


def test_a_segment_with_a_damaged_header_is_checked_where_its_directory_tells_the_session(
    sample: Sample, tmp_path: Path
) -> None:
    flip(sample.path / SECOND, 100)
    verdict = verify(sample.path / SECOND)
    assert verdict.damage is not None
    assert (verdict.damage.offset, verdict.damage.intact_records) == (0, 6)
    elsewhere = tmp_path / "copy.bin"
    elsewhere.write_bytes((sample.path / SECOND).read_bytes())
    assert "byte 0" in verify(elsewhere).problem


def test_whole_records_behind_damage_can_still_be_read(sample: Sample) -> None:
    flip(sample.path / FIRST, sample.starts[2] + 60)
    with directory_of(sample.path) as directory:
        loaded = load_segment(OsDisk(), directory, FIRST, session=None)
        assert [record.sequence for record in loaded.records()] == [1, 2]
        assert [record.sequence for record in loaded.intact_behind()] == [4, 5, 6]
        assert [record.offset for record in loaded.intact_behind()] == list(sample.starts[3:6])


def test_a_record_that_means_nothing_is_damage(tmp_path: Path) -> None:
    with (
        directory_of(tmp_path) as directory,
        Journal.create(OsDisk(), directory, HEADER) as journal,
    ):
        append(journal, 1)
        journal.append(200, b"{}")
    verdict = verify(tmp_path / FIRST)
    assert verdict.is_damaged
    assert "record 2 at byte" in verdict.problem
    assert "unknown code 200" in verdict.problem


# Snapshots


def test_every_flipped_or_missing_byte_of_a_snapshot_is_damage(sample: Sample) -> None:
    file = sample.path / "snapshot"
    size = file.stat().st_size
    for byte in range(size):
        raw = flip(file, byte)
        assert verify(file).is_damaged, byte
        file.write_bytes(raw[:byte])
        assert verify(file).is_damaged, byte
        file.write_bytes(raw)
    assert not verify(file).is_damaged


def test_the_journal_behind_a_damaged_snapshot_is_checked_all_the_same(sample: Sample) -> None:
    flip(sample.path / "snapshot", 45)
    assert (verify(sample.path).records, verify(sample.path).is_damaged) == (12, False)
    flip(sample.path / FIRST, sample.starts[3])
    assert verify(sample.path).is_damaged


def test_a_snapshot_is_summed_up(sample: Sample) -> None:
    with directory_of(sample.path) as directory:
        summary = summarize_snapshot(OsDisk(), directory, "snapshot")
        assert (summary.head.session, summary.head.after) == (SESSION, 0)
        assert summary.nodes == {"directory": 1}
        flip(sample.path / "snapshot", 45)
        with pytest.raises(DamageFound):
            summarize_snapshot(OsDisk(), directory, "snapshot")


# Anything else


@given(raw=st.binary(max_size=9000), name=st.sampled_from([FIRST, SECOND, "snapshot", "x"]))
def test_any_bytes_are_judged_without_an_error(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, name: str
) -> None:
    path = tmp_path_factory.mktemp("garbage") / SESSION
    path.mkdir()
    (path / name).write_bytes(raw)
    verdict = verify(path / name)
    assert verdict.records == 0
    assert verdict.is_damaged or name in (FIRST, SECOND)


def test_what_is_no_file_is_refused_at_once(sample: Sample) -> None:
    os.mkfifo(sample.path / "pipe")
    with pytest.raises(DiskError, match="not a regular file"):
        verify(sample.path / "pipe")
    with pytest.raises(NotFoundError, match="there is no file"):
        verify(sample.path / "nowhere")


def test_a_directory_without_a_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no journal"):
        verify(tmp_path)
    (tmp_path / SESSION).mkdir()
    with pytest.raises(UsageError, match="no journal"):
        verify(tmp_path / SESSION)


def test_a_link_that_a_user_names_is_followed(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(sample.path / FIRST)
    assert verify(tmp_path / "link").is_whole


def test_memory_is_bounded(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(40 << 20)
    with (
        directory_of(tmp_path) as directory,
        Journal.create(OsDisk(), directory, HEADER) as journal,
    ):
        append(journal, 1)
        append(journal, 2, data)
    tracemalloc.start()
    verdict = verify(tmp_path / FIRST)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (verdict.records, verdict.is_whole) == (2, True)
    assert peak < 16 << 20


# Live sessions


@pytest.mark.parametrize("is_moving", [True, False])
def test_damage_that_a_second_look_does_not_find_there_was_only_being_written(
    sample: Sample, monkeypatch: pytest.MonkeyPatch, is_moving: bool
) -> None:
    """It heals before the second look, or is at another place in each."""
    file = sample.path / FIRST
    raw, looks = file.read_bytes(), 0

    def look(disk: Disk, directory: int, name: str, *, session: SessionId | None) -> Loaded:
        nonlocal looks
        file.write_bytes(raw)
        if is_moving or looks == 0:
            flip(file, sample.starts[looks % 5])
        looks += 1
        return load_segment(disk, directory, name, session=session)

    monkeypatch.setattr("pdfs.local.journal_inspection.load_segment", look)
    assert not verify(file).is_damaged
    assert looks == (5 if is_moving else 2)


def serve(path: Path) -> None:
    """Append for ever, with syncs, rolls and seals; a byte for each roll."""
    with directory_of(path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        for number in range(1, 10_000_000):
            append(journal, number, b"x" * (number * 37 % 9000))
            if number % 5 == 0:
                journal.sync()
            if number % 50 == 0:
                journal.roll()
                journal.seal()
                sys.stdout.write(".")
                sys.stdout.flush()


@pytest.fixture
def live(tmp_path: Path) -> Iterator["tuple[Path, subprocess.Popen[bytes]]"]:
    path = tmp_path / SESSION
    path.mkdir()
    command = [sys.executable, "-m", "tests.local.test_journal_inspection", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
        yield path, child
        child.kill()


def test_what_a_live_session_is_writing_is_never_called_damage(
    live: "tuple[Path, subprocess.Popen[bytes]]", is_full: bool
) -> None:
    path, child = live
    assert child.stdout is not None
    before = 0
    for _ in range(60 if is_full else 15):
        child.stdout.read(1)
        verdict = verify(path)
        assert not verdict.is_damaged, verdict
        assert verdict.last_sequence >= before
        before = verdict.last_sequence
        newest = max(path.iterdir(), key=lambda file: int(file.name.split("-")[1].split(".")[0]))
        with contextlib.suppress(DiskError, NotFoundError):  # it was just renamed
            assert not verify(newest).is_damaged
    assert child.poll() is None
    assert before > 100


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
