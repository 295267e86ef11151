"""Giving up a crashed session: what its files need of the bucket is brought here, the stage is
given back, its work goes to the trash. And bringing it back from there.
"""

import os
import time

import click
import trio

from pdfs import __version__
from pdfs.cli.bucket import opened_stage
from pdfs.cli.completing import complete_session
from pdfs.cli.incomplete import Incomplete
from pdfs.cli.sessions import LocalSession, state_of
from pdfs.config import Configuration
from pdfs.core.ids import RunId, publish_name
from pdfs.core.keys import StageKeys
from pdfs.core.notes import BroughtBack, Discarded
from pdfs.core.root import Root
from pdfs.disk import OsDisk
from pdfs.errors import DamageFound, DiskError, PdfsError, UnpublishedWork, UsageError
from pdfs.local.session_directory import SessionDirectory
from pdfs.local.session_log import SessionLog
from pdfs.local.session_log_format import LogHeader
from pdfs.mount.access import new_id
from pdfs.mount.control import remove_left_socket
from pdfs.stage.context import StageContext
from pdfs.stage.end import give_back
from pdfs.stage.root import read_root


def discard_session(configuration: Configuration, session: LocalSession) -> Incomplete:
    """Make the session whole, give the stage back in the bucket, move the session to the trash.

    Returns what its changed files lack all the same. Raises LockError where a process has it,
    StoreError where the bucket can't be reached, and UnpublishedWork after a commit point; the
    session is where it was then.
    """
    incomplete: Incomplete = {}
    if session.project and not session.is_of(configuration):
        raise UsageError(
            f"session {session.short} belongs to the bucket {session.bucket}",
            remedy=f"name it: --bucket {session.bucket}",
        )
    # Held from the first look to the last step: nobody resumes it meanwhile and has the stage taken
    # away from under a mount.
    with state_of(configuration) as state, state.open_session(session.session) as held:
        if session.project:
            incomplete = trio.run(_complete_and_give_back, configuration, session, held)
        state.discard(held)
    remove_left_socket(configuration.runtime, session.session)
    _note(configuration, session, Discarded())
    return incomplete


def bring_back(configuration: Configuration, session: LocalSession) -> None:
    """Take a session out of the trash. Raises SessionNotFound, SessionError, DiskError."""
    with state_of(configuration) as state:
        state.undo(session.session)
    _note(configuration, session, BroughtBack())


def _note(
    configuration: Configuration, session: LocalSession, note: Discarded | BroughtBack
) -> None:
    """Say in the session's log who did that, and when; what hinders the log hinders nothing else.

    A discard is its end; brought back, it goes on.
    """
    header = LogHeader(
        session=session.session,
        run=RunId(new_id()),
        project=session.project,
        stage=session.stage,
        user=configuration.user,
        machine=configuration.machine,
        bucket=session.bucket,
        mountpoint=session.mountpoint,
        pid=os.getpid(),
        pdfs=__version__,
    )
    try:
        with SessionLog(OsDisk(), configuration.state / "logs", header, now=time.time) as log:
            log.write(note)
            if isinstance(note, BroughtBack):
                log.abandon()
    except PdfsError as error:
        done = note.event.replace("_", " ")
        click.echo(f"pdfs: {done}, but its log does not say so: {error}", err=True)


async def _complete_and_give_back(
    configuration: Configuration, session: LocalSession, held: SessionDirectory
) -> Incomplete:
    """Bring here what its files lack; then give the stage back, unless it is another's."""
    keys = StageKeys(session.project, session.stage)
    async with opened_stage(
        configuration, keys, session=session.session, changes=True, makes=True
    ) as ctx:
        root = await read_root(ctx)
        if root is not None:
            _check_not_committed(ctx, root.root)
        incomplete: Incomplete = {}
        try:
            incomplete = await complete_session(held, session, ctx)
        except (DamageFound, DiskError) as error:
            click.echo(f"it is kept as it is: {error.what}", err=True)
        await give_back(ctx, root)
        return incomplete


def _check_not_committed(ctx: StageContext, root: Root) -> None:
    entry = root.entry(ctx.owner.session)
    if entry is None or entry.last is None or root.plan is None:
        return
    if root.plan == publish_name(entry.last.publish):
        raise UnpublishedWork(
            f"session {ctx.owner.session[:8]} has committed a publish that is not finished yet",
            remedy=f"finish it: pdfs recover resume {ctx.owner.session[:8]}",
        )
