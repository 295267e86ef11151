"""`pdfs mount`: everything that can be checked first, questions, and the daemon."""

import os
import shlex
import time
from dataclasses import dataclass, replace
from typing import Final

import click

from pdfs.cli import mountpoint as mountpoints
from pdfs.cli.control import Control, Event
from pdfs.cli.daemon import start_daemon
from pdfs.cli.former import check_former_bucket, tell_former_bucket
from pdfs.cli.held import held_error
from pdfs.cli.options import (
    DURATION,
    bucket_words,
    confirm,
    is_interactive,
    keys_of,
    stage_option,
    with_configuration,
    yes_option,
)
from pdfs.cli.output import list_paths
from pdfs.cli.progress import Lines, Progress
from pdfs.cli.readers import check_only_read, check_readable, tell_reading
from pdfs.cli.sessions import full_path, local_sessions, sessions_of
from pdfs.cli.waiting import is_draining, wait_for_publish
from pdfs.cli.words import SET_ASIDE, printable, unended
from pdfs.config import Configuration
from pdfs.core.ids import SessionId
from pdfs.core.keys import StageKeys
from pdfs.core.states import State
from pdfs.disk import OsDisk
from pdfs.errors import LockError, MountError, PdfsError, StartFailed, UsageError
from pdfs.mount.mountpoint import remove_mountpoint
from pdfs.mount.mounts import mount_at
from pdfs.mount.request import MountRequest

