"""What the kernel is told of changes: a kernel that does not answer holds up no end."""

import threading

import pyfuse3
import pytest
import trio

from pdfs import fuse
from pdfs.core.ids import TOP

pytestmark = pytest.mark.real_clock


async def test_a_notice_that_is_stuck_in_the_kernel_does_not_hold_up_the_end_of_the_mount(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits for requests of its directory, which nobody answers any more."""
    begun, answered, over = trio.Event(), threading.Event(), threading.Event()

    def stuck(parent: int, name: bytes) -> None:
        trio.from_thread.run_sync(begun.set)
        answered.wait(20.0)
        over.set()

    monkeypatch.setattr(pyfuse3, "invalidate_entry", stuck)
    notices = fuse._Notices()
    notices.add(TOP, b"f")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notices.tell)
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert not over.is_set(), "the end waited for the kernel"
    answered.set()
    await trio.to_thread.run_sync(over.wait)


async def test_names_are_told_one_by_one_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bytes] = []
    done = trio.Event()

    def take(parent: int, name: bytes) -> None:
        told.append(name)
        if name == b"last":
            trio.from_thread.run_sync(done.set)

    monkeypatch.setattr(pyfuse3, "invalidate_entry", take)
    notices = fuse._Notices()
    for name in (b"a", b"b", b"last"):
        notices.add(TOP, name)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notices.tell)
        await done.wait()
        nursery.cancel_scope.cancel()
    assert told == [b"a", b"b", b"last"]
