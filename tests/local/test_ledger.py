"""The ledger's sync: shared, never cut short, and never called a success after a failure."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pdfs.core.ids import TOP, Fence
from pdfs.core.record import Create, Kind
from pdfs.core.tree import Tree
from pdfs.errors import JournalFailed
from pdfs.local.ledger import Ledger
from tests.fs.sessions import empty_tree, ledger_of, replayed
from tests.local.faulty_disk import Fault, FaultyDisk


class SlowDisk:
    """Syncs in a thread that begins and ends when the test says so; here, without a thread."""

    def __init__(self) -> None:
        self.free, self.done = trio.Event(), trio.Event()
        self.runs = 0

    async def run_blocking(self, call: Callable[[], None]) -> None:
        await self.free.wait()  # as for a thread
        self.runs += 1
        call()
        await self.done.wait()  # what a thread does, it does to its end
        await trio.lowlevel.checkpoint()


@contextmanager
def a_ledger(path: Path, slow: SlowDisk, disk: FaultyDisk | None = None) -> Iterator[Ledger]:
    with ledger_of(path, empty_tree, run_blocking=slow.run_blocking, disk=disk) as ledger:
        yield ledger


def make(ledger: Ledger, name: str) -> None:
    ino = ledger.new_inode()
    ledger.commit(
        Create(parent=TOP, name=name, ino=ino, kind=Kind.FILE, mode=0, uid=0, gid=0, time=0)
    )


async def test_a_fence_that_is_taken_again_gives_no_number_twice(tmp_path: Path) -> None:
    with a_ledger(tmp_path, SlowDisk()) as ledger:
        for name in "ab":
            make(ledger, name)
        ledger.adopt(Fence(1))
        make(ledger, "c")
        assert len(ledger.tree.nodes) == 4


@pytest.mark.parametrize("is_begun", [False, True], ids=["waiting for a thread", "in the thread"])
async def test_a_sync_whose_caller_is_cancelled_runs_to_its_end_and_counts(
    tmp_path: Path, is_begun: bool
) -> None:
    """Half a sync would count as a failed one, and a failed one ends the journal for good."""
    slow, disk = SlowDisk(), FaultyDisk()
    with a_ledger(tmp_path, slow, disk) as ledger:
        make(ledger, "a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ledger.sync)
            await wait_all_tasks_blocked()
            if is_begun:
                slow.free.set()
                await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            slow.free.set()
            slow.done.set()
        assert slow.runs == 1
        assert disk.made.count("fdatasync") == 1
        await ledger.sync()
        assert slow.runs == 1, "what was synced is synced anew"
        make(ledger, "b")
        await ledger.sync()
        assert slow.runs == 2


async def test_who_waits_for_the_sync_of_a_cancelled_caller_is_told_the_truth(
    tmp_path: Path,
) -> None:
    slow = SlowDisk()
    told: list[str] = []
    with a_ledger(tmp_path, slow) as ledger:
        make(ledger, "a")

        async def wait() -> None:
            await ledger.sync()
            told.append("synced")

        async with trio.open_nursery() as nursery:
            impatient = trio.CancelScope()

            async def begin() -> None:
                with impatient:
                    await ledger.sync()

            nursery.start_soon(begin)
            await wait_all_tasks_blocked()
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            impatient.cancel()
            slow.free.set()
            await wait_all_tasks_blocked()
            assert told == [], "a sync that still runs was called done"
            slow.done.set()
        assert told == ["synced"]
        assert slow.runs == 1


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_after_a_failed_sync_nobody_is_told_of_a_success(
    tmp_path: Path, is_cancelled: bool
) -> None:
    """A sync that is tried again may succeed without the bytes; nobody may hear of that."""
    slow = SlowDisk()
    disk = FaultyDisk()
    told: list[str] = []
    with a_ledger(tmp_path, slow, disk) as ledger:
        make(ledger, "a")
        disk.fault = Fault(at=1, error=errno.EIO, calls=frozenset({"fdatasync"}))

        async def wait() -> None:
            try:
                await ledger.sync()
            except JournalFailed:
                told.append("failed")
            else:
                told.append("synced")

        async with trio.open_nursery() as nursery:
            first = trio.CancelScope()

            async def begin() -> None:
                with first:
                    await wait()

            nursery.start_soon(begin)
            await wait_all_tasks_blocked()
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            if is_cancelled:
                first.cancel()
            slow.free.set()
            slow.done.set()
        assert told == ["failed", "failed"]
        for _ in range(2):
            with pytest.raises(JournalFailed):
                await ledger.sync()
        with pytest.raises(JournalFailed):
            make(ledger, "b")
        assert disk.made.count("fdatasync") == 1


@pytest.mark.parametrize("step", ["append", "apply"])
def test_nothing_is_taken_after_a_record_that_memory_did_not_suffice_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The record may be in the journal, and not in the tree: one that follows must not be there."""
    with a_ledger(tmp_path, SlowDisk()) as ledger:
        make(ledger, "a")
        whose = {"append": ledger._journal, "apply": Tree}[step]
        real = getattr(whose, step)

        def carry_out_and_fail(*given: object, **named: object) -> None:
            real(*given, **named)
            raise MemoryError

        with monkeypatch.context() as patch:
            patch.setattr(whose, step, carry_out_and_fail)
            with pytest.raises(MemoryError):
                make(ledger, "b")
        with pytest.raises(JournalFailed, match="MemoryError"):
            make(ledger, "c")
        assert list(replayed(tmp_path).nodes[TOP].entries) == ["a", "b"]
