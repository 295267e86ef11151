"""A daemon without memory: refused some, or killed for it by the kernel (issue 4's crash paths).

What was acknowledged is known from a diary outside of the mount.
"""

import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeMachine
from tests.e2e.diaries import Told
from tests.e2e.machines import PROJECT, Bucket, Machine
from tests.e2e.memory_limits import memory_group, starved

WORK = Path(__file__).with_name("stopped_work.py")
ENOUGH = 5
"""Operations that are acknowledged before memory ends."""
MIB = 1 << 20
REFUSALS = {errno.ENOMEM, errno.EIO, errno.EROFS, errno.ENOTCONN, errno.ECONNABORTED}
"""Of this request, of all that change something, or of a mount that has ended."""
VALUE = 60 << 10
"""Bytes of an attribute: the tree has them in memory."""


@contextmanager
def working(here: Machine, told: Told, prefix: str) -> Iterator[None]:
    """A program works in the mount meanwhile, and to its end or that of the mount."""
    diary = here.home / f"diary-{prefix}"
    diary.touch()
    # An append of several requests may be cut short between them: that is no state of a diary.
    hows = "save save remove"
    command = [sys.executable, str(WORK), str(here.mountpoint), str(diary), prefix, hows]
    with subprocess.Popen(command) as work:
        is_over = False
        while diary.read_text().count("done") < ENOUGH:
            assert not is_over, "next to nothing was acknowledged"
            is_over = work.poll() is not None
            time.sleep(0.01)
        yield
        assert work.wait() == 0
    told.read(diary)


def pid_of(here: Machine) -> int:
    (session,) = here.sessions()
    pid: int = session["pid"]
    return pid


def use_memory(mounted: Path) -> int | None:
    """Have the daemon keep more and more, up to 16 MiB; the errno of what it refused."""
    try:
        for number in range(16):
            file = mounted / f"{number}.part"
            file.touch()
            for name in range(16):
                os.setxattr(file, f"user.{name}", bytes(VALUE))
    except OSError as error:
        return error.errno
    return None


def check_all_is_there(here: Machine, bucket: Bucket, told: Told) -> None:
    """After a mount that resumes, and in the bucket after its end."""
    mounted = here.mount("--resume")
    told.check(mounted)
    here.pdfs("umount", mounted)
    assert here.sessions() == []
    assert bucket.directory is not None
    told.check(bucket.directory / PROJECT / "planning")


def test_a_daemon_that_the_kernel_kills_for_memory_loses_nothing_acknowledged(
    bucket: Bucket, machine: MakeMachine, seed: int
) -> None:
    here, told = machine(bucket), Told()
    mounted = here.mount("--create")
    with memory_group() as group:
        if group is None:
            pytest.skip("this machine lets nobody limit the memory of others")
        with working(here, told, f"p{seed}"):
            group.take_in(pid_of(here), MIB)
        while not group.kills:
            use_memory(mounted)
    check_all_is_there(here, bucket, told)


def test_a_daemon_that_is_refused_memory_loses_nothing_acknowledged(
    bucket: Bucket, machine: MakeMachine, seed: int, is_full: bool
) -> None:
    """It answers with an error and lives, or ends as after a crash: with its journal whole."""
    choice = random.Random(seed)
    here, told, refused = machine(bucket), Told(), list[int | None]()
    for number in range(10 if is_full else 1):
        mounted = here.mount("--create", "--resume")
        more = choice.randrange(2 * MIB)
        with working(here, told, f"p{seed}-{number}"), starved(pid_of(here), more):
            refused.append(use_memory(mounted))
        ended = here.run("umount", mounted)
        assert ended.code in (0, 7, 9), ended
        assert "Traceback" not in ended.err
    assert None not in refused, "it had enough"
    assert set(refused) <= REFUSALS
    check_all_is_there(here, bucket, told)
