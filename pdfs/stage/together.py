"""Running requests side by side, with errors that come out as they went in."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import trio

from pdfs.errors import LockLost, PdfsError

Call = Callable[[], Awaitable[None]]


async def together(calls: Iterable[Call], *, most: int) -> None:
    """Run `calls`, at most `most` at once, and return when all have.

    The first PdfsError cancels the others and is raised as it is, not in a group; a LockLost among
    those that came at once goes first. Each of `calls` is asked for when its turn has come: a
    million of them need no more tasks than `most`.
    """
    errors: list[PdfsError] = []
    waiting = iter(calls)

    async def run() -> None:
        try:
            for call in waiting:
                await trio.lowlevel.checkpoint()  # who has nothing to wait for lets others go on
                await call()
        except PdfsError as error:
            errors.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(most):
            nursery.start_soon(run)
    if errors:
        raise next((error for error in errors if isinstance(error, LockLost)), errors[0])


@asynccontextmanager
async def background(task: Call) -> AsyncIterator[None]:
    """Run `task` while the body runs, and cancel it at the end of the body.

    What the body raises comes out as it is, not in a group. `task` raises nothing on purpose.
    """
    raised: Exception | KeyboardInterrupt | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - only to get past the nursery, which wraps it
            raised = error
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised


def cause_of(error: BaseException) -> BaseException:
    """What went wrong first, out of all the groups that nurseries put around it."""
    while isinstance(error, BaseExceptionGroup):
        failed = error.split(trio.Cancelled)[1] or error
        error = failed.exceptions[0]
    return error
