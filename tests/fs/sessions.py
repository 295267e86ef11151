"""A session's ledger in a directory, without a bucket: begun, killed, and replayed."""

import os
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from pdfs.core.content import Content
from pdfs.core.ids import Fence, RunId, SessionId
from pdfs.core.tree import Tree, new_tree
from pdfs.disk import Disk, OsDisk
from pdfs.errors import ContentLost
from pdfs.fs.clock import coarse_now
from pdfs.fs.filesystem import StageFilesystem
from pdfs.local.journal import Journal
from pdfs.local.journal_format import Header
from pdfs.local.journal_loader import load
from pdfs.local.ledger import Fetch, Ledger
from pdfs.local.replay import replay

SESSION = SessionId("5e55105e55105e55105e55105e551000")


async def no_fetch(content: Content, start: int, stop: int) -> bytes:
    """There is no bucket: every byte has to be in the journal."""
    raise ContentLost(f"bytes {start} to {stop} of {content}")


async def in_thread(call: Callable[[], None]) -> None:
    await trio.to_thread.run_sync(call)


async def inline(call: Callable[[], None]) -> None:
    """Where the clock of the test does not wait for threads."""
    call()


def replayed(path: Path, start: Callable[[], Tree]) -> tuple[Tree, int, int]:
    """(tree, last sequence, last segment) of the journal there; `start` is what it began with."""
    with opened_directory(path) as directory:
        tree = start()
        loaded = load(OsDisk(), directory, session=SESSION, after=0)
        replay(tree, loaded.records())
        assert loaded.end.damage is None, loaded.end.damage
        assert loaded.end.highest_sequence == loaded.end.last_sequence
        return tree, loaded.end.last_sequence, loaded.highest_segment


@contextmanager
def ledger_of(
    path: Path,
    start: Callable[[], Tree],
    *,
    fetch: Fetch = no_fetch,
    run_blocking: Callable[[Callable[[], None]], Awaitable[None]] = in_thread,
    disk: Disk | None = None,
) -> Iterator[Ledger]:
    """The ledger of the session in that directory; left as by a crash, with nothing closed.

    (A real recovery makes a checkpoint first; what is replayed is the same.)
    """
    tree, last, segment = replayed(path, start)
    header = Header(
        session=SESSION,
        run=RunId(uuid.uuid4().hex),
        project="Kraftwerk_1234567",
        stage="planning",
        user="anna",
        machine="ws7",
        base={},
    )
    with opened_directory(path) as directory:
        journal = Journal.create(
            disk or OsDisk(), directory, header, segment=segment + 1, first_sequence=last + 1
        )
        try:
            ledger = Ledger(tree, journal, fetch=fetch, run_blocking=run_blocking)
            ledger.adopt(Fence(segment + 1))
            yield ledger
        finally:
            journal.abandon()


def filesystem_of(ledger: Ledger, path: Path) -> StageFilesystem:
    """As it is served: a coarse clock, and the room of the disk."""
    return StageFilesystem(ledger, now_ns=coarse_now, room=lambda: os.statvfs(path))


def empty_tree() -> Tree:
    """What a stage without files begins with."""
    return new_tree(uid=os.getuid(), gid=os.getgid())


@contextmanager
def opened_directory(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
