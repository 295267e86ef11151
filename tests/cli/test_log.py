"""`pdfs log`: whose log is shown, and how."""

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from pdfs.config import Configuration
from pdfs.core import notes
from pdfs.core.ids import Fence, RunId, SessionId
from pdfs.core.ids import Path as StagePath
from pdfs.core.states import State
from pdfs.disk import OsDisk
from pdfs.local.session_log import SessionLog
from pdfs.local.session_log_format import LogHeader
from tests.cli.conftest import Run
from tests.cli.daemons import OTHER, SESSION, session_of

HEADER = LogHeader(
    session=SESSION,
    run=RunId("0" * 32),
    project="Plant",
    stage="planning",
    user="anna",
    machine="ws7",
    bucket="file:///b",
    mountpoint="/mnt/plant",
    pid=4711,
    pdfs="0.1.0",
)
BEGAN = 1_800_000_000.0
EACH: list[notes.Note] = [
    notes.StateChanged(state=State.ACTIVE),
    notes.Asked(what="SIGTERM"),
    notes.LockTaken(fence=Fence(7)),
    notes.LockNotRenewed(what="no answer"),
    notes.LockTakenAway(what="taken by berta"),
    notes.LockReleased(files=0, bytes=0),
    notes.Mounted(mountpoint="/mnt/plant"),
    notes.Unmounted(),
    notes.TakenIn(changes=3, skipped=1),
    notes.Fetched(parts=3, bytes=3 << 20),
    notes.PublishBegun(files=2, bytes=2048),
    notes.Committed(generation=42),
    notes.Published(generation=42, files=2, bytes=2048, missing=1),
    notes.Collected(objects=3, bytes=2048),
    notes.NotCollected(what="the bucket answers 503"),
    notes.ConflictCopied(path=StagePath("a\x1b[2J\udcff.dxf")),
    notes.NotRemoved(path=StagePath("a")),
    notes.PutAside(path=StagePath("a")),
    notes.Troubled(kind="StoreUnavailable", what="the bucket does not answer"),
    notes.Retried(tries=4, what="the bucket does not answer"),
    notes.TroubleOver(),
    notes.Failed(kind="LockLost", what="taken"),
    notes.CameTo(exit_code=11, is_aborted=False, missing=1, damage=""),
    notes.Warned(level="error", what="the journal is damaged"),
    notes.Discarded(),
    notes.BroughtBack(),
]


def begin(
    configuration: Configuration, session: SessionId = SESSION, began: float = BEGAN
) -> SessionLog:
    header = replace(HEADER, session=session)
    return SessionLog(OsDisk(), configuration.state / "logs", header, now=lambda: began)


def partial(configuration: Configuration) -> Path:
    return Path(configuration.state) / "logs" / f"{SESSION}.jsonl.__partial__"


