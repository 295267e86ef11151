"""The session's log: what is in the file, whatever happens to the disk and the process."""

import errno
import fcntl
import json
import os
import random
import stat
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core.ids import Fence, RunId, SessionId
from pdfs.core.ids import Path as StagePath
from pdfs.core.notes import (
    Asked,
    ConflictCopied,
    Fetched,
    LockTaken,
    Mounted,
    Note,
    Published,
    StateChanged,
    Troubled,
    Unmounted,
)
from pdfs.core.states import State
from pdfs.disk import OsDisk
from pdfs.errors import (
    DamageFound,
    DiskError,
    DiskFull,
    LockError,
    SessionError,
    SessionNotFound,
    UsageError,
)
from pdfs.local.session_log import SessionLog, delete_old_logs
from pdfs.local.session_log_format import LONGEST_LINE, LogHeader, LogLine, encode_line
from pdfs.local.session_log_reader import BadLine, LineReader, LogReader, list_logs
from tests.local.crashing_disk import CrashingDisk, PowerCuts, pending
from tests.local.faulty_disk import Fault, FaultyDisk
from tests.local.journals import directory_of

ROOT = Path(__file__).parents[2]
SESSION = SessionId("5e55105e55105e55105e55105e551000")
HEADER = LogHeader(
    session=SESSION,
    run=RunId("0" * 31 + "1"),
    project="Kraftwerk_1234567",
    stage="planning",
    user="anna",
    machine="ws7",
    bucket="s3://plants/team-a",
    mountpoint="/mnt/plant",
    pid=4711,
    pdfs="0.1.0",
)
RESUMER = replace(HEADER, run=RunId("0" * 31 + "2"), pid=4712)
NOTES: list[Note] = [
    StateChanged(state=State.ACQUIRING),
    LockTaken(fence=Fence(7)),
    Mounted(mountpoint="/mnt/plänt"),
    Fetched(parts=3, bytes=3000),
    Troubled(kind="StoreUnavailable", what="the bucket does not answer"),
    Fetched(parts=1, bytes=10),
    ConflictCopied(path=StagePath("a (conflict \udcff).dxf")),
    Published(generation=42, files=2, bytes=99, missing=0),
    Unmounted(),
]


class Unsynced(OsDisk):
    """For tests that are not about power cuts: the real thing would cost them their speed."""

    def fsync(self, descriptor: int) -> None:
        pass


def begin(path: Path, header: LogHeader = HEADER, disk: OsDisk | None = None) -> SessionLog:
    """The log of a session whose state directory is `path`."""
    ticks = iter(range(1_800_000_000, 1_900_000_000))
    return SessionLog(
        disk or Unsynced(), PurePath(path) / "logs", header, now=lambda: float(next(ticks))
    )


def partial(path: Path) -> Path:
    return path / "logs" / f"{SESSION}.jsonl.__partial__"


def whole(path: Path) -> Path:
    return path / "logs" / f"{SESSION}.jsonl"


def read(path: Path) -> tuple[list[LogLine], list[BadLine], int]:
    """Lines, what is none, and the bytes of a torn last one."""
    with directory_of(path / "logs") as directory, LogReader(OsDisk(), directory, SESSION) as log:
        found = list(log.lines())
        lines = [line for line in found if isinstance(line, LogLine)]
        return lines, [line for line in found if isinstance(line, BadLine)], log.torn


def events(path: Path) -> list[str]:
    return [line.event for line in read(path)[0]]


