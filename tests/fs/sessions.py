"""A session's ledger in a directory, without a bucket: begun, killed, and recovered."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trio

from pdfs.core.content import Content
from pdfs.core.ids import Fence, RunId, SessionId
from pdfs.core.tree import Tree, new_tree
from pdfs.disk import Disk, OsDisk
from pdfs.errors import ContentLost
from pdfs.fs.clock import coarse_now
from pdfs.fs.filesystem import StageFilesystem
from pdfs.local.journal_format import Header
from pdfs.local.ledger import Fetch, Ledger, RunBlocking
from pdfs.local.recovery import begin, recover, reopen
from pdfs.local.state import StateDirectory

SESSION = SessionId("5e55105e55105e55105e55105e551000")


async def no_fetch(content: Content, start: int, stop: int) -> bytes:
    """There is no bucket: every byte has to be in the journal."""
    raise ContentLost(f"bytes {start} to {stop} of {content}")


async def in_thread(call: Callable[[], None]) -> None:
    await trio.to_thread.run_sync(call)


async def inline(call: Callable[[], None]) -> None:
    """Where the clock of the test does not wait for threads."""
    call()


def replayed(path: Path) -> Tree:
    """The tree that the journal there makes; also while somebody has it open."""
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(path, copy, dirs_exist_ok=True)
        with (
            StateDirectory(OsDisk(), Path(copy)) as state,
            state.open_session(SESSION) as directory,
        ):
            recovered = recover(OsDisk(), directory)
        assert recovered is not None
        assert not recovered.damage
        return recovered.tree


@contextmanager
def ledger_of(
    path: Path,
    start: Callable[[], Tree],
    *,
    fetch: Fetch = no_fetch,
    run_blocking: RunBlocking = in_thread,
    disk: Disk | None = None,
) -> Iterator[Ledger]:
    """The ledger of the session whose state directory is `path`; left as by a crash.

    Its journal begins with the tree of `start`; the next time, it is recovered.
    """
    disk, header = disk or OsDisk(), _new_header()
    with ExitStack() as stack:
        state = stack.enter_context(StateDirectory(disk, path))
        is_new = not state.sessions()
        open_session = state.create_session if is_new else state.open_session
        directory = stack.enter_context(open_session(SESSION))
        recovered = recover(disk, directory)
        if recovered is None:
            made = begin(disk, directory, header, start(), fetch=fetch, run_blocking=run_blocking)
        else:
            assert not recovered.damage, recovered.damage
            made = reopen(
                disk, directory, header, recovered, fetch=fetch, run_blocking=run_blocking
            )
        ledger, journal = made
        stack.callback(journal.abandon)
        ledger.adopt(Fence(journal.segment))
        yield ledger


def _new_header() -> Header:
    return Header(
        session=SESSION,
        run=RunId(uuid.uuid4().hex),
        project="Kraftwerk_1234567",
        stage="planning",
        user="anna",
        machine="ws7",
        base={},
    )


def filesystem_of(ledger: Ledger, path: Path) -> StageFilesystem:
    """As it is served: a coarse clock, and the room of the disk."""
    return StageFilesystem(ledger, now_ns=coarse_now, room=lambda: os.statvfs(path))


def empty_tree() -> Tree:
    """What a stage without files begins with."""
    return new_tree(uid=os.getuid(), gid=os.getgid())
