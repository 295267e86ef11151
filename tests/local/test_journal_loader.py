"""Reading a journal after a crash, and after its bytes were changed.

What each test expects is computed from what was appended and from the grammar, not by the loader.
"""

import json
import os
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
import xxhash

from pdfs.core.ids import RunId, SessionId
from pdfs.disk import OsDisk
from pdfs.errors import JournalDamaged, SessionError, UsageError
from pdfs.local.journal import Journal
from pdfs.local.journal_format import (
    FRAME_SIZE,
    HEADER_SIZE,
    Header,
    Totals,
    Trailer,
    encode_frame,
    encode_header,
    encode_trailer,
    origin_of,
)
from pdfs.local.journal_loader import load
from tests.conftest import Reached
from tests.lengths import Length
from tests.local.journals import (
    HEADER,
    RUN,
    SESSION,
    Replayed,
    Written,
    append_all,
    directory_of,
    replay,
    some_records,
)

PARTIAL: Final = "journal-1.wal.__partial__"
WHOLE: Final = "journal-1.wal"
SYNCED: Final = 190
UNSYNCED: Final = 12


@dataclass(frozen=True, slots=True)
class Sample:
    """A journal of one segment; the first 190 of its 202 records are called synced."""

    records: list[Written]
    starts: list[int]
    """Offset of each record, and of the end of the last one."""
    partial: bytes
    whole: bytes

    @property
    def target(self) -> int:
        """Index of a record with body and data, well before the tail."""
        return next(n for n in range(50, SYNCED) if all(self.records[n][1:]))

    def count_before(self, offset: int) -> int:
        """How many records end at or before that offset."""
        return sum(start <= offset for start in self.starts[1:])


def make_sample(
    path: Path, *, run: RunId = RUN, seed: int = 7, session: SessionId = SESSION
) -> Sample:
    path.mkdir()
    records = some_records(SYNCED + UNSYNCED, seed, largest=500)
    starts = [HEADER_SIZE]
    header = replace(HEADER, run=run, session=session)
    with directory_of(path) as directory, Journal.create(OsDisk(), directory, header) as journal:
        for number, (kind, body, data) in enumerate(records, start=1):
            journal.append(kind, body, data)
            starts.append(journal.segment_size)
            if number in (SYNCED // 2, SYNCED):
                journal.sync()
        partial = (path / PARTIAL).read_bytes()
    sample = Sample(records, starts, partial, (path / WHOLE).read_bytes())
    assert len(sample.records) >= 200
    assert len(sample.partial) >= 64 << 10
    return sample


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("sample") / "journal")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / PARTIAL


def assert_prefix(result: Replayed, records: list[Written], count: int) -> None:
    """Exactly the first `count` records came out, numbered from 1."""
    assert len(result.records) == count
    assert result.records == records[:count]
    assert result.sequences == list(range(1, count + 1))
    assert result.end.last_sequence == count


# J1, cut short


def cuts(sample: Sample, size: int, is_full: bool, seed: int) -> list[int]:
    """Every length below `size`, longest first; of a sample, a few hundred, most at boundaries."""
    if is_full:
        return list(range(size - 1, -1, -1))
    choice = random.Random(seed)
    near = {start + by for start in sample.starts for by in (-1, 0, 1, FRAME_SIZE)}
    chosen = {*choice.sample(sorted(near), 300), *choice.sample(range(size), 300)}
    return sorted({0, HEADER_SIZE - 1, *chosen} - {size}, reverse=True)


@pytest.mark.figure(name="J1")
def test_a_journal_cut_at_any_byte_gives_the_longest_valid_prefix(
    sample: Sample, file: Path, is_full: bool, seed: int, reached: Reached
) -> None:
    file.write_bytes(sample.partial)
    sizes = cuts(sample, len(sample.partial), is_full, seed)
    reached(len(sizes), "lengths")
    for size in sizes:
        os.truncate(file, size)
        result, count = replay(file.parent), sample.count_before(size)
        assert_prefix(result, sample.records, count)
        # Nothing behind the cut says what was synced, so this looks like any crash.
        assert result.end.damage is None
        left = sample.partial[sample.starts[count] if size >= HEADER_SIZE else 0 : size]
        tail = result.end.torn_tail
        assert (tail.size if tail else 0) == len(left.rstrip(b"\0"))


