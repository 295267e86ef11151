"""Ledgers for tests, without a bucket."""

from collections.abc import Callable

import trio

from pdfs.core.content import Content
from pdfs.core.ids import TOP, Fence, Inode
from pdfs.core.record import Create, Kind, Unlink, Write
from pdfs.core.tree import new_tree
from pdfs.disk import Disk
from pdfs.errors import ContentLost
from pdfs.local.checkpoint import Checkpoint, Order, make_checkpoint
from pdfs.local.journal import Journal
from pdfs.local.ledger import Ledger, RunBlocking
from pdfs.local.upkeep import Make


async def no_fetch(content: Content, start: int, stop: int) -> bytes:
    """There is no bucket."""
    raise ContentLost(f"bytes {start} to {stop} of {content}")


async def inline(call: Callable[[], None]) -> None:
    """Where the clock of a test waits for no threads; other tasks have their turn all the same."""
    await trio.lowlevel.checkpoint()
    call()
    await trio.lowlevel.checkpoint()


def made_here(disk: Disk, directory: int) -> Make:
    """Checkpoints are made in this process."""

    async def make(order: Order) -> Checkpoint:
        await trio.lowlevel.checkpoint()
        return make_checkpoint(disk, directory, order)

    return make


def empty_ledger(
    journal: Journal, *, run_blocking: RunBlocking = inline, reserve: int = 0
) -> Ledger:
    """A ledger whose tree has nothing but its top."""
    tree = new_tree(uid=1000, gid=1000)
    ledger = Ledger(tree, journal, fetch=no_fetch, run_blocking=run_blocking, reserve=reserve)
    ledger.adopt(Fence(1))
    return ledger


def create(ledger: Ledger, name: str) -> Inode:
    """A new file in the top directory."""
    ino = ledger.new_inode()
    ledger.commit(
        Create(
            parent=TOP,
            name=name,
            ino=ino,
            kind=Kind.FILE,
            mode=0o644,
            uid=1000,
            gid=1000,
            time=1,
        )
    )
    return ino


def write(ledger: Ledger, ino: Inode, offset: int, data: bytes) -> None:
    ledger.commit(Write(ino=ino, offset=offset, time=2), data)


def unlink(ledger: Ledger, name: str) -> None:
    ledger.commit(Unlink(parent=TOP, name=name, time=3))
