"""The daemon's main function: one request, one end, and that is told when all of it is over."""

import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from pdfs.config import Configuration
from pdfs.core.ids import SessionId
from pdfs.disk import OsDisk
from pdfs.local.state import StateDirectory
from pdfs.mount import daemon
from pdfs.mount.daemon import run
from pdfs.mount.request import MountRequest
from pdfs.mount.workspace import DiskWorkspace
from pdfs.store import silence
from tests.fs.process import Process
from tests.mount.carriers import Story, configuration_of, stand_in_for_fuse

Events = list[Mapping[str, object]]


def writes(name: str) -> Story:
    async def story(process: Process) -> None:
        process.write_file(name, name.encode())
        await trio.lowlevel.checkpoint()

    return story


def request_of(
    configuration: Configuration, *, mountpoint: str | None, crashed: SessionId | None = None
) -> MountRequest:
    return MountRequest(
        configuration=configuration,
        project="Plant",
        stage="planning",
        mountpoint=mountpoint,
        create=True,
        crashed=crashed,
    )


def ends(events: Events) -> list[int]:
    """Where among the events the session is called closed."""
    return [at for at, event in enumerate(events) if event["event"] == "closed"]


def sessions(configuration: Configuration) -> list[str]:
    return [path.name for path in Path(configuration.state, "sessions").iterdir()]


async def dies(self: DiskWorkspace) -> None:
    """Everything is in the bucket, and the process dies before it has removed the journal."""
    await trio.lowlevel.checkpoint()


def test_closed_is_the_last_word_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration, events = configuration_of(tmp_path), Events()
    gone: list[bool] = []

    def report(event: Mapping[str, object]) -> None:
        events.append(event)
        if event["event"] == "closed":
            sockets = list(Path(configuration.runtime).glob("*.sock"))
            gone.append(not sockets and not sessions(configuration))

    stand_in_for_fuse(monkeypatch, writes("a"))
    assert run(request_of(configuration, mountpoint="/mnt/plant"), report) == 0
    assert ends(events) == [len(events) - 1]
    assert gone == [True], "closed was said before everything was over"
    assert (events[-1]["exit_code"], events[-1]["conflicts"]) == (0, [])


