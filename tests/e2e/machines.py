"""Machines that share a bucket: real `pdfs` processes with XDG directories of their own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.store.servers import ACCESS_KEY, REGION, SECRET_KEY, Server, admin_client

ROOT = Path(__file__).parents[2]
PDFS = Path(sys.executable).with_name("pdfs")
DEMO_FILES = ROOT / "scripts" / "demo_files.py"
PROJECT = "Kraftwerk_1234567"
LIMIT = 240.0
"""Seconds that one command may take."""
TIMING = {
    "renewal": 1.0,
    "foreign_plan_wait": 2.0,
    "delete_valid": 1.0,
    "same_user_elsewhere": 3.0,
    "answer": 5.0,
    "patience": 5.0,
    "backoff_limit": 1.0,
}


_UNCONDITIONAL = {"delete_valid": 10.0, "foreign_plan_wait": 11.0}
"""Where DELETE takes no condition, it is signed for so long by a clock of whole seconds: on a busy
machine, less could be over before it is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket, as the environment names it."""

    kind: str
    environ: Mapping[str, str]
    server: Server | None = None
    prefix: str = ""
    """Of the keys in the server's bucket, without the `/` at its end."""
    directory: Path | None = None
    timing: Mapping[str, float] = field(default_factory=dict)
    """Intervals that this store needs longer than `TIMING` has them."""

    def plain_texts(self) -> dict[str, str]:
        """The stage's plain objects in the server's bucket, as another tool reads them."""
        assert self.server is not None
        top = f"{self.prefix}/{PROJECT}/planning/"
        with contextlib.closing(admin_client(self.server)) as client:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self.server.bucket, Prefix=top
            )
            found = [row["Key"] for page in pages for row in page.get("Contents", [])]
            return {
                key.removeprefix(top): client.get_object(Bucket=self.server.bucket, Key=key)["Body"]
                .read()
                .decode()
                for key in found
            }


def directory_bucket(path: Path) -> Bucket:
    """A directory that plays the bucket."""
    path.mkdir(parents=True)
    return Bucket(kind="file", environ={"PDFS_BUCKET": f"file://{path}"}, directory=path)


def server_bucket(server: Server, prefix: str) -> Bucket:
    """A prefix of a server's bucket."""
    return Bucket(
        kind=server.kind,
        server=server,
        prefix=prefix,
        timing=_UNCONDITIONAL if server.kind in ("r2", "minio") else {},
        environ={
            "PDFS_BUCKET": f"s3://{server.bucket}/{prefix}",
            "PDFS_ENDPOINT_URL": server.endpoint,
            "PDFS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        },
    )


@dataclass(slots=True, kw_only=True)
class Machine:
    """One machine of one user, below `home`."""

    home: Path
    bucket: Bucket
    name: str = "ws7"
    user: str = "anna"
    extra: dict[str, str] = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=lambda: dict(TIMING))

    def __post_init__(self) -> None:
        for directory in (self.mountpoint, self.home / "run"):
            directory.mkdir(parents=True)

    @property
    def mountpoint(self) -> Path:
        return self.home / "mnt"

    @property
    def environ(self) -> dict[str, str]:
        """That of every command on this machine."""
        directories = {
            f"XDG_{name.upper()}": str(self.home / name.partition("_")[0])
            for name in ("state_home", "cache_home", "config_home", "data_home", "runtime_dir")
        }
        who = {"PDFS_MACHINE": self.name, "PDFS_USER": self.user, "HOME": str(self.home)}
        timing = {"PDFS_TEST_TIMING": json.dumps({**self.timing, **self.bucket.timing})}
        return {**os.environ, **directories, **who, **timing, **self.bucket.environ, **self.extra}

    def run(self, *arguments: str | Path, limit: float = LIMIT) -> "Ended":
        """Run `pdfs` to its end."""
        done = subprocess.run(
            [PDFS, *arguments],
            env=self.environ,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def pdfs(self, *arguments: str | Path) -> str:
        """Run `pdfs`, which has to succeed; what it printed."""
        ended = self.run(*arguments)
        assert ended.code == 0, f"pdfs {arguments} ended with {ended}"
        return ended.out

    def mount(self, *options: str) -> Path:
        """Mount the project."""
        self.pdfs("mount", PROJECT, self.mountpoint, *options)
        return self.mountpoint

    def sessions(self) -> list[dict[str, Any]]:
        """What `pdfs status --json` says."""
        found: list[dict[str, Any]] = json.loads(self.pdfs("status", "--json"))["sessions"]
        return found

    def logged(self) -> list[dict[str, Any]]:
        """The log of the one session."""
        return [json.loads(line) for line in self.pdfs("log", PROJECT, "--json").splitlines()]

    def wait_logged(self, event: str, count: int = 1, **fields: object) -> None:
        """Return when the log of the one session has so many of these."""
        deadline = time.monotonic() + LIMIT
        wanted = {"event": event, **fields}.items()
        while sum(wanted <= line.items() for line in self.logged()) < count:
            assert time.monotonic() < deadline, f"no {count} {event} in the log"
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9 of the one daemon; returns when it is gone."""
        (session,) = self.sessions()
        end_process(session["pid"])

    def die(self) -> None:
        """kill -9 of all that runs on this machine."""
        mark = f"XDG_STATE_HOME={self.environ['XDG_STATE_HOME']}".encode()
        for place in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in place.read_bytes().split(b"\0"):
                    os.kill(int(place.parent.name), signal.SIGKILL)

    def wait_released(self) -> None:
        """Return when no session is left, as after an unmount that nobody waited for."""
        deadline = time.monotonic() + LIMIT
        while sessions := self.sessions():
            assert time.monotonic() < deadline, f"still there: {sessions}"
            assert all(session["alive"] for session in sessions), f"ended in disorder: {sessions}"
            time.sleep(0.1)
        assert "is not locked" in self.pdfs("lock", "show", PROJECT)

    def clean_up(self) -> None:
        """End what a test left behind."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired, ValueError):
            for session in self.sessions():
                if session["alive"] and session["pid"]:
                    end_process(session["pid"])
        unmount_all(self.home)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def end_process(pid: int) -> None:
    """kill -9; returns when the process is gone."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, signal.SIGKILL)
        while True:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
            time.sleep(0.01)


def unmount_all(below: Path) -> None:
    """Detach every mount below a directory."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place = line.split(" ")[4]
        if place.startswith(f"{below}/"):
            subprocess.run(["fusermount3", "-u", "-z", place], check=False, capture_output=True)


def describe(directory: Path) -> list[str]:
    """Kind, mode, mtime, digest or target, and path of everything there, but the top's own."""
    command: Sequence[str | Path] = [sys.executable, DEMO_FILES, "describe", directory]
    said = subprocess.check_output(command, text=True, timeout=LIMIT)
    return said.splitlines()


def make_project(directory: Path) -> Path:
    """A small plant project of real files."""
    command: Sequence[str | Path] = [sys.executable, DEMO_FILES, "make", directory]
    subprocess.run(command, check=True, timeout=LIMIT)
    return directory


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that neither runs nor answers meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
