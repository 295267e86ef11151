"""Repairing a stage: a session like others that serves nobody, and publishes what mends it.

The plan that it finds is finished, what other tools did is taken in, what is damaged is told to the
tree, that is published, and leftovers are collected. Killed amid that, it is a crashed session.
"""

import uuid
from functools import partial

import click
import trio

from pdfs.cli.bucket import opened_stage
from pdfs.cli.importing import description_of, fetch_from, header_of
from pdfs.cli.progress import Progress
from pdfs.cli.sessions import sessions_of, state_of
from pdfs.config import Configuration
from pdfs.core.ids import Path, SessionId
from pdfs.core.keys import StageKeys
from pdfs.core.lease import Claimant
from pdfs.disk import OsDisk
from pdfs.errors import LockError, PdfsError, UnpublishedWork
from pdfs.local.state import StateDirectory
from pdfs.local.upkeep import evict_nothing
from pdfs.mount.progress import ProgressTeller
from pdfs.mount.workspace import DiskWorkspace, ServedWork
from pdfs.session import StageSession
from pdfs.stage.contents import Prefetch
from pdfs.stage.context import StageContext
from pdfs.stage.repair import Mending
from pdfs.stage.together import background
from pdfs.stage.work import Work


def repair(configuration: Configuration, keys: StageKeys, *, reads: bool) -> list[Path]:
    """Take the stage, put it right, and give it back; the conflict copies that were made.

    Raises LockHeld where somebody has it, UnpublishedWork where a session of it crashed here.
    """
    left = [each for each in sessions_of(configuration, keys) if not each.is_held]
    if left:
        raise UnpublishedWork(
            f"a session of {left[0].name} crashed here, and what it did is not published wholly",
            remedy=f"first pdfs recover resume {left[0].short}, or discard; then repair",
        )
    return trio.run(partial(_repair, configuration, keys, reads=reads))


async def _repair(configuration: Configuration, keys: StageKeys, *, reads: bool) -> list[Path]:
    session = SessionId(uuid.uuid4().hex)
    async with opened_stage(configuration, keys, session=session, changes=True) as ctx:
        with state_of(configuration) as state:
            return await _Repair(configuration, ctx, state, reads).run()


class _Repair:
    """One repair, as a session."""

    def __init__(
        self,
        configuration: Configuration,
        ctx: StageContext,
        state: StateDirectory,
        reads: bool,
    ) -> None:
        self._ctx = ctx
        self._workspace = DiskWorkspace(
            OsDisk(),
            state,
            header_of(configuration, ctx),
            description_of(configuration, ctx),
            fetch_from(ctx),
            fetch_from(ctx),
        )
        self._session = StageSession(ctx, self._workspace)
        self._session.collects_all = True
        self._mending = Mending(ctx, reads=reads)
        self._session.on_note = self._mending.hear

    async def run(self) -> list[Path]:
        """Returns when all is published: the conflict copies. Raises what went wrong."""
        owner = self._ctx.owner
        claimant = Claimant(user=owner.user, session=owner.session, run=owner.run)
        self._workspace.prepare()
        try:
            with Progress() as progress:
                teller = ProgressTeller(Prefetch, self._ctx.uploads, progress.show)
                async with background(teller.run):
                    await self._session.run(claimant, self._serve)
        except LockError:
            self._workspace.forget()
            raise
        finally:
            self._workspace.close()
        return self._session.conflicts

    async def _serve(self, work: Work) -> None:
        assert isinstance(work, ServedWork)
        async with background(partial(self._workspace.keep, _warn, evict_nothing)):
            await self._mending.mend(work)


def _warn(error: PdfsError) -> None:
    """What the journal's upkeep could not do; the repair goes on."""
    click.echo(str(error), err=True)
