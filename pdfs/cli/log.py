"""`pdfs log`: what happened to a session of this machine, also to one that is over."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import click

from pdfs.cli.ended import seconds_in, session_of_log
from pdfs.cli.options import json_option, with_configuration
from pdfs.cli.sessions import (
    find_last,
    find_session,
    local_readers,
    local_sessions,
    state_of,
)
from pdfs.cli.words import printable
from pdfs.config import Configuration
from pdfs.core.amounts import amount, size
from pdfs.core.ids import SessionId
from pdfs.core.moments import local_moment
from pdfs.disk import OsDisk
from pdfs.errors import SessionNotFound
from pdfs.local.session_log_format import ENDED, LogLine
from pdfs.local.session_log_reader import BadLine, LogReader, list_logs
from pdfs.local.state import StateDirectory

_INTERVAL: Final = 0.2
"""Seconds between two looks at a log that may grow."""

_WORDS: Final[Mapping[str, str]] = {
    "begun": "{user} on {machine} begins with {project}/{stage} of {bucket}, process {pid}",
    "resumed": "{user} on {machine} goes on with it, process {pid}",
    "state": "{state}",
    "asked": "by {what}",
    "lock_taken": "fence {fence}",
    "lock_not_renewed": "{what}",
    "lock_lost": "{what}",
    "lock_released": "unpublished here: {amount}",
    "mounted": "{mountpoint}",
    "taken_in": "{changes} changes by other tools, {skipped} keys skipped",
    "fetched": "{parts} parts ({bytes})",
    "publish_begun": "{amount}",
    "committed": "generation {generation}",
    "published": "generation {generation}: {amount}{lacking}",
    "conflict": "ours is kept as {path}",
    "not_removed": "{path} stays, another tool changed it",
    "set_aside": "the publish ends without {path}",
    "collected": "{objects} objects that nobody needs any more are gone ({bytes})",
    "not_collected": "leftovers stay for now: {what}",
    "trouble": "{what}",
    "retry": "{tries} tries have failed, the last: {what}",
    "failed": "{kind}: {what}",
    "outcome": "it ends with exit code {exit_code}{lacking}",
    "message": "{level}: {what}",
    "ended": "{records} lines, {lost} lost",
}
"""How people read each event; one that is missing here is shown with its fields."""


@click.command("log", epilog="\b\nExamples:\n  pdfs log /mnt/plant --follow\n  pdfs log Plant\n")
@click.argument("target")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until its daemon ends.")
@json_option
@with_configuration
def log_command(configuration: Configuration, target: str, follow: bool, as_json: bool) -> None:
    """Show what happened to TARGET: states, lock, fetches, publishes, conflicts, trouble.

    TARGET is a mountpoint, a session's id or its beginning, or PROJECT[/STAGE]. A session that
    is mounted or crashed goes before those that are over; of these it is the last that ended.
    """
    if not os.path.isdir(configuration.state / "logs"):
        raise _no_log(configuration, target)  # who only looks makes nothing
    with state_of(configuration) as state:
        session = _find(configuration, state, target)

        def lives() -> bool:
            return follow and any(
                each.is_held for each in state.sessions() if each.session == session
            )

        with LogReader(OsDisk(), state.logs, session) as log:
            for line in _lines(log, lives):
                _show(line, as_json)


def _find(configuration: Configuration, state: StateDirectory, target: str) -> SessionId:
    here = local_sessions(configuration)
    with suppress(SessionNotFound):
        return find_session(here, target).session
    known = {each.session for each in here}
    logs = list_logs(OsDisk(), state.logs)
    over = [session_of_log(log) for log in logs if log.session not in known]
    with suppress(SessionNotFound):
        return find_last(over, target).session
    raise _no_log(configuration, target)


def _no_log(configuration: Configuration, target: str) -> SessionNotFound:
    """What to say where nothing with a log is called so."""
    reader = find_session(local_readers(configuration), target)
    return SessionNotFound(
        f"{reader.name} is mounted read-only at {reader.mountpoint}; such a mount keeps no log",
        remedy="pdfs status shows what it does",
    )


def _lines(log: LogReader, lives: Callable[[], bool]) -> Iterator[LogLine | BadLine]:
    """What is there; then what comes as long as the session `lives`."""
    while True:
        is_last = not lives()  # asked before, so that nothing is missed that came in between
        for line in log.lines():
            yield line
            is_last = is_last or (isinstance(line, LogLine) and line.event == ENDED)
        if is_last:
            return
        time.sleep(_INTERVAL)


# --- words ------------------------------------------------------------------------------------


def _show(line: LogLine | BadLine, as_json: bool) -> None:
    if isinstance(line, BadLine):
        where = f"bytes {line.offset} to {line.offset + line.size}"
        click.echo(f"pdfs: {where} of the log are damaged; they are passed over", err=True)
    elif as_json:
        click.echo(
            json.dumps({"n": line.number, "at": line.at, "event": line.event, **line.fields})
        )
    else:
        click.echo(printable(f"{_when(line.at)}  {line.event:<16}  {_said(line)}").rstrip())


def _said(line: LogLine) -> str:
    words = _WORDS.get(line.event)
    if words is None:
        return ", ".join(f"{name} {value}" for name, value in line.fields.items())
    return words.format_map(_Shown(line.fields))


class _Shown(dict[str, Any]):
    """Fields as people read them; one that is missing is a question mark."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        super().__init__({"lacking": "", **fields})
        if fields.get("missing"):
            self["lacking"] = f", {fields['missing']} of its files without their bytes"
        files, count = fields.get("files"), fields.get("bytes")
        if isinstance(count, int):
            self["bytes"] = size(count)
            self["amount"] = amount(files, count) if isinstance(files, int) else size(count)

    def __missing__(self, name: str) -> str:
        return "?"


def _when(at: str) -> str:
    seconds = seconds_in(at)
    return at if seconds is None else local_moment(seconds) or at