def raw_lines(path: Path) -> list[dict[str, object]]:
    """As a script sees them, without any code of ours."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def contents(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in (path / "logs").iterdir()}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SessionLog]:
    with begin(tmp_path) as log:
        yield log


# What is written


def test_the_first_line_says_whose_log_it_is_before_anything_happens(
    log: SessionLog, tmp_path: Path
) -> None:
    (first,) = raw_lines(partial(tmp_path))
    assert first == {
        "n": 1,
        "at": "2027-01-15T08:00:00.000Z",
        "event": "begun",
        "schema": 1,
        "session": SESSION,
        "run": HEADER.run,
        "project": "Kraftwerk_1234567",
        "stage": "planning",
        "user": "anna",
        "machine": "ws7",
        "bucket": "s3://plants/team-a",
        "mountpoint": "/mnt/plant",
        "pid": 4711,
        "pdfs": "0.1.0",
    }
    assert log.records_written == 0


def test_each_event_is_in_the_file_when_its_call_returns(log: SessionLog, tmp_path: Path) -> None:
    for number, note in enumerate(NOTES, start=1):
        log.write(note)
        assert events(tmp_path)[1:] == [each.event for each in NOTES[:number]]
        assert log.records_written == number


def test_closing_adds_counts_and_totals_and_then_renames(log: SessionLog, tmp_path: Path) -> None:
    for note in NOTES:
        log.write(note)
    assert (log.path, log.partial_path) == (whole(tmp_path), partial(tmp_path))
    log.close()
    last = raw_lines(whole(tmp_path))[-1]
    assert not partial(tmp_path).exists()
    assert (last["event"], last["n"], last["records"], last["lost"]) == ("ended", 11, 9, 0)
    assert last["counts"] == {
        "state": 1,
        "lock_taken": 1,
        "mounted": 1,
        "fetched": 2,
        "trouble": 1,
        "conflict": 1,
        "published": 1,
        "unmounted": 1,
    }
    assert last["totals"] == {
        "published_files": 2,
        "published_bytes": 99,
        "fetched_bytes": 3010,
        "conflicts": 1,
    }


def test_close_and_abandon_can_be_called_again(tmp_path: Path) -> None:
    log = begin(tmp_path)
    log.abandon()
    log.abandon()
    log.close()
    assert partial(tmp_path).exists()
    log = begin(tmp_path)
    log.close()
    before = contents(tmp_path)
    log.close()
    log.abandon()
    assert contents(tmp_path) == before
    assert list(before) == [whole(tmp_path).name]


def test_a_log_that_is_closed_takes_nothing(log: SessionLog) -> None:
    log.close()
    with pytest.raises(SessionError, match="closed"):
        log.write(Unmounted())


def test_an_exception_abandons_the_log(tmp_path: Path) -> None:
    with pytest.raises(KeyError), begin(tmp_path):
        raise KeyError
    assert events(tmp_path) == ["begun"]
    assert partial(tmp_path).exists()


def test_credentials_do_not_get_into_the_log(tmp_path: Path) -> None:
    said = (
        "GET https://anna:geheim@s3.example.com/b?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F2026"
        "&X-Amz-Signature=deadbeef&x-amz-security-token=tokentoken&x-id=1 of ASIAIOSFODNN7EXAMPLE"
    )
    header = replace(HEADER, bucket="s3://user:geheim@plants/a")
    with begin(tmp_path, header) as log:
        log.write(Troubled(kind="StoreRefused", what=said))
    raw = whole(tmp_path).read_text()
    for secret in ("geheim", "AKIA", "ASIA", "deadbeef", "tokentoken"):
        assert secret not in raw
    assert "s3.example.com/b?" in raw
    assert "x-id=1" in raw


def test_a_name_is_told_exactly(log: SessionLog, tmp_path: Path) -> None:
    path = StagePath("http://a@b\udcff\x1b[2J\n.dxf")
    log.write(ConflictCopied(path=path))
    assert raw_lines(partial(tmp_path))[-1]["path"] == path


def test_a_long_text_is_cut(log: SessionLog, tmp_path: Path) -> None:
    log.write(Asked(what="ä" * 100_000))
    (line,) = read(tmp_path)[0][1:]
    assert line.fields["what"] == "ä" * 4095 + "…"


def test_no_line_is_longer_than_readers_take() -> None:
    texts = {f"field{number}": "\U0001f600" * 5000 for number in range(11)}
    assert len(encode_line(1 << 63, "2027-01-15T08:00:00.000Z", "begun", texts)) < LONGEST_LINE


def test_lines_of_many_threads_do_not_mix(log: SessionLog, tmp_path: Path) -> None:
    def write(name: int) -> None:
        for number in range(50):
            log.write(Asked(what=f"{name} {number} " + "x" * 100))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines, bad, torn = read(tmp_path)
    assert (len(lines), bad, torn) == (401, [], 0)
    assert [line.number for line in lines] == list(range(1, 402))


# Where it is, and whose


def test_files_and_directories_are_private_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        log = begin(tmp_path / "state" / "pdfs")
        assert stat.S_IMODE(log_stat(partial(tmp_path / "state" / "pdfs"))) == 0o600
        log.close()
    finally:
        os.umask(before)
    for directory in ("state", "state/pdfs", "state/pdfs/logs"):
        assert stat.S_IMODE(log_stat(tmp_path / directory)) == 0o700
    assert stat.S_IMODE(log_stat(whole(tmp_path / "state" / "pdfs"))) == 0o600


def log_stat(path: Path) -> int:
    return path.stat().st_mode


def test_a_log_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    begin(tmp_path).abandon()
    partial(tmp_path).chmod(0o644)
    begin(tmp_path).abandon()
    assert stat.S_IMODE(log_stat(partial(tmp_path))) == 0o600


@pytest.mark.parametrize("name", [f"{SESSION}.jsonl", f"{SESSION}.jsonl.__partial__"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_symlink_in_the_place_of_the_log_is_not_followed(
    tmp_path: Path, name: str, exists: bool
) -> None:
    (tmp_path / "logs").mkdir()
    target = tmp_path / "target"
    if exists:
        target.write_text("somebody's")
    (tmp_path / "logs" / name).symlink_to(target)
    with pytest.raises(DiskError, match="symlink"):
        begin(tmp_path)
    with pytest.raises(DiskError, match="symlink"):
        read(tmp_path)
    assert target.exists() == exists
    assert not exists or target.read_text() == "somebody's"


def test_a_symlink_in_the_place_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "logs").symlink_to("elsewhere")
    with pytest.raises(DiskError, match="symlink"):
        begin(tmp_path)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    os.mkfifo(partial(tmp_path))
    with pytest.raises(DiskError, match="not a regular file"):
        begin(tmp_path)
    with pytest.raises(DiskError, match="not a regular file"):
        read(tmp_path)


def test_a_second_process_is_refused_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.local.test_session_log", "hold", str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        before = contents(tmp_path)
        with pytest.raises(LockError, match="running on this machine; see pdfs status"):
            begin(tmp_path, RESUMER)
        assert contents(tmp_path) == before
        assert events(tmp_path) == ["begun"]
        child.kill()
    begin(tmp_path, RESUMER).close()


def test_a_log_that_is_closed_while_another_process_opens_it_is_taken_up(tmp_path: Path) -> None:
    """The file that was opened has another name when its lock is taken."""

    class Late(OsDisk):
        def open(self, directory: int, name: str, flags: int, mode: int = 0o600) -> int:
            descriptor = super().open(directory, name, flags, mode)
            if name == partial(tmp_path).name:
                first.close()
            return descriptor

    first = begin(tmp_path)
    second = begin(tmp_path, RESUMER, Late())
    assert events(tmp_path) == ["begun", "ended", "resumed"]
    assert partial(tmp_path).exists()
    second.close()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (encode_line(1, "", "begun", {"schema": 2}), UsageError),
        (
            encode_line(
                1, "", "begun", {"schema": 1, **{f: getattr(HEADER, f) for f in HEADER.__slots__}}
            ).replace(b"5e55105e", b"0ddba11e"),
            DamageFound,
        ),
    ],
    ids=["newer", "foreign"],
)
def test_a_log_that_is_not_ours_to_write_is_left_alone(
    tmp_path: Path, line: bytes, error: type[Exception]
) -> None:
    (tmp_path / "logs").mkdir()
    partial(tmp_path).write_bytes(line + b"torn")
    with pytest.raises(error):
        begin(tmp_path)
    assert partial(tmp_path).read_bytes() == line + b"torn"


# Taken up again


def test_a_resumed_session_goes_on_in_its_log(tmp_path: Path) -> None:
    log = begin(tmp_path)
    for note in NOTES:
        log.write(note)
    log.abandon()
    log = begin(tmp_path, RESUMER)
    assert log.records_written == len(NOTES) + 1
    log.write(Published(generation=43, files=1, bytes=1, missing=0))
    log.close()
    lines = raw_lines(whole(tmp_path))
    assert [line["n"] for line in lines] == list(range(1, 14))
    assert lines[10]["event"] == "resumed"
    assert (lines[10]["pid"], lines[10]["cut"]) == (4712, 0)
    assert lines[-1]["records"] == 11
    totals = lines[-1]["totals"]
    assert isinstance(totals, dict)
    assert (totals["published_files"], totals["published_bytes"]) == (3, 100)


def test_a_resumed_log_still_tells_of_the_lines_that_were_lost_before(tmp_path: Path) -> None:
    disk = FaultyDisk()
    log = begin(tmp_path, disk=disk)
    disk.fault = Fault(at=1, error=errno.ENOSPC, calls=frozenset({"pwritev"}))
    with pytest.raises(DiskFull):
        log.write(Asked(what="lost"))
    log.write(Asked(what="kept"))
    log.abandon()
    begin(tmp_path, RESUMER).close()
    lines = raw_lines(whole(tmp_path))
    assert [line["n"] for line in lines] == [1, 3, 4, 5]
    assert lines[-1]["lost"] == 1


def test_a_log_that_was_ended_goes_on_when_its_session_is_brought_back(tmp_path: Path) -> None:
    begin(tmp_path).close()
    log = begin(tmp_path, RESUMER)
    assert not whole(tmp_path).exists()
    log.close()
    assert events(tmp_path) == ["begun", "ended", "resumed", "ended"]


def test_of_two_logs_none_is_overwritten(tmp_path: Path) -> None:
    begin(tmp_path).close()
    partial(tmp_path).write_bytes(b"mine\n")
    before = contents(tmp_path)
    with pytest.raises(SessionError, match="both"):
        begin(tmp_path)
    assert contents(tmp_path) == before


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a log whose process was killed."""
    path = tmp_path_factory.mktemp("sample")
    log = begin(path)
    for note in NOTES:
        log.write(note)
    log.abandon()
    return partial(path).read_bytes()