@pytest.mark.figure(name="J1")
def test_a_whole_segment_cut_at_any_byte_is_damage(
    sample: Sample, tmp_path: Path, is_full: bool, seed: int
) -> None:
    file = tmp_path / WHOLE
    file.write_bytes(sample.whole)
    for size in cuts(sample, len(sample.whole), is_full, seed)[:: 4 if is_full else 1]:
        os.truncate(file, size)
        result, count = replay(tmp_path), sample.count_before(size)
        assert_prefix(result, sample.records, count)
        damage = result.end.damage
        assert damage is not None
        assert damage.offset == (sample.starts[count] if size >= HEADER_SIZE else 0)
        assert not result.end.is_whole


def test_a_cut_in_an_earlier_segment_is_damage_where_a_later_one_proves_the_sync(
    tmp_path: Path,
) -> None:
    records = some_records(20, seed=3)
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        append_all(journal, records[:10])
        journal.sync()
        journal.roll()
        append_all(journal, records[10:])
        journal.abandon()
    file = tmp_path / PARTIAL
    size = file.stat().st_size
    os.truncate(file, size - 1)
    result = replay(tmp_path)
    assert_prefix(result, records, 9)
    damage = result.end.damage
    assert damage is not None
    assert (damage.file, damage.last_sequence) == (PARTIAL, 9)
    assert (damage.lost_records, damage.intact_records) == (11, 10)


def test_the_frame_of_a_torn_record_proves_that_what_it_calls_synced_was(tmp_path: Path) -> None:
    records = some_records(10, seed=3)
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        append_all(journal, records)
        journal.sync()
        torn = journal.segment_size
        journal.append(1, b"only its frame came through")
        journal.abandon()
    raw = bytearray((tmp_path / PARTIAL).read_bytes()[: torn + FRAME_SIZE])
    raw[torn - 1] ^= 1
    (tmp_path / PARTIAL).write_bytes(raw)
    result = replay(tmp_path)
    assert_prefix(result, records, 9)
    assert result.end.damage is not None
    assert (result.end.damage.lost_records, result.end.damage.intact_records) == (2, 0)


def test_a_cut_in_an_earlier_segment_that_no_sync_covered_is_a_torn_tail(tmp_path: Path) -> None:
    records = some_records(20, seed=3)
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        append_all(journal, records[:10])
        journal.roll()
        append_all(journal, records[10:])
        journal.abandon()
    os.truncate(tmp_path / PARTIAL, (tmp_path / PARTIAL).stat().st_size - 1)
    result = replay(tmp_path)
    assert_prefix(result, records, 9)
    assert result.end.damage is None
    assert result.end.torn_tail is not None
    assert result.end.torn_tail.intact_records == 10
    assert result.end.highest_sequence == 20


# J2, flipped bits


def test_a_whole_segment_without_records_before_a_gap_proves_no_sync_of_what_is_missing(
    tmp_path: Path,
) -> None:
    """The power goes between two segments: the first record of the one was not synced."""
    first, lost, late = some_records(3, seed=8)
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        append_all(journal, [first])
        journal.roll()
        journal.roll()
        journal.sync()
        journal.seal()
        append_all(journal, [lost])
        journal.roll()
        append_all(journal, [late])
        journal.abandon()
    (file,) = tmp_path.glob("journal-5.wal*")
    with file.open("r+b") as unsynced:
        unsynced.truncate(HEADER_SIZE)
    result = replay(tmp_path)
    assert result.records == [first]
    assert result.end.damage is None
    assert result.end.torn_tail is not None


def bits_to_flip(sample: Sample, content: bytes, length: Length, seed: int) -> Iterator[int]:
    """All bits of frames and header json, 1 in 16 others; 1 in 128 of these; or all of all."""
    frames = {start + by for start in sample.starts for by in range(FRAME_SIZE)}
    choice = random.Random(seed)
    json_end = content.index(b"}", FRAME_SIZE) + 20
    for bit in range(len(content) * 8):
        is_head = bit // 8 in frames or bit // 8 < json_end
        usual = 1 if is_head else 16
        share = length.pick(sample=128 * usual, full=usual, long=1)
        if choice.randrange(share) == 0:
            yield bit


