"""The disk of the state directory fails under a real mount (J4, end to end)."""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import LIMIT, PROJECT, Bucket, Machine
from tests.fuse.mounts import refused
from tests.local.strace import follow

FAULTS = {
    "a sync fails once": "fdatasync:error=EIO:when=1",
    "every sync fails": "fdatasync:error=EIO",
    "every write fails": "pwritev,pwritev2:error=EIO",
}


@contextmanager
def failing(here: Machine, fault: str, log: Path) -> Iterator[None]:
    """The daemon's calls fail so, from soon on."""
    (session,) = here.sessions()
    strace = follow(session["pid"], log, fault)
    try:
        yield
    finally:
        strace.terminate()
        strace.wait(LIMIT)


def write_until_refused(descriptor: int) -> tuple[bytes, int]:
    """What was written there before a write or an fsync was refused, and its errno."""
    deadline, acknowledged = time.monotonic() + LIMIT, b""
    while time.monotonic() < deadline:
        data = os.urandom(3000)
        try:
            acknowledged += data[: os.write(descriptor, data)]  # one write can be two requests
            os.fsync(descriptor)
        except OSError as error:
            return acknowledged, error.errno or 0
    raise AssertionError("nothing fails")


def read_anew(path: Path) -> bytes:
    """Its bytes as the daemon gives them, not as the kernel remembers them."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


@pytest.mark.figure(name="J4")
@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_a_failing_disk_makes_the_mount_read_only_says_so_and_loses_nothing(
    bucket: Bucket, machine: MakeMachine, tmp_path: Path, number: int, seed: int, is_full: bool
) -> None:
    if not is_full and number != seed % len(FAULTS):
        return
    what, fault = list(FAULTS.items())[number]
    here = machine(bucket)
    mounted = here.mount("--create")
    acknowledged = {"before": os.urandom(200_000)}
    (mounted / "before").write_bytes(acknowledged["before"])
    descriptor = os.open(mounted / "held", os.O_CREAT | os.O_RDWR)
    with failing(here, fault, tmp_path / "strace"):
        acknowledged["held"], code = write_until_refused(descriptor)
        assert code == errno.EIO
        with refused(errno.EIO):
            os.write(descriptor, b"more")
        with refused(errno.EROFS):
            (mounted / "new").touch()
        with refused(errno.EROFS):
            (mounted / "before").unlink()
        for name, data in acknowledged.items():
            assert read_anew(mounted / name) == data
        check_told(here, has_log="sync" in what)
    with refused(errno.EIO):  # though the disk is well again
        os.fsync(descriptor)
    with refused(errno.EIO):
        os.close(descriptor)
    ended = here.run("umount", mounted)
    assert ended.code == 8
    assert "can't be trusted" in ended.err
    assert "what was written until then is kept" in ended.err
    here.mount()
    assert {path.name: path.read_bytes() for path in mounted.iterdir()} == acknowledged
    here.pdfs("umount", mounted)
    assert bucket.directory is not None
    stage = bucket.directory / PROJECT / "planning"
    assert {path.name: path.read_bytes() for path in stage.iterdir()} == acknowledged


def check_told(here: Machine, *, has_log: bool) -> None:
    """`pdfs status` says it, and the session's log, where that disk still takes one."""
    (status,) = here.sessions()
    assert "can't be trusted since a write or sync of it failed" in status["read_only"]
    shown = here.pdfs("status")
    assert "  read-only   the journal of session" in shown
    assert "umount" in shown.splitlines()[-1]
    assert "publishes nothing more" in shown
    if has_log:
        assert "the mount is read-only from here on" in here.pdfs("log", PROJECT)
    else:
        assert "log" in status["trouble"]
