"""Journals of every schema that was released are read, and today's is written as it was (J6)."""

from pathlib import Path

import pytest

from pdfs.disk import OsDisk
from pdfs.local.journal_format import SCHEMA
from pdfs.local.journal_loader import JournalRecord, load, load_segment
from pdfs.local.snapshot import decode_snapshot
from tests.local.golden import CARRIED, GOLDEN, HEADER, RECORDS, SNAPSHOT, write
from tests.local.journals import directory_of

RELEASED = sorted(GOLDEN.iterdir())


def test_there_is_a_golden_journal_of_the_present_schema() -> None:
    assert GOLDEN / f"schema-{SCHEMA}" in RELEASED


@pytest.mark.figure(name="J6")
@pytest.mark.parametrize("golden", RELEASED, ids=lambda path: str(path.name))
def test_a_golden_journal_is_read(golden: Path) -> None:
    with directory_of(golden) as directory:
        loaded = load(OsDisk(), directory, session=HEADER.session)
        records = list(loaded.records())
    assert loaded.header == HEADER
    assert records == [
        JournalRecord(1, 1, RECORDS[0][1], 1, 4096 + 48 + 30, 0),
        JournalRecord(2, 2, RECORDS[1][1], 1, 4174 + 48 + 24, 20),
        JournalRecord(3, 2, RECORDS[2][1], 1, 4266 + 48 + 24, 768),
        JournalRecord(4, 254, b"", 3, 4096 + 48, 0),
        JournalRecord(5, 3, RECORDS[4][1], 3, 4144 + 48 + 41, 0),
    ]
    whole = (golden / "journal-1.wal").read_bytes()
    assert [whole[one.data_offset :][: one.data_size] for one in records[:3]] == [
        data for _, _, data in RECORDS[:3]
    ]
    assert (loaded.end.damage, loaded.end.torn_tail) == (None, None)


@pytest.mark.parametrize("golden", RELEASED, ids=lambda path: str(path.name))
def test_what_a_golden_checkpoint_carried_is_read(golden: Path) -> None:
    raw = (golden / "carried-2.wal").read_bytes()
    with directory_of(golden) as directory:
        loaded = load_segment(OsDisk(), directory, "carried-2.wal", session=None)
        records = list(loaded.records())
    assert [raw[one.data_offset :][: one.data_size] for one in records] == CARRIED
    assert {one.sequence for one in records} == {3}
    assert loaded.end.is_whole


@pytest.mark.figure(name="J6")
@pytest.mark.parametrize("golden", RELEASED, ids=lambda path: str(path.name))
def test_a_golden_snapshot_is_read(golden: Path) -> None:
    raw = (golden / "snapshot").read_bytes()
    assert decode_snapshot(raw, HEADER.session, file="snapshot") == SNAPSHOT


def test_the_journal_that_is_written_today_is_the_golden_one(tmp_path: Path) -> None:
    write(tmp_path)
    golden = GOLDEN / f"schema-{SCHEMA}"
    assert contents(tmp_path) == contents(golden)


def contents(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}