def events(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [json.loads(line)["event"] for line in result.stdout.splitlines()]


def test_every_kind_of_event_is_shown_in_words(run: Run, configuration: Configuration) -> None:
    assert {note.event for note in EACH} == {cls.event for cls in notes.Note.__args__}
    with begin(configuration) as log:
        for note in EACH:
            log.write(note)
    said = run("log", "Plant")
    assert (said.exit_code, said.stderr) == (0, "")
    lines = said.stdout.splitlines()
    assert [line.split()[3] for line in lines] == ["begun", *(n.event for n in EACH), "ended"]
    assert "?" not in said.stdout
    assert "anna on ws7 begins with Plant/planning of file:///b, process 4711" in lines[0]
    for words in (
        "generation 42: 2 files (2.0 KiB), 1 of its files without their bytes",
        "3 parts (3.0 MiB)",
        "ours is kept as a\\x1b[2J\\udcff.dxf",
        "a stays, another tool changed it",
        "the publish ends without a",
        "error: the journal is damaged",
        "3 objects that nobody needs any more are gone (2.0 KiB)",
        "leftovers stay for now: the bucket answers 503",
        f"{len(EACH)} lines, 0 lost",
    ):
        assert words in said.stdout


def test_json_gives_the_lines_as_they_are(run: Run, configuration: Configuration) -> None:
    with begin(configuration) as log:
        for note in EACH:
            log.write(note)
    written = (Path(configuration.state) / "logs" / f"{SESSION}.jsonl").read_text()
    said = run("log", "Plant", "--json").stdout
    assert list(map(json.loads, said.splitlines())) == list(map(json.loads, written.splitlines()))


@pytest.mark.parametrize("target", ["/mnt/plant/below", "5e55", "Plant", "Plant/planning"])
@pytest.mark.parametrize("condition", ["mounted", "crashed", "over"])
def test_a_session_is_found_in_every_condition(
    run: Run, configuration: Configuration, target: str, condition: str
) -> None:
    log = begin(configuration)
    log.write(notes.Unmounted())
    if condition == "over":
        log.close()
        assert events(run("log", target, "--json")) == ["begun", "unmounted", "ended"]
    else:
        with session_of(configuration, is_held=condition == "mounted"):
            assert events(run("log", target, "--json")) == ["begun", "unmounted"]
        log.abandon()


@pytest.mark.parametrize("has_logs", [True, False])
def test_of_a_read_only_mount_it_is_said_that_it_keeps_none(
    run: Run, configuration: Configuration, has_logs: bool
) -> None:
    if has_logs:
        begin(configuration).close()
    with session_of(configuration, OTHER, is_reader=True, mountpoint="/mnt/look", project="Mill"):
        said = run("log", "/mnt/look")
    assert said.exit_code == 3
    assert (
        "Mill/planning is mounted read-only at /mnt/look; such a mount keeps no log" in said.stderr
    )


def test_of_sessions_that_are_over_the_last_that_ended_is_shown(
    run: Run, configuration: Configuration
) -> None:
    resumed = begin(configuration, OTHER, BEGAN)
    begin(configuration, SESSION, BEGAN + 1.0).close()
    begin(configuration, SessionId("a" * 32), BEGAN - 1.0).close()
    resumed.close()
    for second, session in enumerate((SESSION, "a" * 32, OTHER)):  # finer than the clock of files
        os.utime(Path(configuration.state) / "logs" / f"{session}.jsonl", (BEGAN, BEGAN + second))
    for target in ("Plant", "/mnt/plant"):
        (first, _) = run("log", target, "--json").stdout.splitlines()
        assert json.loads(first)["session"] == OTHER
    (first, _) = run("log", SESSION[:8], "--json").stdout.splitlines()
    assert json.loads(first)["session"] == SESSION


def test_a_session_that_is_here_goes_before_later_ones_that_are_over(
    run: Run, configuration: Configuration
) -> None:
    begin(configuration, SESSION, BEGAN).abandon()
    begin(configuration, OTHER, BEGAN + 1.0).close()
    with session_of(configuration, is_held=False):
        assert events(run("log", "Plant", "--json")) == ["begun"]


def test_a_target_without_a_log_is_not_found(run: Run, configuration: Configuration) -> None:
    assert run("log", "Plant").exit_code == 3
    with session_of(configuration):
        said = run("log", "Plant")
    assert (said.exit_code, said.stdout) == (3, "")
    assert "no log of session" in said.stderr


def test_damaged_lines_are_named_and_passed_over(run: Run, configuration: Configuration) -> None:
    log = begin(configuration)
    log.write(notes.Unmounted())
    log.abandon()
    file = partial(configuration)
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + b"\0\0\0\n" + second + b'{"n":9')
    said = run("log", "Plant", "--json")
    assert events(said) == ["begun", "unmounted"]
    assert f"bytes {len(first)} to {len(first) + 4} of the log are damaged" in said.stderr


def test_lines_of_a_newer_pdfs_are_shown_as_they_are(
    run: Run, configuration: Configuration
) -> None:
    begin(configuration).abandon()
    with partial(configuration).open("a") as file:
        file.write('{"n":2,"at":"long ago","event":"melted","where":"core","x":[1]}\n')
        file.write('{"n":3,"at":"9999-12-31T23:59:59.999Z","event":"lock_taken"}\n')
    said = run("log", "Plant").stdout
    assert "long ago  melted            where core, x [1]" in said
    assert "lock_taken        fence ?" in said


@pytest.mark.parametrize("ends", ["closed", "killed"])
def test_follow_goes_on_until_the_session_ends(
    run: Run, configuration: Configuration, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    looks = threading.Semaphore(0)
    sleep = time.sleep

    def look(seconds: float) -> None:
        looks.release()
        sleep(seconds / 10)

    monkeypatch.setattr("pdfs.cli.log.time.sleep", look)
    results: list[Result] = []
    thread = threading.Thread(
        target=lambda: results.append(run("log", "Plant", "--follow", "--json"))
    )
    log = begin(configuration)
    with session_of(configuration):
        thread.start()
        for note in EACH:
            assert looks.acquire(timeout=240.0)  # it has seen all that there was
            log.write(note)
        if ends == "closed":
            log.close()
        else:
            log.abandon()
    thread.join(60.0)
    assert not thread.is_alive()
    expected = ["begun", *(note.event for note in EACH), *(["ended"] if ends == "closed" else [])]
    assert events(results[0]) == expected


def test_follow_of_a_session_that_is_over_shows_it_and_ends(
    run: Run, configuration: Configuration
) -> None:
    begin(configuration).close()
    assert events(run("log", "Plant", "--json", "--follow")) == ["begun", "ended"]
