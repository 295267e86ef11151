"""`pdfs umount`, `publish` and `abort`: a session's work goes into the bucket, or does not."""

import os
import shlex

import click

from pdfs.cli.control import NOTHING, Control, Event
from pdfs.cli.ended import answer_of_ended, lately_ended
from pdfs.cli.incomplete import check_complete
from pdfs.cli.mountpoint import is_dead, remove_dead_mount
from pdfs.cli.options import (
    DEFAULT_STAGE,
    bucket_words,
    confirm,
    is_interactive,
    with_configuration,
    yes_option,
)
from pdfs.cli.output import list_paths
from pdfs.cli.progress import Progress
from pdfs.cli.readers import unmount_reader
from pdfs.cli.sessions import LocalSession, find_session, full_path, local_mounts
from pdfs.cli.words import NOT_REMOVED, SET_ASIDE
from pdfs.config import Configuration
from pdfs.core.amounts import amount, count
from pdfs.disk import OsDisk
from pdfs.errors import (
    ConflictsMade,
    DaemonSilent,
    DamageFound,
    PdfsError,
    SessionNotFound,
    TimedOut,
    UnpublishedWork,
    UsageError,
)
from pdfs.mount.mountpoint import remove_mountpoint
from pdfs.mount.mounts import KIND, mount_at

timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait at most so long, then end with 9; the daemon goes on. 0 waits for ever.",
)


@click.command(
    "umount",
    epilog="\b\nExamples:\n"
    "  pdfs umount /mnt/plant\n"
    "  pdfs umount Kraftwerk_1234567 --timeout 60\n",
)
@click.argument("target")
@timeout_option
@with_configuration
def umount_command(configuration: Configuration, target: str, timeout: float) -> None:
    """Unmount TARGET, publish its changes, and wait for that.

    Ends with 0 only when every change is verified in the bucket and the lock is released; a
    read-only mount has none, and ends at once. TARGET is a mountpoint, a session's id or its
    beginning, or PROJECT[/STAGE].
    """
    found = _found_or_ended(configuration, target)
    if found.is_reader:
        unmount_reader(configuration, found, timeout or None)
        return
    result = finish(configuration, found, "umount", timeout or None)
    where = bucket_words(found.bucket, is_default=False)
    report_end(found, result, f"{found.name} is published in {where}; the lock is released")


@click.command(
    "publish",
    epilog="\b\nExamples:\n"
    "  pdfs publish /mnt/plant\n"
    "  pdfs publish Kraftwerk_1234567 --timeout 60\n"
    "  pdfs publish /mnt/plant --set-aside piping/area1.dwg\n",
)
@click.argument("target")
@timeout_option
@click.option(
    "--set-aside",
    "aside",
    multiple=True,
    metavar="PATH",
    help="Let the publish under way end without this file, which the bucket refuses. It stays "
    "readable through PDFS, and each later publish or unmount tries again. May be repeated.",
)
@with_configuration
def publish_command(
    configuration: Configuration, target: str, timeout: float, aside: tuple[str, ...]
) -> None:
    """Publish what was changed in TARGET so far; it stays mounted and locked.

    Programs go on meanwhile: what they write from then on is for the next publish. Ends with 0 only
    when all that was written before is verified in the bucket. TARGET is a mountpoint, a session's
    id or its beginning, or PROJECT[/STAGE].
    """
    found = _editable(_found_or_ended(configuration, target), "publish")
    given = {"set_aside": [_in_stage(path, found) for path in aside]} if aside else NOTHING
    result = finish(configuration, found, "publish", timeout or None, given)
    where = bucket_words(found.bucket, is_default=False)
    goes_on = "it stays mounted" if result.get("is_mounted") else "the lock is released"
    report_end(found, result, f"{found.name} is published in {where}; {goes_on}")


def _in_stage(path: str, found: LocalSession) -> str:
    """A path as the stage knows it: a file below the mountpoint, or relative to it."""
    if not os.path.isabs(path):
        return os.path.normpath(path)
    inside = os.path.relpath(path, found.mountpoint or "/")
    if not found.mountpoint or inside == "." or inside.startswith("../"):
        raise UsageError(
            f"{path!r} is not below the mountpoint of {found.name}",
            remedy="name it as it is called in the stage, such as piping/area1.dwg",
        )
    return inside


