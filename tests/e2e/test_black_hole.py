"""A bucket that swallows everything: what is here goes on, the rest is an error in time (F3)."""

import os
import random
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from re import findall

import pytest

from tests.conftest import Reached
from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import PROJECT, end_process, server_bucket
from tests.e2e.races import relayed_bucket
from tests.store.relay import GIVE_UP, Answered, Asked, Forward
from tests.store.servers import Server

BIG = 1 << 20
READ = 3.0
"""Longest wait of a read, as the mount is told."""
ANSWER = 600.0
"""Of a request: who waited for one would be long over all that is measured here."""


def use(place: Path, number: int, cached: bytes) -> int:
    """Calls of every kind, on what is cached and on what is new; how many."""
    name, other = place / f"new-{number}", place / f"other-{number}"
    assert (place / "cached.dwg").read_bytes() == cached
    assert "uncached.dwg" in os.listdir(place)
    assert (place / "uncached.dwg").stat().st_size == BIG
    with name.open("w+b") as file:
        file.write(b"drawn" * 1000)
        file.flush()
        os.fsync(file.fileno())
        file.seek(10)
        assert file.read(5) == b"drawn"
        file.truncate(7)
    name.chmod(0o640)
    os.utime(name, (1, 1))
    os.link(name, other)
    name.rename(place / "renamed")
    os.setxattr(other, "user.note", b"x")
    (place / "dir").mkdir()
    (place / "dir").rmdir()
    (place / "soft").symlink_to("renamed")
    assert (place / "soft").read_bytes() == b"drawndr"
    for left in ("soft", "renamed", f"other-{number}"):
        (place / left).unlink()
    with pytest.raises(FileNotFoundError):
        (place / "nothing").stat()
    return 24


@dataclass(slots=True)
class Hole:
    """A rule: nothing comes back, until the bucket is back. What is big is in it from the start."""

    is_open: bool = False
    is_back: threading.Event = field(default_factory=threading.Event)

    def __call__(self, asked: Asked, forward: Forward) -> Answered:
        span = [int(each) for each in findall(r"\d+", asked.header("range") or "")]
        if self.is_open or (span and span[1] - span[0] > BIG // 2):
            self.is_back.wait(GIVE_UP)
        return forward(asked)


@pytest.mark.figure(name="F3")
def test_in_a_black_hole_what_is_here_goes_on_and_the_rest_is_eio_in_time(
    moto: Server, machine: MakeMachine, seed: int, reached: Reached
) -> None:
    chance, prefix, hole = random.Random(seed), uuid.uuid4().hex, Hole()
    cached, uncached = chance.randbytes(100_000), chance.randbytes(BIG)
    elsewhere = machine(server_bucket(moto, prefix), "ws8")
    mounted = elsewhere.mount("--create")
    for name, data in {"cached.dwg": cached, "uncached.dwg": uncached}.items():
        (mounted / name).write_bytes(data)
    elsewhere.pdfs("umount", PROJECT)
    with relayed_bucket(moto, prefix, hole) as (bucket, _):
        here = machine(bucket)
        here.timing |= {"read": READ, "answer": ANSWER}
        mounted = here.mount()
        assert (mounted / "cached.dwg").read_bytes() == cached
        hole.is_open = True
        began = time.monotonic()
        calls = sum(use(mounted, number, cached) for number in range(10))
        assert time.monotonic() - began < ANSWER, "something waited for the bucket"
        with pytest.raises(OSError, match="Input/output error"):
            (mounted / "uncached.dwg").read_bytes()
        killed_while_it_reads(mounted / "uncached.dwg")
        reached(calls, "calls while the bucket was a black hole")
        hole.is_open = False
        hole.is_back.set()
        assert (mounted / "uncached.dwg").read_bytes() == uncached
        here.pdfs("umount", PROJECT)


def killed_while_it_reads(path: Path) -> None:
    """A program that waits for the bucket can be killed; it is gone when the read would be over."""
    code = "import sys; print(flush=True); open(sys.argv[1], 'rb').read()"
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as reading:
        assert reading.stdout is not None
        reading.stdout.readline()
        end_process(reading.pid)
        reading.wait()