def test_a_session_that_is_published_already_is_not_the_end_of_who_wants_to_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sessions are carried, one after the other: the first one's end is nobody's news."""
    configuration, events = configuration_of(tmp_path), Events()
    stand_in_for_fuse(monkeypatch, writes("a"), writes("b"), writes("c"))
    with monkeypatch.context() as patch:
        patch.setattr(DiskWorkspace, "retire", dies)
        assert run(request_of(configuration, mountpoint="/mnt/plant"), lambda _: None) == 0
    (crashed,) = sessions(configuration)
    assert run(request_of(configuration, mountpoint="/mnt/plant"), lambda _: None) == 0
    request = request_of(configuration, mountpoint="/mnt/plant", crashed=SessionId(crashed))
    assert run(request, events.append) == 0
    kinds = [event["event"] for event in events]
    assert kinds.count("mounted") == 1
    assert ends(events) == [len(events) - 1]
    assert kinds.index("mounted") < ends(events)[0]
    assert sessions(configuration) == []


def test_a_session_that_fails_is_called_failed_and_not_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration, events = configuration_of(tmp_path), Events()
    request = request_of(configuration, mountpoint="/mnt/plant", crashed=SessionId("0" * 32))
    assert run(request, events.append) == 3
    told = [event for event in events if event["event"] != "silent"]  # as on a busy machine
    assert [(event["event"], event.get("exit_code")) for event in told] == [("failed", 3)]


def test_a_control_socket_that_can_not_be_made_is_the_disk_s_fault_and_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration, events = configuration_of(tmp_path), Events()
    runtime = Path(configuration.runtime)
    runtime.parent.mkdir(parents=True, exist_ok=True)
    runtime.write_bytes(b"no directory")
    stand_in_for_fuse(monkeypatch, writes("a"))
    assert run(request_of(configuration, mountpoint="/mnt/plant"), events.append) == 8
    assert (events[-1]["event"], events[-1]["kind"]) == ("failed", "DiskError")
    assert str(runtime) in str(events[-1]["what"])
    assert not sessions(configuration), "nothing was begun"
    runtime.unlink()
    assert run(request_of(configuration, mountpoint="/mnt/plant"), events.append) == 0


def test_who_waits_for_a_silent_bucket_is_told_which_one_before_there_is_a_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration, events = configuration_of(tmp_path), Events()

    told = trio.Event()

    async def wait(*_: object) -> None:
        await told.wait()

    def report(event: Mapping[str, object]) -> None:
        events.append(event)
        told.set()

    monkeypatch.setattr(silence, "LONG", 0.01)
    monkeypatch.setattr(daemon, "prove", wait)
    stand_in_for_fuse(monkeypatch, writes("a"))
    assert run(request_of(configuration, mountpoint="/mnt/plant"), report) == 0
    bucket = f"{configuration.bucket} (only on this machine)"
    assert events[0] == {"event": "silent", "bucket": bucket, "trouble": ""}
    assert [event["event"] for event in events].count("silent") == 1


_RIGHT = [float(day) for day in range(30)]
"""Mounts on thirty days, in days since the discard, by a clock that is right."""
_YEARS = 15 * 365.0


@pytest.mark.parametrize(
    ("starts", "stays"),
    [
        pytest.param([*_RIGHT, 30.1], False, id="after-30-days-of-use"),
        pytest.param([*_RIGHT, 29.9], True, id="a-moment-sooner"),
        pytest.param([30.1], True, id="first-seen-after-30-days"),
        pytest.param([hour / 24 for hour in range(29 * 24)], True, id="often-in-29-days"),
        pytest.param([0.1, *[_YEARS] * 50], True, id="years-ahead-at-once"),
        pytest.param([_YEARS + day for day in _RIGHT], True, id="years-ahead-for-a-month"),
        pytest.param([*_RIGHT[:20], *[_YEARS, 20.0] * 5], True, id="ahead-at-some-starts"),
        pytest.param([*_RIGHT, -_YEARS, 29.5], True, id="years-back-for-once"),
        pytest.param([-_YEARS, *_RIGHT, 30.1], False, id="right-in-the-end"),
    ],
)
def test_what_was_discarded_goes_after_30_days_of_use_whatever_the_clock_says_at_a_start(
    starts: list[float],
    stays: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = SessionId("5e55105e" * 4)
    with StateDirectory(OsDisk(), tmp_path / "state") as state:
        with state.create_session(session) as held:
            state.discard(held)
        discarded = time.time()
        for days in starts:
            now = discarded + days * 86400
            monkeypatch.setattr("pdfs.mount.daemon.time.time", lambda now=now: now)
            with caplog.at_level(logging.INFO, "pdfs"):
                daemon._tidy(state)
        assert bool(state.trashed()) is stays
    assert (session in caplog.text) is not stays


@pytest.mark.parametrize(("days", "stays"), [(89.9, True), (90.1, False)])
def test_the_log_of_a_session_that_ended_long_ago_goes_at_a_start(
    days: float, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StateDirectory(OsDisk(), tmp_path / "state") as state:
        log = tmp_path / "state" / "logs" / f"{'5e55105e' * 4}.jsonl"
        log.touch()
        now = time.time() + days * 86400
        monkeypatch.setattr("pdfs.mount.daemon.time.time", lambda: now)
        daemon._tidy(state)
        assert log.exists() is stays


def test_a_mount_where_no_lock_can_be_says_why_and_leaves_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration, events = configuration_of(tmp_path), Events()
    lock = tmp_path / "data_home/pdfs/bucket/Plant/planning.lock.json"
    lock.mkdir(parents=True)
    (lock / "of another tool").touch()
    stand_in_for_fuse(monkeypatch, writes("a"), writes("a"))
    code = run(request_of(configuration, mountpoint="/mnt/plant"), events.append)
    assert (code, events[-1]["event"]) == (4, "failed")
    assert "planning.lock.json" in str(events[-1]["what"])
    assert "move that elsewhere" in str(events[-1]["remedy"])
    assert not sessions(configuration), "there is nothing to be recovered"
    shutil.rmtree(lock)
    assert run(request_of(configuration, mountpoint="/mnt/plant"), events.append) == 0


@pytest.mark.parametrize("crashed", [None, SessionId("5e55105e55105e55105e55105e551000")])
def test_a_default_bucket_that_is_gone_is_no_new_one(
    tmp_path: Path, crashed: SessionId | None
) -> None:
    configuration, events = configuration_of(tmp_path), Events()
    bucket = tmp_path / "gone" / "bucket"
    configuration = replace(configuration, bucket=f"file://{bucket}", is_default_bucket=True)
    request = request_of(configuration, mountpoint=None, crashed=crashed)
    assert run(replace(request, create=False), events.append) == 3
    assert "is not there" in str(events[-1])
    assert not bucket.exists()
