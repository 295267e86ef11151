"""A session of this process that shows its stage to nobody: what imports and repairs are.

It has a journal and a directory like others: killed, it is a crashed session.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import click

from pdfs.cli.progress import Progress
from pdfs.config import Configuration
from pdfs.core.content import Content
from pdfs.disk import OsDisk
from pdfs.errors import LockError, ObjectDamaged, PdfsError
from pdfs.local.state import StateDirectory
from pdfs.local.upkeep import evict_nothing
from pdfs.mount.access import claimant_of
from pdfs.mount.description import description_of, header_of
from pdfs.mount.progress import ProgressTeller
from pdfs.mount.workspace import DiskWorkspace
from pdfs.session import Serve, StageSession
from pdfs.stage.contents import Prefetch
from pdfs.stage.context import StageContext
from pdfs.stage.fetch import fetch_span
from pdfs.stage.together import background


class UnmountedSession:
    """The session, and where this machine keeps what it does."""

    def __init__(
        self,
        configuration: Configuration,
        ctx: StageContext,
        state: StateDirectory,
        *,
        reading: str = "",
        workspace: type[DiskWorkspace] = DiskWorkspace,
        take_over: bool = False,
    ) -> None:
        """`reading` is the directory that it reads from, if any."""
        self._ctx = ctx
        self._take_over = take_over
        fetch = partial(_fetch, ctx)
        self.workspace = workspace(
            OsDisk(),
            state,
            header_of(configuration, ctx, reading=reading),
            description_of(configuration, ctx, "", reading=reading, run=ctx.owner.run),
            fetch,
            fetch,
        )
        self.session = StageSession(ctx, self.workspace)

    async def run(self, serve: Serve) -> None:
        """Take the stage, have it served, publish, release. Raises as `StageSession.run` does."""
        claimant = claimant_of(self._ctx, take_over=self._take_over)
        self.workspace.prepare()
        try:
            with Progress() as progress:
                teller = ProgressTeller(Prefetch, self._ctx.uploads, progress.show)
                async with background(teller.run):
                    await self.session.run(claimant, serve)
        except (LockError, ObjectDamaged) as error:
            if isinstance(error, LockError) or self.session.lock is None:
                self.workspace.forget()
            raise
        finally:
            self.workspace.close()

    async def kept(self, work: Callable[[], Awaitable[None]]) -> None:
        """Await `work`, which writes to the journal; that is kept ready and bounded meanwhile."""
        async with background(partial(self.workspace.keep, _warn, evict_nothing)):
            await work()


def _warn(error: PdfsError) -> None:
    """What the journal's upkeep could not do; the session goes on."""
    click.echo(str(error), err=True)


async def _fetch(ctx: StageContext, content: Content, start: int, stop: int) -> bytes:
    return await fetch_span(ctx, content, start, stop)