@click.command("abort", epilog="\b\nExample:\n  pdfs abort /mnt/plant\n")
@click.argument("target")
@yes_option
@with_configuration
def abort_command(configuration: Configuration, target: str, yes: bool) -> None:
    """End the session TARGET and release its lock without publishing.

    What was not published goes to the trash of this machine, where it is kept for 30 days: `pdfs
    recover undo` brings it back. Files that were changed in part are completed from the bucket
    first; what can't be had is named, and the command then ends with 11.
    TARGET is a mountpoint, a session's id or its beginning, or PROJECT[/STAGE].
    """
    found = _editable(_found(configuration, target), "abort")
    if not yes:
        _ask_abort(configuration, found)
    result = finish(configuration, found, "abort", None)
    done = f"{found.name} was ended without publishing; the lock is released"
    check_complete(done, result.get("incomplete", {}), found)
    report_end(found, result, done)
    click.echo(f"pdfs recover undo {found.short} brings back what was not published")


def _ask_abort(configuration: Configuration, found: LocalSession) -> None:
    with Control(configuration.runtime, found.session) as control:
        unpublished = control.ask("status")["unpublished"]
    lost = amount(unpublished["files"], unpublished["bytes"])
    if not is_interactive():
        raise UsageError(
            f"{found.name} has {lost} unpublished; abort leaves them out of the bucket",
            remedy="to do that: --yes",
        )
    confirm(f"End {found.name} without publishing {lost}?")


def _found(configuration: Configuration, target: str) -> LocalSession:
    """The session of that name, whose daemon lives. Raises UnpublishedWork for a crashed one."""
    try:
        found = find_session(local_mounts(configuration), target)
    except SessionNotFound as error:
        raise _stranger(target) or error from None
    if found.is_held or found.is_reader:
        return found
    cleaned = bool(found.mountpoint) and remove_dead_mount(found.mountpoint)
    if cleaned and found.has_made_mountpoint:
        remove_mountpoint(OsDisk(), found.mountpoint)
    raise UnpublishedWork(
        f"the daemon of {found.name} (session {found.short}) is dead"
        + (f"; its dead mount at {found.mountpoint} was removed" if cleaned else ""),
        remedy="all that was acknowledged is kept here; to publish it: pdfs recover resume "
        f"{found.short}, to go on working: {_mount_command(found)}",
    )


def _found_or_ended(configuration: Configuration, target: str) -> LocalSession:
    """The same, or the one of that name which ended a moment before."""
    try:
        return _found(configuration, target)
    except SessionNotFound:
        ended = None if mount_at(full_path(target)) else lately_ended(configuration, target)
        if ended is None:
            raise
        return ended


def _editable(found: LocalSession, what: str) -> LocalSession:
    """The same, unless it is a read-only mount."""
    if found.is_reader:
        raise UsageError(
            f"{found.name} is mounted read-only at {found.mountpoint}: there is nothing to {what}",
            remedy=f"to end it: {shlex.join(['pdfs', 'umount', found.mountpoint])}",
        )
    return found


def _bare(target: str) -> SessionNotFound:
    """The error for a directory that has lost its mount, or never had one."""
    return SessionNotFound(
        f"{target} is a directory where PDFS has nothing mounted",
        remedy="what is in it is on this machine alone, not in the bucket; pdfs status shows "
        "what is mounted",
    )


def _stranger(target: str) -> SessionNotFound | None:
    """The error for a directory or a mount, but not of this user's sessions."""
    path = full_path(target)
    mounted = mount_at(path)
    if mounted is None:
        return _bare(target) if os.path.isdir(target) else None
    if mounted.kind != KIND:
        return SessionNotFound(f"{target} is a mount of {mounted.source}, not of PDFS")
    if is_dead(path):
        return SessionNotFound(
            f"the mount of {mounted.source} at {target} is dead: its daemon, of another user or "
            "with other XDG directories, has ended",
            remedy="what was written is kept there: pdfs recover list, run as then; to clear "
            f"the directory: {shlex.join(['fusermount3', '-u', '-z', path])}",
        )
    return SessionNotFound(
        f"{mounted.source} is mounted at {target} by another user, or with other XDG directories",
        remedy=f"unmount it as that user; or fusermount3 -u {target}, which can't wait",
    )


