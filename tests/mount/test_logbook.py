"""The daemon's part of a session's log: it is told once what is wrong with it, and nothing else."""

import errno
import logging
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest

from pdfs.config import configure
from pdfs.core.ids import RunId, SessionId
from pdfs.core.keys import StageKeys
from pdfs.core.notes import Asked, Note
from pdfs.disk import OsDisk
from pdfs.errors import LockLost
from pdfs.local.session_log_format import LogLine
from pdfs.local.session_log_reader import LogReader
from pdfs.mount.access import stage_context
from pdfs.mount.logbook import Logbook
from pdfs.mount.request import MountRequest
from pdfs.stage.contents import Received
from pdfs.store.memory import MemoryStore
from tests.conftest import ExpectedWarnings
from tests.local.faulty_disk import Fault, FaultyDisk
from tests.local.journals import directory_of

SESSION = SessionId("5e55105e55105e55105e55105e551000")
logger = logging.getLogger("pdfs.mount.test")


def read_nothing(path: str) -> bytes:
    raise FileNotFoundError(path)


def logbook_of(path: Path, received: Received, disk: FaultyDisk) -> Logbook:
    environ = {"HOME": str(path), "PDFS_USER": "anna", "PDFS_MACHINE": "ws7"}
    configuration = configure(environ, {}, read_nothing)
    request = MountRequest(
        configuration=configuration, project="Plant", stage="planning", mountpoint="/mnt/plant"
    )
    keys = StageKeys("Plant", "planning")
    store = MemoryStore(now=lambda: 1_800_000_000.0)
    ctx = stage_context(configuration, store, keys, SESSION, RunId("0" * 32))
    return Logbook(PurePath(path) / "logs", request, ctx, received, disk=disk)


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def received() -> Received:
    return Received()


@pytest.fixture
def book(tmp_path: Path, received: Received, disk: FaultyDisk) -> Iterator[Logbook]:
    book = logbook_of(tmp_path, received, disk)
    yield book
    book.finish(is_over=False)


def lines(path: Path) -> list[LogLine]:
    with directory_of(path / "logs") as directory, LogReader(OsDisk(), directory, SESSION) as log:
        return [line for line in log.lines() if isinstance(line, LogLine)]


def said(path: Path, event: str) -> list[object]:
    return [line.fields["what"] for line in lines(path) if line.event == event]


NOTE: Note = Asked(what="umount")


def test_the_first_line_says_who_mounts_what_and_where(book: Logbook, tmp_path: Path) -> None:
    book.open()
    (first,) = lines(tmp_path)
    chosen = {name: first.fields[name] for name in ("project", "stage", "user", "machine")}
    assert chosen == {"project": "Plant", "stage": "planning", "user": "anna", "machine": "ws7"}
    assert first.fields["mountpoint"] == "/mnt/plant"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_is_told_once_and_the_log_goes_on_when_it_is_well(
    book: Logbook,
    disk: FaultyDisk,
    tmp_path: Path,
    expected_warnings: ExpectedWarnings,
    error: int,
) -> None:
    book.open()
    assert book.trouble is None
    disk.fault = Fault(at=1, error=error, for_ever=True, takes=50)
    for _ in range(5):
        book.note(NOTE)
    disk.fault = None
    book.note(NOTE)
    book.finish(is_over=True)
    assert "but its log is not whole" in expected_warnings.take("the session goes on").getMessage()
    assert "the log" in str(book.trouble)
    found = lines(tmp_path)
    assert [line.event for line in found] == ["begun", "asked", "ended"]
    assert found[-1].fields["lost"] == 6  # five notes, and the message about it


@pytest.mark.parametrize("is_over", [True, False])
def test_no_call_of_the_disk_can_fail_the_session(
    tmp_path: Path, received: Received, expected_warnings: ExpectedWarnings, is_over: bool
) -> None:
    def live(path: Path, disk: FaultyDisk) -> Logbook:
        path.mkdir()
        book = logbook_of(path, received, disk)
        book.open()
        book.note(NOTE)
        book.note_failure(LockLost("the stage was taken over"))
        book.finish(is_over=is_over)
        return book

    sound = FaultyDisk()
    assert live(tmp_path / "sound", sound).trouble is None
    for number in range(1, len(sound.made) + 1):
        disk = FaultyDisk(Fault(at=number, error=errno.EIO, for_ever=True))
        assert live(tmp_path / str(number), disk).trouble is not None
        expected_warnings.take("its log is not whole")


def test_a_log_that_another_process_has_is_left_to_it(
    book: Logbook, tmp_path: Path, received: Received, expected_warnings: ExpectedWarnings
) -> None:
    book.open()
    other = logbook_of(tmp_path, received, FaultyDisk())
    other.open()
    expected_warnings.take("belongs to a PDFS that is running")
    other.note(NOTE)
    other.finish(is_over=True)
    book.note(NOTE)
    assert [line.event for line in lines(tmp_path)] == ["begun", "message", "asked"]


def test_warnings_of_the_daemon_are_in_the_log_up_to_a_number(
    book: Logbook, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    book.open()
    logger.info("not worth a line")
    for number in range(1100):
        logger.warning("request %d failed", number)
        expected_warnings.take("failed")
    assert said(tmp_path, "message") == [f"request {number} failed" for number in range(1000)]
    book.finish(is_over=False)
    logger.warning("nobody hears this")
    expected_warnings.take("nobody hears this")
    assert len(said(tmp_path, "message")) == 1000


def test_what_ended_a_process_is_told_in_its_own_words(book: Logbook, tmp_path: Path) -> None:
    book.open()
    book.note_failure(ExceptionGroup("", [ExceptionGroup("", [MemoryError("no more")])]))
    last = lines(tmp_path)[-1]
    assert (last.event, last.fields) == ("failed", {"kind": "MemoryError", "what": "no more"})


def test_fetches_are_told_as_what_came_since_the_last_time(
    book: Logbook, received: Received, tmp_path: Path
) -> None:
    book.open()
    book.note_fetched()
    received.parts, received.bytes = 3, 300
    book.note_fetched()
    book.note_fetched()
    received.parts, received.bytes = 4, 1000
    book.finish(is_over=True)
    fetched = [line.fields for line in lines(tmp_path) if line.event == "fetched"]
    assert fetched == [{"parts": 3, "bytes": 300}, {"parts": 1, "bytes": 700}]


@pytest.mark.parametrize("is_over", [True, False])
def test_the_log_is_ended_only_with_the_session(
    book: Logbook, tmp_path: Path, is_over: bool
) -> None:
    book.open()
    book.finish(is_over=is_over)
    book.finish(is_over=True)
    assert (tmp_path / "logs" / f"{SESSION}.jsonl").exists() == is_over
    assert (tmp_path / "logs" / f"{SESSION}.jsonl.__partial__").exists() != is_over
