"""Waiting for a session of this machine that was unmounted and is still being published."""

import time

import click

from pdfs.cli.control import Control, Event
from pdfs.cli.output import list_paths
from pdfs.cli.progress import Progress
from pdfs.cli.sessions import LocalSession, local_sessions
from pdfs.cli.words import NOT_REMOVED, SET_ASIDE
from pdfs.config import Configuration
from pdfs.core.amounts import amount
from pdfs.core.states import State
from pdfs.errors import DaemonError, DaemonSilent, LockError, TimedOut

_ENDING = 10.0
"""Seconds that a daemon gets from its last answer to its end."""
_LOOK = 0.05
_OVER = (State.UPLOADING, State.CLOSED)


def is_draining(configuration: Configuration, found: LocalSession) -> bool:
    """Whether a live session has been unmounted; also of one that ends while it is asked.

    One that publishes while it is mounted has not: to wait for its end would unmount it.
    """
    deadline = time.monotonic() + _ENDING
    while True:
        try:
            with Control(configuration.runtime, found.session) as control:
                status = control.ask("status")
            return status["state"] in _OVER and not status["is_mounted"]
        except (DaemonSilent, TimedOut):
            if not _is_held(configuration, found):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK)


def wait_for_publish(configuration: Configuration, found: LocalSession, limit: float) -> None:
    """Return when its daemon has ended, and say how. Raises LockError after `limit` s.

    Ctrl-C ends the waiting; the daemon goes on.
    """
    try:
        with Control(configuration.runtime, found.session) as control, Progress() as progress:
            left = control.ask("status")["unpublished"]
            said = f"{found.name} is still being published by session {found.short}"
            said = f"{said}: {amount(left['files'], left['bytes'])} left"
            if limit > 0:
                click.echo(f"{said}; waiting (Ctrl-C ends that)", err=True)
                control.send("subscribe")
            result = control.ask(
                "umount", given={"waits": True}, timeout=limit, on_event=progress.show
            )
    except TimedOut:
        raise LockError(
            f"{found.name} is still being published by session {found.short} of this machine",
            remedy=f"pdfs status {found.short} shows how far it is; --wait-lock SECONDS waits",
        ) from None
    except DaemonError as error:
        click.echo(f"its publish ended so: {error.what}", err=True)
    except DaemonSilent:
        pass  # it has ended: what it left is in the state directory
    else:
        _tell(result)
    _wait_until_ended(configuration, found)


def _tell(result: Event) -> None:
    for what, paths in (
        ("conflict copy", "conflicts"),
        (NOT_REMOVED, "not_removed"),
        ("nowhere in the bucket", "missing"),
        (SET_ASIDE, "aside"),
    ):
        list_paths(what, result.get(paths, ()))


def _wait_until_ended(configuration: Configuration, found: LocalSession) -> None:
    deadline = time.monotonic() + _ENDING
    while _is_held(configuration, found) and time.monotonic() < deadline:
        time.sleep(_LOOK)


def _is_held(configuration: Configuration, found: LocalSession) -> bool:
    sessions = local_sessions(configuration)
    return any(each.session == found.session and each.is_held for each in sessions)