def _mount_command(found: LocalSession) -> str:
    place = found.mountpoint or "MOUNTPOINT"
    stage = [] if found.stage == DEFAULT_STAGE else ["--stage", found.stage]
    return shlex.join(["pdfs", "mount", found.project, place, *stage])


def finish(
    configuration: Configuration,
    found: LocalSession,
    request: str,
    timeout: float | None,
    given: Event = NOTHING,
) -> Event:
    """Let the daemon end the session; its result. Raises UnpublishedWork where it goes on."""
    later = f"nothing is lost, the daemon goes on; pdfs status {found.short} shows how far it is"
    try:
        with Control(configuration.runtime, found.session) as control, Progress() as progress:
            control.send("subscribe")
            return control.ask(request, given=given, timeout=timeout, on_event=progress.show)
    except TimedOut as error:
        what = f"{found.name} is not published yet{_why_not(configuration, found)}"
        raise UnpublishedWork(what, remedy=later) from error
    except DaemonSilent as error:
        answer = answer_of_ended(configuration, found) if request != "abort" else None
        if answer is not None:
            return answer
        raise UnpublishedWork(
            f"{error.what}, so whether {found.name} was published is unknown",
            remedy="nothing is lost: pdfs status",
        ) from error
    except KeyboardInterrupt:
        raise UnpublishedWork(
            f"{found.name} is not published yet, and no longer waited for", remedy=later
        ) from None


def _why_not(configuration: Configuration, found: LocalSession) -> str:
    """What its daemon meets with, to be put behind a sentence; empty where it knows of nothing."""
    try:
        with Control(configuration.runtime, found.session) as control:
            status = control.ask("status")
    except PdfsError:
        return ""  # that it goes on is known; more can't be said
    trouble = status.get("trouble") or (status.get("upload") or {}).get("trouble")
    return f": {trouble}" if trouble else ""


def report_end(found: LocalSession, result: Event, done: str) -> None:
    """Say how it ended. Raises the error of an exit code that is not 0."""
    conflicts, missing = result.get("conflicts", []), result.get("missing", [])
    code = int(result.get("exit_code", 0))
    invisible = result.get("invisible") or {"files": 0, "paths": []}
    list_paths("not visible to other tools", invisible["paths"], invisible["files"])
    list_paths(SET_ASIDE, result.get("aside", []))
    list_paths(NOT_REMOVED, result.get("not_removed", []))
    match code:
        case 0:
            click.echo(done)
        case DamageFound.exit_code:
            list_paths("nowhere in the bucket", missing)
            raise _damage(found, result.get("damage", ""), len(missing))
        case ConflictsMade.exit_code:
            list_paths("kept beside somebody else's version", conflicts)
            raise ConflictsMade(
                f"{done}, with {_copies(len(conflicts))}",
                remedy="compare each with the file beside it, and keep one",
            )
        case _:
            raise UnpublishedWork(
                result.get("what") or f"{found.name} could not be published wholly",
                remedy=result.get("remedy") or "everything is kept: pdfs recover list",
            )


def _copies(number: int) -> str:
    return f"{number} conflict {'copy' if number == 1 else 'copies'}"


def _are(files: int) -> str:
    return f"{count(files, 'file')} {'is' if files == 1 else 'are'}"


def _damage(found: LocalSession, damage: str, missing: int) -> DamageFound:
    published = f"{found.name} was published, but "
    if damage:
        lacking = f"; and the bytes of {_are(missing)} missing" if missing else ""
        return DamageFound(published + damage + lacking)
    return DamageFound(
        f"{published}the bytes of {_are(missing)} missing",
        remedy="bring them back from a backup of the bucket",
    )