def flipped(content: bytes, bit: int) -> bytes:
    raw = bytearray(content)
    raw[bit // 8] ^= 1 << bit % 8
    return bytes(raw)


@pytest.mark.figure(name="J2")
def test_every_flipped_bit_before_the_tail_is_damage_and_behind_it_ends_the_replay(
    sample: Sample, file: Path, length: Length, seed: int, reached: Reached
) -> None:
    checked = 0
    for bit in bits_to_flip(sample, sample.partial, length, seed):
        file.write_bytes(flipped(sample.partial, bit))
        result = replay(file.parent)
        count = sample.count_before(bit // 8)
        assert_prefix(result, sample.records, count if bit // 8 >= HEADER_SIZE else 0)
        if bit // 8 < HEADER_SIZE:
            assert result.end.damage is not None
            assert result.end.damage.offset == 0
            assert result.end.damage.intact_records == len(sample.records)
        elif count < SYNCED:
            assert result.end.damage is not None
            assert result.end.damage.offset == sample.starts[count]
            assert result.end.damage.lost_records == len(sample.records) - count
            assert result.end.damage.intact_records == len(sample.records) - count - 1
        else:
            assert result.end.damage is None
            assert result.end.torn_tail is not None
            assert result.end.torn_tail.offset == sample.starts[count]
        checked += 1
    reached(checked, "flipped bits")
    assert checked > 500


@pytest.mark.figure(name="J2")
def test_every_flipped_bit_of_a_whole_segment_is_damage(
    sample: Sample, tmp_path: Path, length: Length, seed: int, reached: Reached
) -> None:
    file = tmp_path / WHOLE
    trailer = range(sample.starts[-1] * 8, len(sample.whole) * 8)
    step = length.pick(sample=8, full=1, long=1)
    count = length.pick(sample=100, full=2000, long=sample.starts[-1] * 8)
    others = random.Random(seed).sample(range(sample.starts[-1] * 8), count)
    reached(len(trailer[::step]) + count, "flipped bits")
    for bit in (*trailer[::step], *others):
        file.write_bytes(flipped(sample.whole, bit))
        result = replay(tmp_path)
        count = sample.count_before(bit // 8) if bit // 8 >= HEADER_SIZE else 0
        assert_prefix(result, sample.records, count)
        assert result.end.damage is not None
        assert not result.end.is_whole


# J3, sectors, junk, hostile lengths, other journals


def assert_sound(result: Replayed, sample: Sample, content: bytes) -> None:
    """A prefix came out, and if bytes before the tail are not the ones written, it is damage."""
    count = len(result.records)
    assert_prefix(result, sample.records, count)
    assert (
        sample.partial[HEADER_SIZE : sample.starts[count]]
        == content[HEADER_SIZE : sample.starts[count]]
    )
    if content[: sample.starts[SYNCED]] != sample.partial[: sample.starts[SYNCED]]:
        assert result.end.damage is not None
        assert count < SYNCED
    elif content != sample.partial:
        assert count >= SYNCED


@pytest.mark.figure(name="J3")
@pytest.mark.parametrize("size", [512, 4096])
@pytest.mark.parametrize("change", ["zeroed", "swapped", "duplicated", "older", "noise"])
def test_a_changed_sector_is_never_replayed(
    sample: Sample, tmp_path: Path, size: int, change: str, is_full: bool, seed: int
) -> None:
    # The same records at the same places under the same numbers, by an earlier run.
    older = make_sample(tmp_path / "older", run=RunId("f" * 32))
    assert older.starts == sample.starts
    (tmp_path / "changed").mkdir()
    file = tmp_path / "changed" / PARTIAL
    choice = random.Random(seed)
    starts = range(0, len(sample.partial), size)
    for start in starts if is_full else choice.sample(starts, min(16, len(starts))):
        raw = bytearray(sample.partial)
        other = choice.choice([one for one in starts[:-1] if one != start])
        piece = raw[start : start + size]
        match change:
            case "zeroed":
                raw[start : start + size] = bytes(len(piece))
            case "swapped":
                raw[start : start + size] = raw[other : other + size][: len(piece)]
                raw[other : other + len(piece)] = piece
            case "duplicated":
                raw[other : other + len(piece)] = piece
            case "older":
                raw[start : start + size] = older.partial[start : start + size]
            case _:
                raw[start : start + size] = choice.randbytes(len(piece))
        file.write_bytes(raw)
        assert_sound(replay(file.parent), sample, bytes(raw))


def test_an_older_generation_of_whole_records_is_not_replayed(
    sample: Sample, tmp_path: Path
) -> None:
    older = make_sample(tmp_path / "older", run=RunId("f" * 32))
    (tmp_path / "changed").mkdir()
    file = tmp_path / "changed" / PARTIAL
    for index in range(0, len(sample.records), 10):
        start, stop = sample.starts[index], sample.starts[index + 1]
        file.write_bytes(sample.partial[:start] + older.partial[start:stop] + sample.partial[stop:])
        assert len(replay(file.parent).records) == index


def test_the_header_of_an_older_generation_hides_no_loss(sample: Sample, file: Path) -> None:
    header = encode_header(replace(HEADER, run=RunId("f" * 32)), 1)
    file.write_bytes(header + sample.partial[HEADER_SIZE:])
    result = replay(file.parent)
    assert result.records == []
    assert result.end.damage is not None
    assert result.end.damage.intact_records == len(sample.records)


def test_a_record_that_was_written_elsewhere_is_not_replayed(tmp_path: Path) -> None:
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        for _ in range(6):
            journal.append(7, b"same", b"size")
        journal.abandon()
    file = tmp_path / PARTIAL
    raw = file.read_bytes()
    size = FRAME_SIZE + 8
    records = [raw[HEADER_SIZE + size * n :][:size] for n in range(6)]
    for order in ([0, 1, 1, 3, 4, 5], [0, 1, 3, 2, 4, 5], [0, 1, 3, 4, 5]):
        file.write_bytes(raw[:HEADER_SIZE] + b"".join(records[number] for number in order))
        assert replay(tmp_path).sequences == [1, 2]


@pytest.mark.parametrize("junk", [b"\x01", b"PDJ", b"\xff" * 5000, bytes(9000) + b"x"])
def test_junk_behind_a_journal_is_told_and_not_replayed(
    sample: Sample, tmp_path: Path, junk: bytes
) -> None:
    (tmp_path / PARTIAL).write_bytes(sample.partial + junk)
    result = replay(tmp_path)
    assert_prefix(result, sample.records, len(sample.records))
    assert result.end.damage is None
    assert result.end.torn_tail is not None
    assert (result.end.torn_tail.offset, result.end.torn_tail.size) == (
        sample.starts[-1],
        len(junk),
    )
    (tmp_path / PARTIAL).unlink()
    (tmp_path / WHOLE).write_bytes(sample.whole + junk)
    result = replay(tmp_path)
    assert_prefix(result, sample.records, len(sample.records))
    assert result.end.damage is not None
    assert result.end.damage.lost_records == 0


@pytest.mark.parametrize("zeros", [1, 511, 512, 4096, 10 << 20])
def test_zeros_at_the_end_of_a_segment_are_a_normal_end(
    sample: Sample, tmp_path: Path, zeros: int
) -> None:
    for name, content in ((PARTIAL, sample.partial), (WHOLE, sample.whole)):
        (tmp_path / name).write_bytes(content + bytes(zeros))
        result = replay(tmp_path)
        assert_prefix(result, sample.records, len(sample.records))
        assert (result.end.torn_tail, result.end.damage) == (None, None)
        (tmp_path / name).unlink()


HOSTILE = [0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]


@pytest.mark.parametrize("field", [8, 12])
@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_length_costs_no_memory_and_ends_the_replay(
    sample: Sample, file: Path, field: int, value: int
) -> None:
    raw = bytearray(sample.partial)
    start = sample.starts[sample.target]
    raw[start + field : start + field + 4] = value.to_bytes(4, "little")
    file.write_bytes(raw)
    assert_sound_within(file, sample, bytes(raw))


@pytest.mark.parametrize("value", [0, 1, 50, 52, 1 << 31, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("sizes", [(4, 4), (0x7FFF_FFFF, 0), (0, 0xFFFF_FFFF), (1 << 30, 1 << 30)])
def test_a_hostile_frame_with_a_right_checksum_costs_no_memory_and_ends_the_replay(
    sample: Sample, file: Path, value: int, sizes: tuple[int, int]
) -> None:
    raw = bytearray(sample.partial)
    start = sample.starts[sample.target]
    raw[start : start + FRAME_SIZE] = forged_frame(start, sizes, value)
    file.write_bytes(raw)
    assert_sound_within(file, sample, bytes(raw))


def forged_frame(offset: int, sizes: tuple[int, int], sequence: int) -> bytes:
    class Claimed(bytes):
        size: int

        def __len__(self) -> int:
            return self.size

    body, data = Claimed(b""), Claimed(b"")
    body.size, data.size = sizes
    return encode_frame(origin_of(SESSION, RUN, 1), offset, 7, body, data, sequence, 0)


def assert_sound_within(file: Path, sample: Sample, content: bytes, mib: int = 16) -> None:
    tracemalloc.start()
    try:
        result = replay(file.parent)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_sound(result, sample, content)
    assert len(result.records) == sample.target
    assert peak < mib << 20


def test_a_file_full_of_magic_is_read_in_time_and_yields_nothing(
    sample: Sample, file: Path
) -> None:
    file.write_bytes(sample.partial + b"PDJ" * 100_000)
    result = replay(file.parent)
    assert_prefix(result, sample.records, len(sample.records))


def test_records_inside_the_data_of_a_record_are_never_taken_for_records(
    sample: Sample, tmp_path: Path
) -> None:
    """Somebody copies the live journal into the mount."""
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        journal.append(1, b"")
        start = journal.segment_size
        journal.append(2, b"a copy", sample.partial)
        journal.abandon()
    file = tmp_path / PARTIAL
    raw = bytearray(file.read_bytes())
    raw[start] ^= 1
    file.write_bytes(raw)
    result = replay(tmp_path)
    assert result.sequences == [1]
    assert result.end.damage is None
    assert result.end.torn_tail is not None
    assert result.end.torn_tail.intact_records == 0


@pytest.mark.parametrize(
    "header",
    [
        replace(HEADER, session=SessionId("a" * 32)),
        replace(HEADER, session=SessionId("a" * 32), stage="other", machine="ws8"),
    ],
)
def test_a_journal_of_another_session_is_refused_untouched(tmp_path: Path, header: Header) -> None:
    with directory_of(tmp_path) as directory, Journal.create(OsDisk(), directory, header) as other:
        other.append(2, b"theirs")
    before = contents(tmp_path)
    with pytest.raises(JournalDamaged, match=f"belongs to session {'a' * 32}.*move that file"):
        replay(tmp_path)
    assert contents(tmp_path) == before


def test_segments_of_two_stages_are_refused(tmp_path: Path) -> None:
    with directory_of(tmp_path) as directory:
        Journal.create(OsDisk(), directory, HEADER).close()
        Journal.create(OsDisk(), directory, replace(HEADER, stage="b"), segment=2).close()
    with pytest.raises(JournalDamaged, match="several stages"):
        replay(tmp_path)


@pytest.mark.parametrize("schema", [1, 3, 1 << 40])
def test_a_journal_of_another_version_is_refused_untouched(tmp_path: Path, schema: int) -> None:
    block = bytearray(encode_header(HEADER, 1))
    fields = json.loads(block[FRAME_SIZE:])
    body = json.dumps({"unheard of": [], **fields, "schema": schema}).encode()
    body = body.ljust(HEADER_SIZE - FRAME_SIZE)
    frame = encode_frame(origin_of(SESSION, RUN, 1), 0, 0, body, b"", 0, 0)
    (tmp_path / PARTIAL).write_bytes(frame + body + b"whatever follows then")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=f"schema {schema}.*newer"):
        replay(tmp_path)
    assert contents(tmp_path) == before


def test_a_copy_of_a_segment_under_another_number_is_refused(
    sample: Sample, tmp_path: Path
) -> None:
    (tmp_path / WHOLE).write_bytes(sample.whole)
    (tmp_path / "journal-2.wal").write_bytes(sample.whole)
    with pytest.raises(JournalDamaged, match=r"journal-2\.wal is no segment.*copy of segment 1"):
        replay(tmp_path)


def test_two_files_of_one_segment_are_refused(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / WHOLE).write_bytes(sample.whole)
    (tmp_path / PARTIAL).write_bytes(sample.partial)
    with pytest.raises(JournalDamaged, match="the same segment"):
        replay(tmp_path)


def test_a_symlink_is_never_followed(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(sample.partial)
    (tmp_path / PARTIAL).symlink_to("elsewhere")
    with pytest.raises(JournalDamaged, match="symlink"):
        replay(tmp_path)


def test_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / PARTIAL)
    with pytest.raises(JournalDamaged, match="not a regular file"):
        replay(tmp_path)


def test_other_files_are_ignored(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / PARTIAL).write_bytes(sample.partial)
    for name in (
        "journal-0.wal",
        "journal-01.wal",
        "journal-1.wal.bak",
        "snapshot",
        "journal-٣.wal",
    ):
        (tmp_path / name).write_bytes(b"?")
    assert_prefix(replay(tmp_path), sample.records, len(sample.records))


# Segments, snapshots, ends


def test_a_missing_segment_stops_the_replay_with_damage(tmp_path: Path) -> None:
    records = some_records(30, seed=4)
    with (
        directory_of(tmp_path) as directory,
        Journal.create(OsDisk(), directory, HEADER) as journal,
    ):
        for start in (0, 10, 20):
            append_all(journal, records[start : start + 10])
            journal.roll()
    (tmp_path / "journal-3.wal").unlink()
    result = replay(tmp_path)
    assert_prefix(result, records, 10)
    assert result.end.damage is not None
    assert result.end.damage.lost_records == 20
    (tmp_path / "journal-1.wal").unlink()
    result = replay(tmp_path)
    assert_prefix(result, records, 0)
    assert result.end.damage is not None


def test_the_only_segment_with_records_is_missed_also_where_an_empty_one_is_behind_it(
    tmp_path: Path,
) -> None:
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        append_all(journal, some_records(4, seed=6))
        journal.prepare()
        journal.abandon()
    (tmp_path / PARTIAL).unlink()
    result = replay(tmp_path)
    assert result.records == []
    damage = result.end.damage
    assert damage is not None
    assert (damage.file, damage.is_gone, damage.lost_records) == (WHOLE, True, 0)
    assert str(damage) == f"{WHOLE} is gone: what was done after operation number 0 is lost"
    assert replay(tmp_path, through=2).end.damage is None, "the snapshot has what was in it"


@pytest.mark.parametrize("is_prepared", [False, True])
def test_the_last_segment_with_records_is_missed(tmp_path: Path, is_prepared: bool) -> None:
    records = some_records(20, seed=6)
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        append_all(journal, records[:10])
        journal.roll()
        append_all(journal, records[10:])
        journal.sync()
        journal.seal()
        if is_prepared:
            journal.prepare()
        journal.abandon()
    assert replay(tmp_path).end.damage is None
    (tmp_path / "journal-3.wal.__partial__").unlink()
    result = replay(tmp_path)
    assert_prefix(result, records, 10)
    damage = result.end.damage
    assert damage is not None
    assert (damage.file, damage.is_gone) == ("journal-3.wal", True)


def test_the_last_segment_of_a_closed_journal_is_missed(tmp_path: Path) -> None:
    with (
        directory_of(tmp_path) as directory,
        Journal.create(OsDisk(), directory, HEADER) as journal,
    ):
        append_all(journal, some_records(10, seed=6))
        journal.roll()
        append_all(journal, some_records(10, seed=7))
    assert replay(tmp_path).end.is_whole
    (tmp_path / "journal-3.wal").unlink()
    end = replay(tmp_path).end
    assert end.damage is not None
    assert (end.damage.file, end.is_whole) == ("journal-3.wal", False)


def test_torn_bytes_before_a_segment_that_is_gone_are_told_with_it(tmp_path: Path) -> None:
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        append_all(journal, some_records(5, seed=6))
        for _ in range(2):
            journal.roll()
        journal.abandon()
    os.truncate(tmp_path / PARTIAL, (tmp_path / PARTIAL).stat().st_size - 1)
    assert replay(tmp_path).end.damage is None
    (tmp_path / "journal-3.wal.__partial__").unlink()
    damage = replay(tmp_path).end.damage
    assert damage is not None
    assert (damage.file, damage.is_gone, damage.size > 0) == (PARTIAL, False, True)
    assert str(damage).endswith("; journal-3.wal is gone, too")


def test_what_the_snapshot_holds_is_not_replayed_and_may_be_damaged(tmp_path: Path) -> None:
    records = some_records(30, seed=4)
    with (
        directory_of(tmp_path) as directory,
        Journal.create(OsDisk(), directory, HEADER) as journal,
    ):
        for start in (0, 10, 20):
            append_all(journal, records[start : start + 10])
            journal.roll()
    assert replay(tmp_path, after=20).sequences == list(range(21, 31))
    (tmp_path / "journal-1.wal").unlink()
    result = replay(tmp_path, after=20, through=2)
    assert result.records == records[20:]
    assert result.end.damage is None
    file = tmp_path / "journal-3.wal"
    file.write_bytes(flipped(file.read_bytes(), (HEADER_SIZE + 5) * 8))
    result = replay(tmp_path, after=20, through=2)
    assert result.records == records[20:]


def test_the_number_after_the_snapshot_is_missing(tmp_path: Path) -> None:
    with (
        directory_of(tmp_path) as directory,
        Journal.create(OsDisk(), directory, HEADER, first_sequence=11) as journal,
    ):
        append_all(journal, some_records(5, seed=1))
    result = replay(tmp_path, after=9)
    assert result.sequences == []
    assert result.end.damage is not None
    assert replay(tmp_path, after=10).sequences == [11, 12, 13, 14, 15]
    assert replay(tmp_path, after=15).end.is_whole


def test_a_segment_named_whole_behind_a_gap_proves_that_the_gap_was_synced(
    tmp_path: Path,
) -> None:
    records = some_records(20, seed=3)
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        append_all(journal, records[:10])
        journal.roll()
        append_all(journal, records[10:])
        journal.abandon()
    os.truncate(tmp_path / PARTIAL, (tmp_path / PARTIAL).stat().st_size - 1)
    assert replay(tmp_path).end.damage is None
    (tmp_path / "journal-3.wal.__partial__").rename(tmp_path / "journal-3.wal")
    result = replay(tmp_path)
    assert_prefix(result, records, 9)
    assert result.end.damage is not None
    assert result.end.damage.offset > HEADER_SIZE


def test_a_trailer_proves_that_nothing_is_missing_before_it(tmp_path: Path) -> None:
    (tmp_path / PARTIAL).write_bytes(encode_header(HEADER, 1)[:99])
    with directory_of(tmp_path) as directory:
        Journal.create(OsDisk(), directory, HEADER, segment=2).close()
    assert replay(tmp_path).end.is_whole


@pytest.mark.parametrize("bit", [0, 300, 800, 4095 * 8])
def test_records_behind_a_damaged_header_prove_that_it_was_synced(tmp_path: Path, bit: int) -> None:
    """Also when no sync was ever called: the first record is written after that of the header."""
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        append_all(journal, some_records(3, seed=8))
        journal.abandon()
    file = tmp_path / PARTIAL
    file.write_bytes(flipped(file.read_bytes(), bit))
    result = replay(tmp_path)
    assert result.records == []
    assert result.end.damage is not None
    assert (result.end.damage.offset, result.end.damage.intact_records) == (0, 3)


@pytest.mark.parametrize("wrong", ["records", "body_bytes", "data_bytes", "sequence"])
def test_a_trailer_that_does_not_fit_its_records_is_damage(
    sample: Sample, tmp_path: Path, wrong: str
) -> None:
    count, sequence = len(sample.records), len(sample.records) + (wrong == "sequence")
    totals = Totals(
        count,
        sum(len(body) for _, body, _ in sample.records),
        sum(len(data) for _, _, data in sample.records),
    )
    assert sample.whole == sample.partial + trailer_after(sample, totals, count)
    if wrong != "sequence":
        totals = replace(totals, **{wrong: getattr(totals, wrong) + 1})
    (tmp_path / WHOLE).write_bytes(sample.partial + trailer_after(sample, totals, sequence))
    result = replay(tmp_path)
    assert_prefix(result, sample.records, count)
    assert result.end.damage is not None


def trailer_after(sample: Sample, totals: Totals, last_sequence: int) -> bytes:
    return encode_trailer(
        origin_of(SESSION, RUN, 1), sample.starts[-1], Trailer(totals, 0), last_sequence
    )


def test_a_journal_is_read_once(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / PARTIAL).write_bytes(sample.partial)
    with directory_of(tmp_path) as directory:
        loaded = load(OsDisk(), directory, session=SESSION)
        list(loaded.records())
        with pytest.raises(SessionError, match="already"):
            list(loaded.records())
        assert loaded.end.damage is None


def test_a_recovery_that_was_cut_short_is_no_damage(tmp_path: Path) -> None:
    """Numbers go on above a record that was dropped; the snapshot that allows it never came."""
    records = some_records(5, seed=9)
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        append_all(journal, records[:4])
        start = journal.segment_size
        append_all(journal, records[4:])
        end = journal.segment_size
        journal.append(1, b"", b"intact, but behind the gap")
        journal.abandon()
    file = tmp_path / PARTIAL
    raw = file.read_bytes()
    file.write_bytes(raw[:start] + bytes(end - start) + raw[end:])
    end_of_first = replay(tmp_path).end
    assert (end_of_first.last_sequence, end_of_first.highest_sequence) == (4, 6)
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER, segment=2, first_sequence=7)
        append_all(journal, records)
        journal.abandon()
    result = replay(tmp_path)
    assert_prefix(result, records, 4)
    assert result.end.damage is None
    assert replay(tmp_path, after=6).sequences == [7, 8, 9, 10, 11]


def test_an_empty_directory_is_an_empty_journal(tmp_path: Path) -> None:
    result = replay(tmp_path, after=5)
    assert result.records == []
    assert (result.end.last_sequence, result.end.is_whole) == (5, False)
    with directory_of(tmp_path) as directory:
        loaded = load(OsDisk(), directory, session=SESSION)
        assert (loaded.header, loaded.highest_segment) == (None, 0)


@pytest.mark.parametrize("size", [0, 1, 47, 300, 4095])
def test_a_segment_whose_creation_was_cut_short_is_no_damage(tmp_path: Path, size: int) -> None:
    records = some_records(4, seed=6)
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        append_all(journal, records)
        journal.sync()
        journal.abandon()
    (tmp_path / "journal-2.wal.__partial__").write_bytes(encode_header(HEADER, 2)[:size])
    result = replay(tmp_path)
    assert_prefix(result, records, 4)
    assert result.end.damage is None


def test_a_prepared_segment_that_was_never_used_is_no_damage(tmp_path: Path) -> None:
    with directory_of(tmp_path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        append_all(journal, some_records(4, seed=6))
        journal.prepare()
        journal.abandon()
        loaded = load(OsDisk(), directory, session=SESSION)
        assert len(list(loaded.records())) == 4
    assert (loaded.end.torn_tail, loaded.end.damage) == (None, None)
    assert loaded.highest_segment == 3


def test_the_header_is_known_before_the_first_record(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / PARTIAL).write_bytes(sample.partial)
    with directory_of(tmp_path) as directory:
        loaded = load(OsDisk(), directory, session=SESSION)
        assert loaded.header == HEADER
        with pytest.raises(SessionError, match="not read to its end"):
            _ = loaded.end


def test_replaying_changes_no_file(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / PARTIAL).write_bytes(flipped(sample.partial, sample.starts[9] * 8) + b"junk")
    before = contents(tmp_path)
    replay(tmp_path)
    assert contents(tmp_path) == before


def test_damage_says_where_and_what_is_lost(sample: Sample, file: Path) -> None:
    file.write_bytes(flipped(sample.partial, sample.starts[9] * 8))
    assert str(replay(file.parent).end.damage) == (
        f"{PARTIAL} is damaged from byte {sample.starts[9]} on"
        f" ({len(sample.partial) - sample.starts[9]} bytes): at least 193 operations after number 9"
        " are lost, 192 of them still readable behind the damage"
    )


def test_big_records_are_checked_in_pieces(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(40 << 20)
    with (
        directory_of(tmp_path) as directory,
        Journal.create(OsDisk(), directory, HEADER) as journal,
    ):
        journal.append(2, b"big", data)
        journal.append(2, b"small")
        journal.append(2, data[: 9 << 20], b"x")
    with directory_of(tmp_path) as directory:
        loaded = load(OsDisk(), directory, session=SESSION)
        tracemalloc.start()
        sizes = [(record.data_size, len(record.body)) for record in loaded.records()]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert sizes == [(40 << 20, 3), (0, 5), (1, 9 << 20)]
    assert loaded.end.is_whole
    assert peak < 32 << 20
    file = tmp_path / WHOLE
    for place in (HEADER_SIZE + 100, (39 << 20), file.stat().st_size - 200):
        raw = bytearray(file.read_bytes())
        raw[place] ^= 1
        (tmp_path / WHOLE).write_bytes(raw)
        assert replay(tmp_path).end.damage is not None
        raw[place] ^= 1
        (tmp_path / WHOLE).write_bytes(raw)


@pytest.mark.parametrize("window", [FRAME_SIZE, 50, 61, 999, 4096])
def test_nothing_is_missed_at_the_edges_of_the_pieces_that_are_read(
    sample: Sample, file: Path, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdfs.local.journal_reader._WINDOW", window)
    file.write_bytes(sample.partial)
    assert_prefix(replay(file.parent), sample.records, len(sample.records))
    for index in range(0, len(sample.records), 30):
        file.write_bytes(flipped(sample.partial, sample.starts[index] * 8))
        result = replay(file.parent)
        assert_prefix(result, sample.records, index)
        end = result.end.damage or result.end.torn_tail
        assert end is not None
        assert end.intact_records == len(sample.records) - index - 1
        assert end.size == len(sample.partial.rstrip(b"\0")) - sample.starts[index]


def test_checksums_are_those_of_the_grammar(sample: Sample) -> None:
    """Computed here by the words of `journal_format`, without its code."""
    kind, body, data = sample.records[3]
    start = sample.starts[3]
    frame = sample.partial[start : start + FRAME_SIZE]
    mark = xxhash.xxh3_64_intdigest(bytes.fromhex(RUN)) % (1 << 32)
    head = (
        b"PDJ"
        + bytes([kind])
        + b"".join(
            number.to_bytes(size, "little")
            for number, size in [(mark, 4), (len(body), 4), (len(data), 4), (4, 8), (0, 8)]
        )
    )
    head += xxhash.xxh3_64_intdigest(body + data).to_bytes(8, "little")
    place = bytes.fromhex(SESSION) + (1).to_bytes(8, "little") + start.to_bytes(8, "little")
    assert frame == head + xxhash.xxh3_64_intdigest(place + head).to_bytes(8, "little")


def contents(path: Path) -> dict[str, tuple[bytes, int]]:
    return {entry.name: (entry.read_bytes(), entry.stat().st_mtime_ns) for entry in path.iterdir()}