def test_cut_at_any_byte_it_has_every_whole_line_and_goes_on(tmp_path: Path, sample: bytes) -> None:
    begin(tmp_path).abandon()
    written = sample.splitlines(keepends=True)
    for cut in range(len(sample) + 1):
        partial(tmp_path).write_bytes(sample[:cut])
        count = sample[:cut].count(b"\n")
        rest = cut - sum(map(len, written[:count]))
        lines, bad, torn = read(tmp_path)
        assert (len(lines), bad, torn) == (count, [], rest)
        begin(tmp_path, RESUMER).abandon()
        after = partial(tmp_path).read_bytes().splitlines(keepends=True)
        assert after[:-1] == written[:count]
        last = json.loads(after[-1])
        assert last["n"] == count + 1
        assert last.get("cut") == (rest if count else None)


def test_zeros_that_a_power_cut_left_are_a_torn_line(tmp_path: Path, sample: bytes) -> None:
    begin(tmp_path).abandon()
    partial(tmp_path).write_bytes(sample + bytes(10_000))
    assert read(tmp_path)[2] == 10_000
    begin(tmp_path, RESUMER).abandon()
    lines, bad, torn = read(tmp_path)
    assert (bad, torn) == ([], 0)
    assert lines[-1].fields["cut"] == 10_000