_ASKED: Final = ("ask", "work_waits")
"""Refusals that the user may answer with yes."""
_LOOK: Final = 0.2
_SHOWN: Final = 20
"""So many sessions that have not ended are named; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choices:
    """What the user chose on the command line."""

    yes: bool
    resume: bool
    discard: bool


@click.command(
    "mount",
    epilog="\b\nExamples:\n"
    "  pdfs mount Kraftwerk_1234567 /mnt/plant\n"
    "  pdfs mount Kraftwerk_1234567 /mnt/plant --stage as-built --wait\n"
    "  pdfs mount Kraftwerk_1234567 /mnt/plant --every 15m\n"
    "  pdfs mount New_Project /mnt/plant --create\n"
    "  pdfs mount Kraftwerk_1234567 /mnt/look --read-only --follow\n",
)
@click.argument("project")
@click.argument("mountpoint")
@stage_option
@click.option(
    "--read-only",
    is_flag=True,
    help="Only look: no lock, whoever has the stage; one generation, as it is now.",
)
@click.option("--follow", is_flag=True, help="With --read-only: show newer generations, too.")
@click.option("--create", is_flag=True, help="The project or stage may be a new, empty one.")
@click.option("--take-over", is_flag=True, help="Take the stage from whoever has its lock.")
@yes_option
@click.option("--resume", is_flag=True, help="Go on with what a crash left here; ask nothing.")
@click.option("--discard", is_flag=True, help="Put what a crash left here into the trash first.")
@click.option(
    "--wait-lock",
    type=click.FloatRange(min=0),
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait at most so long for a stage that is unmounted, but still being published. 0: don't.",
)
@click.option(
    "--stop-timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Publish at most so long after a signal, such as logout or shutdown send; then keep the "
    "rest here. 0: no limit.  [default: as configured, or 45]",
)
@click.option(
    "--every",
    type=DURATION,
    default="0",
    metavar="DURATION",
    help="Publish by itself every so often while it is mounted: 900, 15m, 1h. 0: only at the end.",
)
@click.option("--foreground", is_flag=True, help="Do not go to the background.")
@click.option("--wait", is_flag=True, help="Return only when all contents are on this machine.")
@click.option("--allow-other", is_flag=True, help="Let other users of this machine in, too.")
@with_configuration
def mount_command(
    configuration: Configuration,
    project: str,
    mountpoint: str,
    stage: str,
    read_only: bool,
    follow: bool,
    create: bool,
    take_over: bool,
    yes: bool,
    resume: bool,
    discard: bool,
    foreground: bool,
    wait: bool,
    wait_lock: float,
    stop_timeout: float | None,
    every: float,
    allow_other: bool,
) -> None:
    """Mount a stage of PROJECT at MOUNTPOINT, and lock it for others.

    The tree is there at once; contents follow in the background, those that are read first come
    first. MOUNTPOINT is an empty directory, or is made, and then removed when it is unmounted.
    """
    keys = keys_of(project, stage)
    if resume and discard:
        raise UsageError("--resume and --discard exclude each other")
    if stop_timeout is not None:
        configuration = replace(configuration, stop_timeout=stop_timeout)
    _remove_left_mount(configuration, mountpoint)
    place = mountpoints.check_mountpoint(mountpoint)
    mountpoints.check_fuse()
    if follow and not read_only:
        raise UsageError("--follow goes with --read-only: a stage that is edited has one editor")
    if create:
        tell_former_bucket(configuration)
    else:
        check_former_bucket(configuration)
    if read_only:
        check_only_read(
            {"--create": create, "--take-over": take_over, "--resume": resume}
            | {"--discard": discard, "--every": every}
        )
        check_readable(configuration, keys.project)
        request = MountRequest(
            configuration=configuration,
            project=keys.project,
            stage=keys.stage,
            mountpoint=place,
            read_only=True,
            follows=follow,
            allow_other=allow_other,
        )
        _finish(request, foreground=foreground, waits=wait)
        return
    _wait_until_free(configuration, keys, wait_lock)
    choices = _Choices(yes=yes, resume=resume, discard=discard)
    request = MountRequest(
        configuration=configuration,
        project=keys.project,
        stage=keys.stage,
        mountpoint=place,
        create=create,
        agreed=yes,
        take_over=take_over,
        crashed=_crashed(configuration, keys, choices),
        allow_other=allow_other,
        every=every,
        wait_lock=wait_lock,
    )
    _finish(request, foreground=foreground, waits=wait)


def _finish(request: MountRequest, *, foreground: bool, waits: bool) -> None:
    if foreground:
        raise click.exceptions.Exit(_run_here(request))
    mounted = _mount(request)
    if waits:
        _wait_prefetch(request.configuration, SessionId(str(mounted["session"])))
    _tell_mounted(request, mounted)


# --- what a crash left ------------------------------------------------------------------------


def _remove_left_mount(configuration: Configuration, mountpoint: str) -> None:
    """A directory that was made for a mount, and outlived it, goes; this mount makes it anew.

    So nothing stays of it should this mount fail.
    """
    path = full_path(mountpoint)
    mountpoints.remove_dead_mount(path)
    left = [each for each in local_sessions(configuration) if each.mountpoint == path]
    is_made = any(each.has_made_mountpoint and not each.is_held for each in left)
    if is_made and mount_at(path) is None and os.path.isdir(path) and not os.listdir(path):
        remove_mountpoint(OsDisk(), path)


def _wait_until_free(configuration: Configuration, keys: StageKeys, limit: float) -> None:
    """Wait for a session of this stage that was unmounted here and is still being published.

    What becomes of it is told; what it leaves is a crashed session like others. Raises LockError,
    saying where, if one is mounted, or takes longer than `limit` s.
    """
    for found in sessions_of(configuration, keys):
        if found.is_held and found.reading:
            raise LockError(
                f"{found.name} is being imported on this machine, by process {found.pid}",
                remedy="wait until that is over",
            )
        if found.is_held and not is_draining(configuration, found):
            raise held_error(configuration, found)
        if found.is_held:
            wait_for_publish(configuration, found, limit)


def _crashed(configuration: Configuration, keys: StageKeys, choices: _Choices) -> SessionId | None:
    """The crashed session to go on with, after the one to be discarded is gone."""
    _tell_unreadable(configuration)
    found = [each for each in sessions_of(configuration, keys) if not each.is_held]
    if not found:
        if choices.resume or choices.discard:
            click.echo(f"{keys.project}/{keys.stage} left nothing here to be recovered", err=True)
        return None
    from pdfs.cli.leftover import choose  # a replay and a store, which only a crash needs

    return choose(
        configuration,
        found,
        yes=choices.yes,
        resume=choices.resume,
        discard=choices.discard,
    )


def _tell_unreadable(configuration: Configuration) -> None:
    """Sessions of who knows which stage: they may hold work of this one, and stay as they are."""
    for each in local_sessions(configuration):
        if each.is_unreadable and not each.is_held:
            said = (
                f"session {each.short} on this machine can't be read, and is left: {each.problem}"
            )
            click.echo(printable(said), err=True)


# --- the daemon -------------------------------------------------------------------------------


def _mount(request: MountRequest) -> Event:
    """Mount, and ask on a terminal where the lock allows an answer."""
    try:
        return _start(request)
    except StartFailed as error:
        if error.refusal not in _ASKED or not is_interactive():
            raise
        click.echo(error.what, err=True)
        confirm("Go on all the same?")
    return _start(replace(request, agreed=True))


def _start(request: MountRequest) -> Event:
    try:
        with Progress() as progress:
            outcome = start_daemon(request, progress.show)
    except StartFailed as error:
        if error.said and error.kind == MountError.__name__:
            click.echo(error.said, err=True)
        raise
    if outcome.mounted is None:
        raise PdfsError(
            f"{request.project}/{request.stage} was not mounted: its crashed session turned out to "
            "be published already",
            remedy="mount it again",
        )
    return outcome.mounted


def _tell_mounted(request: MountRequest, mounted: Event) -> None:
    _tell_unended(mounted)
    _tell_aside(mounted)
    configuration, place = request.configuration, str(request.mountpoint)
    where = bucket_words(configuration.bucket, is_default=configuration.is_default_bucket)
    if request.read_only:
        tell_reading(request, mounted, where)
        return
    click.echo(f"{request.project}/{request.stage} is mounted at {place}")
    click.echo(f"bucket:   {where}")
    click.echo(f"session:  {mounted['session']}")
    click.echo(f"publish:  {shlex.join(['pdfs', 'umount', place])}")


def _tell_unended(mounted: Event) -> None:
    """Whose work may wait elsewhere; nobody is asked, for the stage is theirs no more."""
    found = mounted.get("unended", ())
    for each in found[:_SHOWN]:
        said = unended(each["session"], each["user"], each["machine"], each["files"], each["bytes"])
        click.echo(said, err=True)
    if len(found) > _SHOWN:
        click.echo(f"{len(found) - _SHOWN} more sessions have not ended", err=True)


def _tell_aside(event: Event) -> None:
    """What other tools don't see as it is: at the beginning, from the session before."""
    list_paths(SET_ASIDE, event.get("aside", ()))


