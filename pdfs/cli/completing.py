"""Making a crashed session independent of the bucket before it goes to the trash."""

from collections.abc import Callable

import click
import trio

from pdfs.cli.progress import Progress
from pdfs.cli.sessions import LocalSession
from pdfs.core.content import Content
from pdfs.core.ids import Path
from pdfs.disk import OsDisk
from pdfs.errors import DiskError
from pdfs.local.journal_format import Header
from pdfs.local.recovery import Recovered, recover, reopen
from pdfs.local.session_directory import SessionDirectory
from pdfs.mount.progress import ProgressTeller
from pdfs.stage.complete import Ranges, complete, lacking_ranges
from pdfs.stage.contents import Prefetch
from pdfs.stage.context import StageContext
from pdfs.stage.fetch import fetch_span
from pdfs.stage.together import background


async def complete_session(
    held: SessionDirectory, session: LocalSession, ctx: StageContext
) -> dict[Path, Ranges]:
    """Bring here what its changed files need of the bucket; what could not be had, by file.

    A session that is damaged, or for which the disk has no room, stays as it is, and all that it
    lacks is returned. Raises StoreError, and DamageFound where not even its snapshot can be read.
    """
    disk = OsDisk()
    recovered = recover(disk, held)
    lacking = {} if recovered is None else lacking_ranges(recovered.tree)
    if recovered is None or not lacking or recovered.damage:
        return lacking
    try:
        return await _complete(disk, held, recovered, session, ctx)
    except DiskError as error:
        click.echo(f"what is missing finds no place here: {error.what}", err=True)
        return lacking


async def _complete(
    disk: OsDisk,
    held: SessionDirectory,
    recovered: Recovered,
    session: LocalSession,
    ctx: StageContext,
) -> dict[Path, Ranges]:
    async def fetch(content: Content, start: int, stop: int) -> bytes:
        return await fetch_span(ctx, content, start, stop)

    ledger, journal = reopen(
        disk, held, _header(session, ctx), recovered, fetch=fetch, run_blocking=_in_thread
    )
    try:
        with Progress() as progress:
            teller = ProgressTeller(Prefetch, ctx.uploads, progress.show)
            async with background(teller.run):
                incomplete = await complete(ctx, ledger)
        journal.close()
    finally:
        journal.abandon()
    return incomplete


async def _in_thread(call: Callable[[], None]) -> None:
    await trio.to_thread.run_sync(call)


def _header(session: LocalSession, ctx: StageContext) -> Header:
    return Header(
        session=session.session,
        run=ctx.owner.run,
        project=session.project,
        stage=session.stage,
        user=session.user,
        machine=session.machine,
        base={"bucket": session.bucket, "endpoint": session.endpoint, "reading": session.reading},
    )
