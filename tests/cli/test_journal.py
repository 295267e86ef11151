"""`pdfs journal dump` and `verify`: what they print, and how they end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pdfs.core import snapshot
from pdfs.core.generation import tree_of
from pdfs.core.ids import Inode
from pdfs.core.manifest import Top, never_published
from pdfs.core.record import Create, Kind, Record, SetAttributes, SetXattr, Write, encode
from pdfs.disk import OsDisk, replace_file
from pdfs.local.journal import Journal
from pdfs.local.snapshot import encode_snapshot_head
from tests.cli.conftest import Run
from tests.local.journals import HEADER, RUN, SESSION, directory_of

RECORDS: list[Record] = [
    Create(
        parent=Inode(1),
        name="\x1b[2J\udcff.dwg",
        ino=Inode(5),
        kind=Kind.FILE,
        mode=0o644,
        uid=1000,
        gid=1000,
        time=7,
    ),
    Write(ino=Inode(5), offset=4096, time=8),
    SetAttributes(ino=Inode(5), time=9, size=10),
    SetXattr(ino=Inode(5), name="user.a", time=10, value=b"\xff"),
]
SEGMENT = "journal-1.wal"
PARTIAL = SEGMENT + ".__partial__"


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A session's directory whose process was killed."""
    path = tmp_path / SESSION
    path.mkdir()
    with directory_of(path) as directory:
        tree = tree_of(never_published(Top(mtime=1)), None, uid=1000, gid=1000)
        body = bytes(16) + snapshot.encode(tree)
        replace_file(OsDisk(), directory, "snapshot", encode_snapshot_head(SESSION, body), body)
        journal = Journal.create(OsDisk(), directory, HEADER)
        for record in RECORDS:
            kind, body = encode(record)
            journal.append(kind, body, b"data" if isinstance(record, Write) else b"")
        journal.abandon()
    (path / "session.json").write_text("{}")
    (path / "session.lock").touch()
    return path


