"""`pdfs import`: a new project from a directory, by the same protocol as every other change.

The stage is taken, the directory is read into the journal of a local session, and that is
published. A reader of the bucket sees the whole project or none of it.

Until all of the directory is read, the session says so (`reading`): killed before, it holds half a
project, which nobody made and nothing publishes unasked. Killed after that, it is a crashed session
like others.
"""

import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import click
import trio

from pdfs.cli.app import is_interruption
from pdfs.cli.bucket import has_keys, opened_stage
from pdfs.cli.discarding import discard_session
from pdfs.cli.former import tell_former_bucket
from pdfs.cli.options import (
    bucket_words,
    is_interactive,
    keys_of,
    stage_option,
    with_configuration,
)
from pdfs.cli.reading import Read, Reading
from pdfs.cli.sessions import LocalSession, sessions_of, state_of
from pdfs.cli.unmounted import UnmountedSession
from pdfs.config import Configuration
from pdfs.core.amounts import amount
from pdfs.core.ids import SessionId
from pdfs.core.keys import StageKeys
from pdfs.disk import OsDisk
from pdfs.errors import ConflictsMade, PdfsError, UnpublishedWork, UsageError
from pdfs.local.state import StateDirectory
from pdfs.mount.workspace import DiskWorkspace, ServedWork
from pdfs.stage.context import StageContext
from pdfs.stage.root import find_root
from pdfs.stage.together import background
from pdfs.stage.work import Work


@click.command(
    "import", epilog="\b\nExample:\n  pdfs import ~/plants/kraftwerk Kraftwerk_1234567\n"
)
@click.argument("directory")
@click.argument("project")
@stage_option
@with_configuration
def import_command(configuration: Configuration, directory: str, project: str, stage: str) -> None:
    """Create PROJECT from what is in DIRECTORY, which stays as it is.

    Symlinks, hard links, modes, times and user.* attributes are kept. A project that exists is
    left alone. An import that was killed while it read is put into the trash, and begins anew.
    """
    keys = keys_of(project, stage)
    _check_not_begun(configuration, keys)
    _discard_unfinished(configuration, keys)
    tell_former_bucket(configuration)
    try:
        with Reading(OsDisk(), directory) as reading:
            read = trio.run(_import, configuration, keys, reading)
    except (KeyboardInterrupt, BaseExceptionGroup) as error:
        if not is_interruption(error):
            raise
        _check_not_begun(configuration, keys)  # once the publish has begun, it is kept
        raise click.Abort from None
    where = bucket_words(configuration.bucket, is_default=configuration.is_default_bucket)
    click.echo(f"{keys.project}/{keys.stage} is published: {amount(read.files, read.bytes)}")
    click.echo(f"bucket:  {where}")


def _check_not_begun(configuration: Configuration, keys: StageKeys) -> None:
    left = [each for each in _left(configuration, keys) if not each.reading]
    if left:
        raise UnpublishedWork(
            f"a session of {left[0].name} crashed here, and what it did is not published wholly",
            remedy=f"to publish it: pdfs recover resume {left[0].short}; to import anew: "
            f"pdfs recover discard {left[0].short} first",
        )


def _discard_unfinished(configuration: Configuration, keys: StageKeys) -> None:
    """An import that did not read its directory to the end is nobody's work: it begins anew."""
    for each in _left(configuration, keys):
        discard_session(configuration, each)
        click.echo(
            f"an import of {each.name} from {each.reading} was cut short here and is discarded; "
            f"pdfs recover undo {each.short} brings it back",
            err=True,
        )


def _left(configuration: Configuration, keys: StageKeys) -> list[LocalSession]:
    return [each for each in sessions_of(configuration, keys) if not each.is_held]


async def _import(configuration: Configuration, keys: StageKeys, reading: Reading) -> Read:
    session = SessionId(uuid.uuid4().hex)
    async with opened_stage(configuration, keys, session=session, changes=True, makes=True) as ctx:
        await _check_new(ctx)
        with state_of(configuration) as state:
            await _Import(configuration, ctx, state, reading).run()
    return reading.read


async def _check_new(ctx: StageContext) -> None:
    """Raise UsageError where there is such a project.

    What an import that was given up leaves, a stage at generation 0 without files, is none.
    """
    keys = ctx.keys
    root = await find_root(ctx)
    if root is None:
        exists = await has_keys(ctx, f"{keys.project}/")
    else:
        exists = root.root.generation > 0 or await has_keys(ctx, keys.plain_prefix)
    if exists:
        raise UsageError(
            f"there is a project {keys.project!r} in {ctx.store.name} already",
            remedy="choose another name; or mount it and copy the files into it",
        )


class _Import:
    """One import: the session, and what reads into it."""

    def __init__(
        self,
        configuration: Configuration,
        ctx: StageContext,
        state: StateDirectory,
        reading: Reading,
    ) -> None:
        self._ctx = ctx
        self._reading = reading
        self._error: BaseException | None = None
        self._unmounted = UnmountedSession(
            configuration, ctx, state, reading=reading.path, workspace=_Scratch
        )

    async def run(self) -> None:
        """Returns when all is published. Raises what went wrong; nothing is published then."""
        await self._unmounted.run(self._read)
        if self._error is not None:
            raise self._error
        if conflicts := self._unmounted.session.conflicts:
            raise ConflictsMade(
                f"somebody wrote to {self._ctx.keys.project!r} meanwhile: "
                f"{', '.join(conflicts)} are kept beside it"
            )

    async def _read(self, work: Work) -> None:
        """Fill the tree. An error, or Ctrl-C, ends the session without a publish."""
        assert isinstance(work, ServedWork)
        try:
            copy = partial(self._reading.copy, work.ledger, self._ctx)
            await self._unmounted.kept(partial(_unless_interrupted, copy))
            await work.sync()
            self._unmounted.workspace.describe(reading="")
        except (PdfsError, KeyboardInterrupt) as error:
            self._error = error
            self._unmounted.session.abort()
            return
        if is_interactive():
            read = self._reading.read
            click.echo(f"publishing {amount(read.files, read.bytes)} …", err=True)


async def _unless_interrupted(copy: Callable[[], Awaitable[None]]) -> None:
    """Await `copy`. Raises KeyboardInterrupt between two of its steps where one was asked for."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        with trio.CancelScope() as scope:
            async with background(partial(_cancel_on, signals, scope)):
                await copy()
        if scope.cancelled_caught:
            raise KeyboardInterrupt


async def _cancel_on(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


class _Scratch(DiskWorkspace):
    """What is given up needs no trash: the directory that was read is still there."""

    async def discard(self) -> None:
        await self.retire()
