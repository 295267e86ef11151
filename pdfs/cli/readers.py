"""Read-only mounts on the command line: what they can't be asked for, how they begin and end."""

import shlex
from collections.abc import Mapping

import click

from pdfs.cli.control import Control, Event
from pdfs.cli.mountpoint import remove_dead_mount
from pdfs.cli.sessions import LocalSession, state_of
from pdfs.config import Configuration
from pdfs.disk import OsDisk
from pdfs.errors import DaemonSilent, LockError, NotFoundError, UsageError
from pdfs.mount.mountpoint import remove_mountpoint
from pdfs.mount.request import MountRequest


def check_only_read(options: Mapping[str, object]) -> None:
    """Raise UsageError where an option is given that says how a stage is to be edited."""
    chosen = [name for name, value in options.items() if value]
    if chosen:
        raise UsageError(
            f"--read-only takes no lock and changes nothing: {chosen[0]} means nothing"
        )


def check_readable(configuration: Configuration, project: str) -> None:
    """Raise ProjectNotFound where there is no bucket yet: who only looks makes none."""
    from pdfs.cli.bucket import check_bucket  # a store, which no help page needs

    check_bucket(configuration, project)


def tell_reading(request: MountRequest, mounted: Event, where: str) -> None:
    """What is mounted now."""
    reader, place = mounted["reader"], str(request.mountpoint)
    later = "and newer ones as they come" if reader["follows"] else "and no newer one"
    click.echo(f"{request.project}/{request.stage} is mounted read-only at {place}")
    click.echo(f"bucket:   {where}")
    click.echo(f"shows:    generation {reader['generation']}, {later}")
    click.echo(f"unmount:  {shlex.join(['pdfs', 'umount', place])}")


def unmount_reader(
    configuration: Configuration, found: LocalSession, timeout: float | None
) -> None:
    """End a read-only mount; one whose daemon died is cleaned up. Raises DaemonError, TimedOut."""
    if found.is_held:
        try:
            with Control(configuration.runtime, found.session) as control:
                control.ask("umount", timeout=timeout)
        except DaemonSilent:
            if _is_held(configuration, found):
                raise
    else:
        _clean_up(configuration, found)
    click.echo(f"{found.name} is unmounted from {found.mountpoint}; it was read-only")


def _is_held(configuration: Configuration, found: LocalSession) -> bool:
    with state_of(configuration) as state:
        return any(each.session == found.session and each.is_held for each in state.readers())


def _clean_up(configuration: Configuration, found: LocalSession) -> None:
    if remove_dead_mount(found.mountpoint) and found.has_made_mountpoint:
        remove_mountpoint(OsDisk(), found.mountpoint)
    with state_of(configuration) as state:
        try:
            state.remove_reader(state.open_reader(found.session))
        except (LockError, NotFoundError):
            return  # another process was at it, too