@pytest.mark.parametrize(
    "garbage", [b"", b"\0\0\0", b"[1]", b'{"n":1', b'{"n":"1","at":"","event":""}', b"\xff" * 3000]
)
def test_a_damaged_line_is_reported_and_passed_over(
    tmp_path: Path, sample: bytes, garbage: bytes
) -> None:
    begin(tmp_path).abandon()
    written = sample.splitlines(keepends=True)
    for index in range(len(written)):
        damaged = [*written[:index], garbage + b"\n", *written[index + 1 :]]
        partial(tmp_path).write_bytes(b"".join(damaged))
        lines, bad, torn = read(tmp_path)
        at = sum(map(len, written[:index]))
        assert bad == [BadLine(offset=at, size=len(garbage) + 1)]
        assert (len(lines), torn) == (len(written) - 1, 0)
        begin(tmp_path, RESUMER).abandon()
        assert partial(tmp_path).read_bytes().startswith(b"".join(damaged))
        assert read(tmp_path)[0][-1].event == "resumed"


@given(raw=st.lists(st.sampled_from([b"\n", b"\0", b"{}", b'"', b"x", b"\xff", b"\r"])))
def test_any_bytes_are_read_without_an_error(raw: list[bytes]) -> None:
    """Lines, bad ones and the torn rest are together exactly the file."""
    descriptor = os.memfd_create("log")
    try:
        os.write(descriptor, b"".join(raw))
        reader = LineReader(descriptor)
        found = list(reader.lines())
    finally:
        os.close(descriptor)
    offsets = [line.offset for line in found]
    text = b"".join(raw)
    assert offsets == [0, *(i + 1 for i, byte in enumerate(text) if byte == 10)][: len(found)]
    assert len(found) == text.count(b"\n")
    assert reader.end + reader.torn == len(text)