def _run_here(request: MountRequest) -> int:
    """Be the daemon, with lines for who looks on; the exit code."""
    from pdfs.mount.daemon import run  # FUSE and a store; else they are the daemon's alone

    lines = Lines()

    def tell(event: Event) -> None:
        lines.show(event)
        _tell_event(event)

    return run(request, tell)


def _tell_event(event: Event) -> None:
    """One line for each event that somebody in front of --foreground wants to see."""
    match event.get("event"):
        case "mounted":
            _tell_unended(event)
            _tell_aside(event)
            click.echo(f"mounted at {event.get('mountpoint')}, session {event.get('session')}")
        case "state_changed":
            click.echo(f"state {event.get('state')}")
        case "failed":
            remedy = event.get("remedy")
            said = f"{event.get('what')}; {remedy}" if remedy else event.get("what")
            click.echo(f"pdfs: {said}", err=True)
        case "closed":
            for path in (*event.get("conflicts", ()), *event.get("missing", ())):
                click.echo(printable(f"look at: {path}"), err=True)
            _tell_aside(event)
            if event.get("damage"):
                click.echo(f"pdfs: {event['damage']}", err=True)
        case _:
            pass


def _wait_prefetch(configuration: Configuration, session: SessionId) -> None:
    with Control(configuration.runtime, session) as control, Progress() as progress:
        while True:
            status = control.ask("status")
            fetched = status["prefetch"]
            progress.show({"event": "progress", "message": "fetch", **fetched})
            is_over = fetched.get("is_over", fetched["files"] >= fetched["of_files"])
            if is_over or status["state"] != State.ACTIVE:
                return
            time.sleep(_LOOK)