def test_who_has_read_enough_of_a_dump_sees_no_error(crashed: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    dump = "from pdfs.cli.app import main; main()"
    command = [sys.executable, "-c", dump, "journal", "dump", str(crashed / PARTIAL)]
    said = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert said.stderr == b""


def test_dump_gives_a_line_for_each_record(run: Run, crashed: Path) -> None:
    said = run("journal", "dump", crashed / PARTIAL)
    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout.isascii()
    header, *records, end = map(json.loads, said.stdout.splitlines())
    assert (header["kind"], header["session"], header["run"]) == ("header", SESSION, RUN)
    assert [record["kind"] for record in records] == [
        "create",
        "write",
        "set_attributes",
        "set_xattr",
    ]
    assert records[0]["fields"]["name"] == "\x1b[2J\udcff.dwg"
    assert records[1] == {
        "sequence": 2,
        "segment": 1,
        "offset": records[1]["offset"],
        "data_size": 4,
        "kind": "write",
        "fields": {"ino": 5, "offset": 4096, "time": 8},
    }
    raw = (crashed / PARTIAL).read_bytes()
    for record in records:
        assert raw[record["offset"] :].startswith(b"PDJ")
    assert (end["kind"], end["last_sequence"], end["damage"]) == ("end", 4, None)


def test_dump_shows_whole_records_behind_damage_and_ends_with_11(run: Run, crashed: Path) -> None:
    with directory_of(crashed) as directory:
        (crashed / PARTIAL).unlink()
        with Journal.create(OsDisk(), directory, HEADER) as journal:
            for record in RECORDS:
                journal.append(*encode(record))
    file = crashed / SEGMENT
    offset = json.loads(run("journal", "dump", file).stdout.splitlines()[2])["offset"]
    raw = bytearray(file.read_bytes())
    raw[offset + 50] ^= 1
    file.write_bytes(raw)
    said = run("journal", "dump", file)
    _, *records, end = map(json.loads, said.stdout.splitlines())
    assert [(r["sequence"], r.get("is_replayed", True)) for r in records] == [
        (1, True),
        (3, False),
        (4, False),
    ]
    assert end["damage"]["offset"] == offset
    assert said.exit_code == 11
    assert f"{SEGMENT} is damaged from byte {offset} on" in said.stderr
    assert "at least 3 operations after number 1 are lost" in said.stderr


def test_dump_of_a_record_that_cannot_be_decoded_says_so(run: Run, tmp_path: Path) -> None:
    with (
        directory_of(tmp_path) as directory,
        Journal.create(OsDisk(), directory, HEADER) as journal,
    ):
        journal.append(200, b"{}")
        journal.append(1, b"[" * 100_000)
    said = run("journal", "dump", tmp_path / SEGMENT)
    first, second = map(json.loads, said.stdout.splitlines()[1:3])
    assert (first["kind"], "unknown code 200" in first["problem"]) == ("code 200", True)
    assert (second["kind"], "problem" in second) == ("code 1", True)


def test_dump_of_a_snapshot_is_a_summary(run: Run, crashed: Path) -> None:
    (line,) = run("journal", "dump", crashed / "snapshot").stdout.splitlines()
    summary = json.loads(line)
    assert (summary["kind"], summary["head"]["session"]) == ("snapshot", SESSION)
    assert summary["nodes"] == {"directory": 1}


def test_verify_of_a_sound_journal_ends_with_0(run: Run, crashed: Path) -> None:
    said = run("journal", "verify", crashed)
    assert said.exit_code == 0
    assert said.stdout.splitlines() == [
        "snapshot: whole, as of record 0",
        f"{SESSION}: 4 records (1 to 4); sound, not closed: its session lives, or crashed",
    ]
    every = sorted(crashed.iterdir())
    assert run("journal", "verify", *every).exit_code == 0


def test_verify_says_that_a_torn_tail_is_normal(run: Run, crashed: Path) -> None:
    size = (crashed / PARTIAL).stat().st_size
    os.truncate(crashed / PARTIAL, size - 1)
    for target in (crashed, crashed / PARTIAL):
        said = run("journal", "verify", target)
        assert said.exit_code == 0
        assert "3 records (1 to 3); then a torn tail" in said.stdout
        assert "normal after a power cut" in said.stdout


def test_verify_names_the_first_bad_byte_and_what_is_lost(run: Run, crashed: Path) -> None:
    with directory_of(crashed) as directory:
        (crashed / PARTIAL).rename(crashed.parent / "gone")
        with Journal.create(OsDisk(), directory, HEADER) as journal:
            for record in RECORDS:
                journal.append(*encode(record))
    raw = bytearray((crashed / SEGMENT).read_bytes())
    raw[4096 + 20] ^= 1
    (crashed / SEGMENT).write_bytes(raw)
    for target in (crashed, crashed / SEGMENT):
        said = run("journal", "verify", target)
        assert said.exit_code == 11
        assert f"{SEGMENT} is damaged from byte 4096 on" in said.stdout
        assert "at least 4 operations after number 0 are lost, 3 of them still" in said.stdout
        assert "pdfs recover rescue" in said.stderr


def test_verify_goes_on_behind_a_damaged_file(run: Run, crashed: Path, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage\x1b[2J"
    garbage.write_bytes(os.urandom(5000))
    said = run("journal", "verify", garbage, crashed / PARTIAL)
    assert said.exit_code == 11
    assert "no segment of a journal" in said.stdout
    assert "\x1b" not in said.stdout
    assert f"{PARTIAL}: 4 records" in said.stdout


def test_a_journal_without_its_snapshot_is_said_to_hold_nothing(run: Run, crashed: Path) -> None:
    (crashed / "snapshot").unlink()
    said = run("journal", "verify", crashed)
    assert said.exit_code == 0
    assert "snapshot: there is none, and so nothing is replayed" in said.stdout


@pytest.mark.parametrize("command", ["dump", "verify"])
def test_what_cannot_be_read_ends_in_words(run: Run, tmp_path: Path, command: str) -> None:
    assert run("journal", command, tmp_path / "nowhere").exit_code == 3
    assert run("journal", command, tmp_path).exit_code == 2
    os.mkfifo(tmp_path / "pipe")
    assert run("journal", command, tmp_path / "pipe").exit_code == 8
    (tmp_path / "empty").touch()
    said = run("journal", command, tmp_path / "empty")
    assert said.exit_code == 11
    assert "Traceback" not in said.output


def test_neither_command_changes_anything(run: Run, crashed: Path) -> None:
    def look() -> dict[str, tuple[bytes, int]]:
        return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}

    files = sorted(crashed.iterdir())
    before = look()
    run("journal", "verify", crashed, *files)
    for file in files:
        run("journal", "dump", file)
    assert look() == before
    assert sorted(crashed.iterdir()) == files
