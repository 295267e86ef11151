"""`pdfs recover`: sessions that a crash, or an abort, left on this machine."""

import os
import time
from collections.abc import Sequence
from pathlib import PurePath

import click
import trio

from pdfs.cli.bucket import opened_stage
from pdfs.cli.crashed import Left, last_words, look_at
from pdfs.cli.daemon import start_daemon
from pdfs.cli.discarding import bring_back, discard_session
from pdfs.cli.held import held_error
from pdfs.cli.incomplete import check_complete
from pdfs.cli.options import (
    confirm,
    is_interactive,
    json_option,
    with_configuration,
    yes_option,
)
from pdfs.cli.output import list_paths, print_json
from pdfs.cli.progress import Progress
from pdfs.cli.rescue import Fetch, Rescue, Rescued, Segments, empty_directory
from pdfs.cli.sessions import (
    LocalSession,
    discarded_sessions,
    find_session,
    local_sessions,
    state_of,
)
from pdfs.cli.status import condition_of
from pdfs.cli.umounting import report_end
from pdfs.cli.words import printable
from pdfs.config import Configuration
from pdfs.core.amounts import amount, count, size
from pdfs.core.content import Content
from pdfs.core.keys import StageKeys
from pdfs.core.moments import local_moment, span
from pdfs.disk import OsDisk
from pdfs.errors import (
    DamageFound,
    DiskError,
    PdfsError,
    SessionNotFound,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from pdfs.local.recovery import recover
from pdfs.mount.request import MountRequest
from pdfs.stage.context import StageContext
from pdfs.stage.fetch import fetch_span

_SHOWN = 50


@click.group(
    "recover", epilog="\b\nExample:\n  pdfs recover list\n  pdfs recover resume 5e55105e\n"
)
def recover_command() -> None:
    """Look at, publish, give up or copy out what a crash left on this machine.

    SESSION is a session's id or its beginning, PROJECT[/STAGE], or the mountpoint it had.
    """


@recover_command.command("list", epilog="\b\nExample:\n  pdfs recover list\n")
@json_option
@with_configuration
def list_command(configuration: Configuration, as_json: bool) -> None:
    """Show the crashed sessions, and the discarded ones in the trash."""
    crashed = [each for each in local_sessions(configuration) if not each.is_held]
    discarded = discarded_sessions(configuration)
    if as_json:
        print_json(
            {
                "crashed": [_fields(configuration, each) for each in crashed],
                "discarded": [_identity(each) for each in discarded],
            }
        )
        return
    for each in crashed:
        click.echo(
            f"{each.short}  {each.name}  {condition_of(each)} {_ago(each)}  "
            f"{_amount(configuration, each, says_damage=True)}"
            + (printable(f"; {each.why}") if each.why else "")
        )
    for each in discarded:
        click.echo(
            f"{each.short}  {each.name}  discarded {_ago(each)}  (pdfs recover undo {each.short})"
        )
    if not crashed and not discarded:
        click.echo("nothing crashed here, and nothing was discarded")


@recover_command.command("show", epilog="\b\nExample:\n  pdfs recover show 5e55105e\n")
@click.argument("session")
@json_option
@with_configuration
def show_command(configuration: Configuration, session: str, as_json: bool) -> None:
    """Show what a crashed session holds that is not in the bucket. Changes nothing."""
    found = _crashed(configuration, session)
    left = look_at(configuration, found)
    if as_json:
        names = {
            "changed": left.changed,
            "renamed": left.renamed,
            "removed": left.removed,
        }
        print_json({**_fields(configuration, found, left), **names})
        return
    click.echo(f"session      {found.session}")
    click.echo(f"stage        {found.name}")
    click.echo(f"bucket       {found.bucket}")
    click.echo(f"began        {local_moment(found.started)} by {found.user} on {found.machine}")
    if found.why:
        click.echo(printable(f"cut short    {found.why}"))
    click.echo(f"unpublished  {amount(left.files, left.bytes)}, {count(left.edits, 'operation')}")
    if left.last is not None:
        click.echo(f"last         {last_words(left)}")
    if left.torn:
        click.echo(f"torn         {left.torn}")
    for path in left.changed[:_SHOWN]:
        click.echo(printable(f"  {path}"))
    if len(left.changed) > _SHOWN:
        click.echo(f"  … and {len(left.changed) - _SHOWN} more")
    _list("renamed", [f"{old} -> {new}" for new, old in left.renamed.items()])
    _list("removed", left.removed)
    if left.damage:
        raise DamageFound(
            left.damage, remedy=f"pdfs recover rescue {found.short} DIR copies out what is whole"
        )


@recover_command.command("resume", epilog="\b\nExample:\n  pdfs recover resume 5e55105e\n")
@click.argument("session")
@click.option("--take-over", is_flag=True, help="Take the stage from whoever has its lock.")
@yes_option
@with_configuration
def resume_command(configuration: Configuration, session: str, take_over: bool, yes: bool) -> None:
    """Publish what a crashed session left, without a mount, and wait for that."""
    found = _crashed(configuration, session)
    _check_bucket(configuration, found)
    _check_whole(found, yes=yes)
    request = MountRequest(
        configuration=configuration,
        project=found.project,
        stage=found.stage,
        mountpoint=None,
        agreed=yes,
        take_over=take_over,
        crashed=found.session,
    )
    with Progress() as progress:
        outcome = start_daemon(request, progress.show)
    report_end(found, outcome.closed or {}, f"{found.name} is published; the lock is released")


@recover_command.command("discard", epilog="\b\nExample:\n  pdfs recover discard 5e55105e\n")
@click.argument("session")
@yes_option
@with_configuration
def discard_command(configuration: Configuration, session: str, yes: bool) -> None:
    """Give up what a crashed session left: the lock is released, the work goes to the trash.

    Files that were changed in part are completed from the bucket first; what can't be had is
    named, and the command then ends with 11. The trash keeps a session for 30 days
    on which a stage is mounted here.
    """
    found = _crashed(configuration, session)
    what = f"{_amount(configuration, found)} of {found.name}"
    if not yes and not is_interactive():
        raise UsageError(f"discard takes {what} out of reach of a publish", remedy="add --yes")
    if not yes:
        confirm(f"Discard {what}?")
    incomplete = discard_session(configuration, found)
    check_complete(f"discarded {what}", incomplete, found)
    click.echo(f"discarded {what}; pdfs recover undo {found.short} brings it back")


@recover_command.command("undo", epilog="\b\nExample:\n  pdfs recover undo 5e55105e\n")
@click.argument("session", required=False)
@with_configuration
def undo_command(configuration: Configuration, session: str | None) -> None:
    """Bring a discarded session back from the trash: SESSION, or the last one."""
    discarded = discarded_sessions(configuration)
    if not discarded:
        raise SessionNotFound("nothing was discarded on this machine")
    found = discarded[-1] if session is None else find_session(discarded, session)
    bring_back(configuration, found)
    click.echo(f"{found.name} is back: pdfs recover resume {found.short} publishes it")


@recover_command.command(
    "rescue", epilog="\b\nExample:\n  pdfs recover rescue 5e55105e ~/rescued\n"
)
@click.argument("session")
@click.argument("directory")
@click.option("--all", "everything", is_flag=True, help="Also files that were not changed.")
@with_configuration
def rescue_command(
    configuration: Configuration, session: str, directory: str, everything: bool
) -> None:
    """Copy what a crashed session changed into DIRECTORY, which is new or empty.

    The session stays as it is. Changed and renamed files are copied with modes, times and user.*
    attributes, and every symlink and empty directory of the stage. What was changed only in part is
    completed from the bucket; a file whose rest can't be had is named, and written as
    NAME.incomplete. What can't be copied is named, and so is what was removed.
    """
    found = _crashed(configuration, session)
    _check_elsewhere(configuration, directory)
    rescued = trio.run(_rescue, configuration, found, directory, everything)
    click.echo(f"{count(len(rescued.files), 'file')} copied to {directory}")
    _list("renamed", [f"{old} -> {new}" for new, old in rescued.renamed.items()])
    _list("removed by the session", rescued.removed)
    _list("not copied", [f"{path} ({what})" for path, what in rescued.left_out.items()])
    _list("not copied, for its name", [f"{path} ({why})" for path, why in rescued.refused.items()])
    if rescued.unkept:
        click.echo(f"not kept on that disk: {' and '.join(sorted(rescued.unkept))}")
    for path, ranges in rescued.incomplete.items():
        lacking = sum(stop - start for start, stop in ranges)
        said = f"incomplete: {path} lacks {size(lacking)} at {ranges}"
        click.echo(printable(said), err=True)
    if rescued.damage:
        raise DamageFound(
            f"what was copied is not all of it, for the journal is damaged: {rescued.damage}",
            remedy="the session stays as it is; pdfs journal dump shows what else is readable",
        )
    if rescued.incomplete:
        raise DamageFound(
            f"{count(len(rescued.incomplete), 'file')} could not be made whole",
            remedy="what is missing was never here and is not in the bucket any more, or the "
            "bucket can't be reached: try again then, into another directory",
        )
    if rescued.refused:
        raise DiskError(
            f"the disk of {directory} does not take {count(len(rescued.refused), 'name')}",
            remedy="name a directory on another disk; the session stays as it is",
        )


def _check_elsewhere(configuration: Configuration, directory: str) -> None:
    """Refuse to copy into what PDFS itself tidies up."""
    target = PurePath(os.path.realpath(directory))
    for ours in (configuration.state, configuration.cache, configuration.runtime):
        if target.is_relative_to(os.path.realpath(ours)):
            raise UsageError(
                f"{directory} is where PDFS keeps its own files, and removes them",
                remedy="name a directory of your own",
            )


async def _rescue(
    configuration: Configuration, found: LocalSession, directory: str, everything: bool
) -> Rescued:
    disk = OsDisk()
    keys = StageKeys(found.project, found.stage)
    with (
        state_of(configuration) as state,
        state.open_session(found.session) as held,
        empty_directory(disk, directory) as target,
    ):
        recovered = recover(disk, held, salvages=True)
        if recovered is None:
            return Rescued()
        tree = recovered.tree
        try:
            async with opened_stage(configuration, keys) as ctx:
                rescue = Rescue(disk, target, tree, Segments(disk, held), _fetch_of(ctx))
                rescued = await rescue.copy(everything=everything)
        except StoreError as error:  # not even to be opened
            rescue = Rescue(disk, target, tree, Segments(disk, held), _refuse(error))
            rescued = await rescue.copy(everything=everything)
        rescued.damage = recovered.damage
        return rescued


def _list(title: str, said: Sequence[str]) -> None:
    list_paths(title, said, most=_SHOWN, err=False)


def _fetch_of(ctx: StageContext) -> Fetch:
    """Gets bytes from the bucket; once it did not answer, it is not asked again."""
    silent: list[StoreUnavailable] = []

    async def fetch(content: Content, start: int, stop: int) -> bytes:
        if silent:
            raise silent[0]
        try:
            return await fetch_span(ctx, content, start, stop)
        except StoreUnavailable as error:
            silent.append(error)
            raise

    return fetch


def _refuse(error: StoreError) -> Fetch:
    async def fetch(content: Content, start: int, stop: int) -> bytes:
        await trio.lowlevel.checkpoint()
        raise error

    return fetch


# --- words ------------------------------------------------------------------------------------


def _crashed(configuration: Configuration, target: str) -> LocalSession:
    try:
        found = find_session(local_sessions(configuration), target)
    except SessionNotFound as error:
        raise SessionNotFound(error.what, remedy=_elsewhere(configuration, target)) from None
    if found.is_held:
        raise held_error(configuration, found)
    return found


def _elsewhere(configuration: Configuration, target: str) -> str:
    """Where to look for a session that nothing of that name waits for here."""
    try:
        trashed = find_session(discarded_sessions(configuration), target)
    except PdfsError:
        return "pdfs recover list shows what there is"
    return f"it is in the trash: pdfs recover undo {trashed.short} brings it back"


def _check_whole(found: LocalSession, *, yes: bool) -> None:
    """Ask before a part of an import is published."""
    if not found.reading or yes:
        return
    what = f"this import of {found.name} had not read all of {found.reading}, so it is only a part"
    if not is_interactive():
        raise UsageError(f"{what}; to publish that part", remedy="add --yes")
    confirm(f"{what}. Publish that part?")


def _check_bucket(configuration: Configuration, found: LocalSession) -> None:
    if not found.is_of(configuration):
        raise UsageError(
            f"session {found.short} belongs to the bucket {found.bucket}",
            remedy=f"name it: --bucket {found.bucket}",
        )


def _ago(session: LocalSession) -> str:
    return f"{span(time.time() - session.changed)} ago"


def _amount(
    configuration: Configuration, session: LocalSession, *, says_damage: bool = False
) -> str:
    try:
        left = look_at(configuration, session)
    except PdfsError as error:
        return f"can't be read: {error.what}"
    said = f"{amount(left.files, left.bytes)} unpublished"
    return printable(f"{said}; damage: {left.damage}") if says_damage and left.damage else said


def _identity(session: LocalSession) -> dict[str, object]:
    return {
        "session": session.session,
        "project": session.project,
        "stage": session.stage,
        "bucket": session.bucket,
        "mountpoint": session.mountpoint,
        "started": session.started,
        "changed": session.changed,
        "why": session.why,
    }


def _fields(
    configuration: Configuration, session: LocalSession, left: Left | None = None
) -> dict[str, object]:
    fields = _identity(session)
    try:
        left = left or look_at(configuration, session)
    except PdfsError as error:
        return {**fields, "problem": str(error)}
    return {
        **fields,
        "unpublished": {"files": left.files, "bytes": left.bytes},
        "edits": left.edits,
        "torn": left.torn,
        "last": None
        if left.last is None
        else {"what": left.last.what, "path": left.last.path, "time": left.last.time},
        "problem": left.damage,
    }
