"""The file system of a journal, mounted by a process of its own: `python -m tests.fuse.daemon`.

STATE is a directory with the journal, which is replayed first; the tree begins empty. It answers
`ready` when it is mounted, ends when it is unmounted, and does what its input says, a line at a
time, each answered by `done`:

    break METHOD HOW    the next call of that method of the file system goes wrong (see HOWS)
    found NAME TEXT     another tool's object enters the top directory, as a listing would find it
    gone NAME           and leaves it
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from pdfs.core.content import Content, content_of
from pdfs.core.ids import TOP
from pdfs.core.ids import Path as StagePath
from pdfs.core.record import Found, Gone
from pdfs.errors import StoreUnavailable
from pdfs.fs.filesystem import StageFilesystem
from pdfs.fuse import Caching, MountOptions, serve
from tests.fs.sessions import empty_tree, filesystem_of, ledger_of


def _raise(error: BaseException) -> object:
    raise error


HOWS: dict[str, Callable[[], object]] = {
    "bug": lambda: _raise(RuntimeError("broken by a test")),
    "errno": lambda: _raise(PermissionError("an OSError that nobody meant as an answer")),
    "group": lambda: _raise(ExceptionGroup("of a nursery", [ValueError("inside")])),
    "memory": lambda: _raise(MemoryError()),
    "store": lambda: _raise(StoreUnavailable("the bucket does not answer")),
    "wrong-type": object,
}


class Daemon:
    """One mount."""

    def __init__(self, filesystem: StageFilesystem, contents: dict[Content, bytes]) -> None:
        self.filesystem = filesystem
        self.contents = contents

    async def obey(self) -> None:
        """Carry out what the input says, until it ends."""
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as lines:
            rest = b""
            async for piece in lines:
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    self._obey(*os.fsdecode(line).split(" "))
                    say("done")

    def _obey(self, order: str, *given: str) -> None:
        match order, given:
            case "break", (method, how):
                self.break_next(method, how)
            case "found", (name, text):
                self.found(name, text)
            case "gone", (name,):
                self.gone(name)
            case _:
                raise ValueError(order)

    def break_next(self, method: str, how: str) -> None:
        real = getattr(self.filesystem, method)

        def broken(*_: object, **__: object) -> object:
            setattr(self.filesystem, method, real)
            return HOWS[how]()

        setattr(self.filesystem, method, broken)

    def found(self, name: str, text: str) -> None:
        content = content_of(os.fsencode(text))
        self.contents[content] = os.fsencode(text)
        self.filesystem.commit_from_below(
            Found(
                parent=TOP,
                name=name,
                path=StagePath(name),
                ino=self.filesystem._ledger.new_inode(),
                mode=0o644,
                uid=os.getuid(),
                gid=os.getgid(),
                mtime=0,
                time=0,
                content=content,
            )
        )

    def gone(self, name: str) -> None:
        self.filesystem.commit_from_below(Gone(path=StagePath(name), parent=TOP, name=name, time=0))


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def main(state: Path, mountpoint: str, seconds: float) -> None:
    with mounted(state) as daemon:
        options = MountOptions(
            source="Kraftwerk_ü,\\1234567/planning",
            allow_other=os.geteuid() == 0,
            caching=lambda: Caching(seconds, seconds),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.obey)
            async with trio.open_nursery() as serving:
                await serving.start(partial(serve, daemon.filesystem, mountpoint, options))
                say("ready")
            nursery.cancel_scope.cancel()


@contextmanager
def mounted(state: Path) -> Iterator[Daemon]:
    contents: dict[Content, bytes] = {}

    async def fetch(content: Content, start: int, stop: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return contents[content][start:stop]

    with ledger_of(state, empty_tree, fetch=fetch) as ledger:
        yield Daemon(filesystem_of(ledger, state), contents)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state", type=Path)
    parser.add_argument("mountpoint")
    parser.add_argument("--caching", type=float, default=86400.0, help="seconds")
    given = parser.parse_args()
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level=logging.INFO)
    trio.run(main, given.state, given.mountpoint, given.caching)