@pytest.mark.parametrize("chunk", [1, 7, 100, 4096])
def test_lines_are_whole_at_the_edges_of_the_pieces_that_are_read(
    tmp_path: Path, sample: bytes, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdfs.local.session_log_reader._CHUNK", chunk)
    begin(tmp_path).abandon()
    partial(tmp_path).write_bytes(sample + b"torn")
    lines, bad, torn = read(tmp_path)
    assert ([line.number for line in lines], bad, torn) == (list(range(1, 11)), [], 4)


@pytest.mark.parametrize("filling", [b"x", b"\0", b"x\n", b"\n"])
def test_memory_is_bounded_whatever_the_file_holds(
    tmp_path: Path, sample: bytes, filling: bytes
) -> None:
    begin(tmp_path).abandon()
    count = (24 << 20) // len(filling) if filling in (b"x", b"\0") else 50_000
    with partial(tmp_path).open("wb") as file:
        file.write(sample + filling * count + b"\n" + sample)
    with (
        directory_of(tmp_path / "logs") as directory,
        LogReader(OsDisk(), directory, SESSION) as log,
    ):
        tracemalloc.start()
        good = sum(isinstance(line, LogLine) for line in log.lines())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert good == 20
    assert peak < 6 << 20


def test_a_reader_follows_a_log_that_grows_is_torn_taken_up_and_closed(tmp_path: Path) -> None:
    log = begin(tmp_path)
    with (
        directory_of(tmp_path / "logs") as directory,
        LogReader(OsDisk(), directory, SESSION) as on,
    ):

        def more() -> list[str]:
            return [line.event for line in on.lines() if isinstance(line, LogLine)]

        assert more() == ["begun"]
        assert more() == []
        log.write(Unmounted())
        log.abandon()
        with partial(tmp_path).open("ab") as file:
            file.write(b'{"n":3,"at":')
        assert more() == ["unmounted"]
        assert on.torn == 12
        log = begin(tmp_path, RESUMER)
        assert more() == ["resumed"]
        log.close()
        assert more() == ["ended"]
        assert on.torn == 0


def test_logs_are_listed_with_what_their_first_line_says(tmp_path: Path) -> None:
    other = SessionId("0ddba11e" * 4)
    begin(tmp_path).close()
    begin(tmp_path, replace(HEADER, session=other, project="X")).abandon()
    (tmp_path / "logs" / ("a" * 32 + ".jsonl")).write_bytes(b"\0garbage")
    (tmp_path / "logs" / "lock-breaks.jsonl").write_bytes(b"{}\n")
    with directory_of(tmp_path / "logs") as directory:
        found = {log.session: log for log in list_logs(OsDisk(), directory)}
        with pytest.raises(SessionNotFound):
            LogReader(OsDisk(), directory, SessionId("b" * 32))
    assert found.keys() == {SESSION, other, "a" * 32}
    assert (found[SESSION].header, found[SESSION].is_whole) == (HEADER, True)
    assert found[SESSION].begun == "2027-01-15T08:00:00.000Z"
    assert not found[other].is_whole
    assert found[SessionId("a" * 32)].header is None


# A disk that fails


ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EINTR, 0]


