"""Many files and few descriptors (H3): works, gives everything back, and does not grow."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.conftest import Reached
from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import PROJECT, Bucket, Machine
from tests.lengths import Length

DESCRIPTORS = 256
HANDLES = 300
CHURN = 64 << 10
"""Bytes that a file made and deleted holds, so that the journal rolls meanwhile."""


@contextmanager
def few_descriptors() -> Iterator[None]:
    """What is started meanwhile may have so many open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def process_of(machine: Machine) -> Path:
    (session,) = machine.sessions()
    return Path(f"/proc/{session['pid']}")


def descriptors_of(process: Path) -> list[str]:
    """What the daemon has open, but for what comes and goes with each look at it."""
    links = [os.readlink(process / "fd" / name) for name in os.listdir(process / "fd")]
    return sorted(link for link in links if not link.startswith(("socket:", "/proc/")))


def resident(process: Path) -> int:
    return int((process / "status").read_text().partition("VmRSS:")[2].split()[0]) * 1024


def churn(directory: Path, files: int) -> None:
    """Make and delete files."""
    for number in range(files):
        (directory / f"new-{number}").write_bytes(bytes(CHURN if number % 50 == 0 else 100))
        (directory / f"new-{number}").unlink()


@pytest.mark.figure(name="H3")
def test_a_daemon_with_few_descriptors_serves_many_files_and_grows_by_nothing(
    bucket: Bucket, machine: MakeMachine, length: Length, reached: Reached
) -> None:
    files, churned = length.pick(sample=(400, 300), full=(10_000, 50_000), long=(10_000, 1_000_000))
    here = machine(bucket)
    with few_descriptors():
        mounted = here.mount("--create")
    process = process_of(here)
    limit = resource.prlimit(int(process.name), resource.RLIMIT_NOFILE)
    assert limit[0] == DESCRIPTORS
    folder = mounted / "isometrics"
    folder.mkdir()
    with ExitStack() as handles:
        for number in range(files):
            file = (folder / f"{number}").open("w+b")
            file.write(b"%d\n" % number)
            file.flush()
            if number < HANDLES:
                handles.enter_context(file)
            else:
                file.close()
        assert len(os.listdir(folder)) == files
        for number in range(files):
            assert (folder / f"{number}").read_bytes() == b"%d\n" % number
        assert len(descriptors_of(process)) < DESCRIPTORS // 2
    here.pdfs("umount", mounted)
    with few_descriptors():
        mounted = here.mount()
    process = process_of(here)
    for number in range(files):
        assert (folder / f"{number}").read_bytes() == b"%d\n" % number
    churn(folder, churned)
    open_before, size_before = len(descriptors_of(process)), resident(process)
    churn(folder, churned)
    assert resident(process) < size_before * 1.05
    while len(descriptors_of(process)) > open_before + 2:  # segments are on their way out
        time.sleep(0.05)
    here.pdfs("umount", mounted)
    assert bucket.directory is not None
    assert len(os.listdir(bucket.directory / PROJECT / "planning" / "isometrics")) == files
    reached(files + 2 * churned, "files")
