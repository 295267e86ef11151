"""strace(1) on a process of a test: which calls it makes, and death before the k-th of them.

strace counts for each thread and each system call by itself (`when=`): a point is therefore the
name of a call and its number within its thread. A process with one thread has each of its calls at
exactly one point; of several threads, the first that gets so far takes the others with it. The
signal comes before the call is made: what is there afterwards is what all earlier calls left. What
was really hit is in the log that strace writes, and only that counts.

Without `--seccomp-bpf`: with it, an injected signal is not delivered on every kernel.
"""

import ctypes
import os
import re
import subprocess
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

CHANGING = (
    *("write", "pwrite64", "pwritev", "pwritev2", "writev", "fsync", "fdatasync", "rename"),
    *("renameat", "renameat2", "unlink", "unlinkat", "ftruncate", "openat", "mkdirat", "fallocate"),
)
"""What can change a journal, a cache or the names of their files."""
_SET_TRACER = 0x59616D61
_BY_ANY = 2**64 - 1
_TWINS = dict.fromkeys(("pwritev", "pwritev2"), "pwritev,pwritev2")
"""Which of them Python makes depends on how it was built."""
_BY_NAME = {"openat", "mkdirat", "unlinkat", "renameat", "renameat2"}
_NAME = re.compile(r'"([^"]*)"')
_MARK = "/proc"
_LINE = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\((?P<given>.*)")
_PATH = re.compile(r"<(/[^>]*)>")


@dataclass(frozen=True, slots=True)
class Point:
    """The `number`th call of that name, from 1, in the first thread that makes so many."""

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Call:
    """One line of a log."""

    thread: int
    point: Point
    given: str
    """Arguments as strace shows them, each descriptor with its path."""
    is_made: bool
    """False for the one before which the process died."""

    @property
    def path(self) -> str:
        """Of the descriptor that it works on or in; empty where there is none."""
        found = _PATH.search(self.given)
        return "" if found is None else found[1]

    @property
    def about(self) -> str:
        """What to tell strace as `only` so that it counts the calls about the same file alone.

        The path of a descriptor that is written or synced; a name, where names are changed.
        """
        found = _NAME.search(self.given) if self.point.name in _BY_NAME else None
        return self.path if found is None else found[1]

    @property
    def is_append(self) -> bool:
        """Writes into a segment that takes records."""
        return self.point.name.startswith("pwrite") and "/journal-" in self.path

    @property
    def is_segment_rename(self) -> bool:
        """Makes a segment whole."""
        return self.point.name.startswith("rename") and '"journal-' in self.given

    @property
    def is_directory_sync(self) -> bool:
        """Makes the names of a session's files survive a power cut."""
        return self.point.name == "fsync" and re.search(r"/sessions/[^/]+$", self.path) is not None


def follow_this_process(log: Path, *tampering: str, only: Collection[str] = ()) -> None:
    """Have strace write down this process's calls, and those of its children, from here on.

    `tampering` is `kill_at(…)`, or the value of an `inject=` of strace; what does not work on or
    in one of the paths or names `only` is neither counted nor written. Returns when it follows.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(_SET_TRACER, ctypes.c_ulong(_BY_ANY), 0, 0, 0)  # may fail: not all kernels ask
    # It ends with this process, and nobody waits for it.
    follow(os.getpid(), log, *tampering, only=only).returncode = 0
    while not log.exists() or not log.stat().st_size:
        os.statvfs(_MARK)


def follow(
    process: int, log: Path, *tampering: str, only: Collection[str] = ()
) -> "subprocess.Popen[bytes]":
    """Attach strace to a process, which may go on for a moment before it is followed."""
    calls = ("statfs", *CHANGING)
    paths = (_MARK, *only) if only else ()
    return subprocess.Popen(
        [
            *(
                "strace",
                "--follow-forks",
                "--quiet=attach,thread-execve",
                "--decode-fds=path",
                "--string-limit=64",
            ),
            f"--trace={','.join(calls)}",
            *(f"--trace-path={path}" for path in paths),
            *(f"--inject={each}" for each in tampering),
            *("--output", log, "--attach", str(process)),
        ],
        stdin=subprocess.DEVNULL,
    )


def kill_at(point: Point) -> str:
    """Tampering that ends the process before that call."""
    return f"{_TWINS.get(point.name, point.name)}:signal=KILL:when={point.number}"


def calls(log: Path, below: Path) -> list[Call]:
    """The calls that worked on something below that directory, in their order."""
    return [call for call in _all_calls(log) if f"{call.path}/".startswith(f"{below}/")]


def _all_calls(log: Path) -> Iterator[Call]:
    made: Counter[tuple[int, str]] = Counter()
    lines = log.read_text(errors="replace").splitlines()
    ends = {
        line.split(maxsplit=1)[0]: number for number, line in enumerate(lines) if "<... " in line
    }
    for at, line in enumerate(lines):
        found = _LINE.match(line)
        if found is None:
            continue
        thread, name = found["thread"], found["name"]
        made[int(thread), name] += 1
        is_cut = line.endswith("<unfinished ...>") and ends.get(thread, 0) < at
        point = Point(name, made[int(thread), name])
        yield Call(int(thread), point, found["given"], not is_cut and not line.endswith("= ?"))