def live(path: Path, disk: FaultyDisk) -> list[str]:
    """A session's log on that disk; the events that were said to be in it."""
    path.mkdir()
    try:
        log = begin(path, disk=disk)
    except DiskError:
        return []
    written = ["begun"]
    for note in NOTES:
        try:
            log.write(note)
        except DiskError:
            continue
        written.append(note.event)
    try:
        log.close()
    except DiskError:
        return written
    assert whole(path).exists()
    return [*written, "ended"]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    disk = FaultyDisk()
    assert len(live(tmp_path_factory.mktemp("calls") / "state", disk)) == len(NOTES) + 2
    return disk.made


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("takes", [0, 60], ids=["nothing", "torn"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: errno.errorcode.get(error, "short"))
def test_at_each_failing_call_the_log_has_what_it_said_it_has(
    calls: list[str], tmp_path: Path, error: int, takes: int, for_ever: bool
) -> None:
    assert {"open", "pwritev", "fsync", "ftruncate", "rename"} <= set(calls)
    for number, call in enumerate(calls, start=1):
        path = tmp_path / str(number)
        disk = FaultyDisk(Fault(at=number, error=error, for_ever=for_ever, takes=takes))
        written = live(path, disk)
        assert disk.failed
        if error == 0 and not for_ever:
            assert written[-1] == "ended"
        if not written:
            continue
        lines, bad, torn = read(path)
        assert bad == []
        found = [line.event for line in lines]
        # A close that failed may have got its line into the file all the same.
        assert found in (written, [*written, "ended"]), (number, call)
        if found[-1] == "ended":
            assert torn == 0 or "ended" not in written
            assert lines[-1].fields["lost"] == len(NOTES) - (len(lines) - 2)
        begin(path, RESUMER).close()
        lines, bad, torn = read(path)
        assert [line.event for line in lines] == [*found, "resumed", "ended"]
        assert (bad, torn) == ([], 0)


@pytest.mark.parametrize("takes", [0, 30, 99])
def test_a_line_that_found_the_disk_full_is_missing_and_the_next_is_whole(
    tmp_path: Path, takes: int
) -> None:
    disk = FaultyDisk()
    with begin(tmp_path, disk=disk) as log:
        log.write(Asked(what="first"))
        disk.fault = Fault(at=1, error=errno.ENOSPC, takes=takes, calls=frozenset({"pwritev"}))
        with pytest.raises(DiskFull, match="no room to write the log"):
            log.write(Asked(what="a line that is longer than those that follow" * 9))
        assert [line.number for line in read(tmp_path)[0]] == [1, 2]
        log.write(Unmounted())
    lines, bad, torn = read(tmp_path)
    assert [line.number for line in lines] == [1, 2, 4, 5]
    assert (lines[-1].fields["lost"], bad, torn) == (1, [], 0)


def test_after_any_power_cut_a_log_that_is_called_whole_has_its_last_line(
    tmp_path: Path, seed: int
) -> None:
    disk = CrashingDisk(tmp_path)
    with begin(tmp_path, disk=disk) as log:
        for note in NOTES:
            log.write(note)
    assert pending(disk.log) == []
    named = 0
    for _, state in PowerCuts(disk, seed).states(per_cut=30):
        raw = state.get(f"logs/{SESSION}.jsonl")
        if raw is not None:
            assert json.loads(raw.splitlines()[-1])["event"] == "ended"
            named += 1
    assert named


# A process that dies


def write_for_ever(path: Path) -> None:
    log = begin(path)
    for number in range(1_000_000):
        log.write(Asked(what=f"{number} " + "x" * (number * 37 % 3000)))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


def hold(path: Path) -> None:
    with begin(path):
        sys.stdout.write("held\n")
        sys.stdout.flush()
        sys.stdin.read()


def test_kill_loses_at_most_the_last_line(tmp_path: Path, seed: int, is_full: bool) -> None:
    choice = random.Random(seed)
    for attempt in range(100 if is_full else 4):
        path = tmp_path / str(attempt)
        path.mkdir()
        command = [sys.executable, "-m", "tests.local.test_session_log", "write", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
            assert child.stdout is not None
            told = [child.stdout.readline() for _ in range(choice.randrange(1, 300))]
            child.kill()
            told += [line for line in child.stdout.readlines() if line.endswith(b"\n")]
        lines, bad, _ = read(path)
        assert bad == []
        assert len(told) <= len(lines) - 1 <= len(told) + 1
        assert [line.number for line in lines] == list(range(1, len(lines) + 1))
        begin(path, RESUMER).close()
        assert events(path) == [*(line.event for line in lines), "resumed", "ended"]


def test_the_lock_is_that_of_the_open_file(tmp_path: Path) -> None:
    """A process that dies leaves no lock, and one that looks on takes none."""
    log = begin(tmp_path)
    with partial(tmp_path).open("rb") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        log.abandon()
        read(tmp_path)
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


if __name__ == "__main__":
    {"write": write_for_ever, "hold": hold}[sys.argv[1]](Path(sys.argv[2]))


# Old ones


def test_logs_that_ended_long_ago_are_deleted_and_others_stay(tmp_path: Path) -> None:
    """Also one that some process is just taking up again."""
    logs = tmp_path / "logs"
    begin(tmp_path).abandon()
    for digit in "abc":
        begin(tmp_path, replace(HEADER, session=SessionId(digit * 32))).close()
    for path in logs.iterdir():
        os.utime(path, (1000.0, 1000.0))
    os.utime(logs / f"{'b' * 32}.jsonl", (3000.0, 3000.0))
    with directory_of(logs) as directory:
        with (logs / f"{'c' * 32}.jsonl").open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert delete_old_logs(OsDisk(), directory, 2000.0) == ["a" * 32]
        left = {f"{SESSION}.jsonl.__partial__", f"{'b' * 32}.jsonl", f"{'c' * 32}.jsonl"}
        assert set(os.listdir(logs)) == left
        assert delete_old_logs(OsDisk(), directory, 2000.0) == ["c" * 32]
        assert delete_old_logs(OsDisk(), directory, 2000.0) == []
