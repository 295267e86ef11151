"""Limits of a running process's memory: the kernel's, which kills, and its own, which refuses."""

import contextlib
import errno
import os
import resource
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

TOP = Path("/sys/fs/cgroup")
_V1 = ("memory.limit_in_bytes", "memory.oom_control")
_V2 = ("memory.max", "memory.events")


class MemoryGroup:
    """A group of processes that together have little memory; the kernel kills who wants more."""

    def __init__(self, path: Path, limit: str, events: str) -> None:
        self._path = path
        self._limit, self._events = path / limit, path / events

    def take_in(self, pid: int, most: int) -> None:
        """From now on, the process has so many bytes more, or in all, as the kernel counts."""
        self._limit.write_text(str(most))
        (self._path / "cgroup.procs").write_text(str(pid))

    @property
    def kills(self) -> int:
        """How many the kernel has killed here for memory."""
        rows = dict(line.split() for line in self._events.read_text().splitlines())
        return int(rows["oom_kill"])


@contextlib.contextmanager
def memory_group() -> Iterator[MemoryGroup | None]:
    """A group of the test's own; None where this machine lets nobody make one."""
    for above, names in ((TOP / "memory", _V1), (TOP, _V2)):
        path = above / f"pdfs-test-{uuid.uuid4().hex}"
        try:
            path.mkdir()
        except OSError:
            continue
        try:
            if all((path / name).exists() for name in names):
                yield MemoryGroup(path, *names)
                return
        finally:
            _remove(path)
    yield None


def _remove(group: Path) -> None:
    """Remove it as soon as its last process has left it."""
    while True:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (group.parent / "cgroup.procs").write_text(pid)
        try:
            group.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.05)
        else:
            return


def size_of(pid: int) -> int:
    """Bytes of its address space."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")


@contextlib.contextmanager
def starved(pid: int, more: int) -> Iterator[None]:
    """Meanwhile the process, if it lives, gets at most so many bytes of memory more."""
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (size_of(pid) + more, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_AS, before)
