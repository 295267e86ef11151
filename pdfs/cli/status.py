"""`pdfs status`, and `pdfs` alone: what is mounted here, what is unpublished, what to do next."""

import shlex
import time
from collections.abc import Iterable
from typing import Any

import click

from pdfs.cli.control import Control, Event
from pdfs.cli.held import IN_HAND
from pdfs.cli.options import bucket_words, configuration_of, json_option, with_configuration
from pdfs.cli.output import print_json
from pdfs.cli.progress import line_of
from pdfs.cli.sessions import LocalSession, find_session, local_mounts
from pdfs.cli.words import printable
from pdfs.config import Configuration
from pdfs.core.amounts import amount, size
from pdfs.core.lease import seconds_of
from pdfs.core.moments import local_moment, span
from pdfs.errors import DaemonSilent, PdfsError

_NOTHING = "nothing is mounted on this machine, and nothing waits here to be published"
_SHOWN = 5
"""So many names stand in one line; the rest is counted."""


@click.command("status", epilog="\b\nExamples:\n  pdfs status\n  pdfs status /mnt/plant --json\n")
@click.argument("target", required=False)
@json_option
@with_configuration
def status_command(configuration: Configuration, target: str | None, as_json: bool) -> None:
    """Show the sessions and read-only mounts of this machine, or TARGET alone.

    TARGET is a mountpoint, a session's id or its beginning, or PROJECT[/STAGE].
    """
    sessions = local_mounts(configuration)
    if target is not None:
        sessions = [find_session(sessions, target)]
    found = [(each, status_of(configuration, each)) for each in sessions]
    if as_json:
        print_json({"sessions": [status for _, status in found]})
        return
    if not found:
        click.echo(_NOTHING)
    for session, status in found:
        click.echo("\n".join(_lines(configuration, session, status)))


def overview(ctx: click.Context) -> None:
    """What `pdfs` without a command says."""
    configuration = configuration_of(ctx)
    sessions = local_mounts(configuration)
    where = bucket_words(configuration.bucket, is_default=configuration.is_default_bucket)
    click.echo(f"bucket  {where}")
    for session in sessions:
        click.echo("\n".join(_lines(configuration, session, status_of(configuration, session))))
    if not sessions:
        click.echo(_NOTHING)
        click.echo("next:   pdfs ls                         the projects in the bucket")
        click.echo("        pdfs mount PROJECT MOUNTPOINT   work on one")
        click.echo("        pdfs --help                     everything else")


def status_of(configuration: Configuration, session: LocalSession) -> Event:
    """What the session's daemon says of it; of a crashed one, what its journal says."""
    if session.is_held:
        try:
            with Control(configuration.runtime, session.session) as control:
                return {**control.ask("status"), "alive": True}
        except PdfsError as error:
            in_hand = isinstance(error, DaemonSilent) and f"it is {IN_HAND}; "
            return {**_known(session), "alive": True, "trouble": f"{in_hand or ''}{error}"}
    if session.is_reader:
        return {**_known(session), "alive": False}
    from pdfs.cli.crashed import look_at  # a replay, which only a crash needs

    try:
        left = look_at(configuration, session)
    except PdfsError as error:
        return {**_known(session), "alive": False, "trouble": str(error)}
    return {
        **_known(session),
        "alive": False,
        "unpublished": {"files": left.files, "bytes": left.bytes},
        "damage": left.damage or None,
    }


def _known(session: LocalSession) -> dict[str, Any]:
    """The fields that need no daemon; the state is that of a session that nobody has opened."""
    return {
        "schema": 1,
        "session": session.session,
        "project": session.project,
        "stage": session.stage,
        "mountpoint": session.mountpoint or None,
        "pid": None,
        "state": "IDLE",
        "bucket": session.bucket,
        "user": session.user,
        "machine": session.machine,
        "lock": None,
        "reader": {} if session.is_reader else None,
        "read_only": None,
        "damage": None,
        "lost": None,
        "conflicts": [],
        "not_removed": [],
        "aside": [],
        "refused": {},
        "warnings": [],
        "unreadable": {},
        "invisible": None,
        "trouble": session.problem or None,
        "why": session.why,
    }


# --- words ------------------------------------------------------------------------------------


def _lines(configuration: Configuration, session: LocalSession, status: Event) -> list[str]:
    lines = [_title(session, status)]
    details: list[tuple[str, object]] = [
        ("bucket", bucket_words(session.bucket, is_default=False) if session.bucket else ""),
        ("generation", _generation(status)),
        ("unpublished", _unpublished(status)),
        ("publishes", _every(status)),
        ("fetched", _fetched(status)),
        ("progress", _moved(status)),
        ("lock", _lock(status)),
        ("lost", status.get("lost")),
        ("cut short", "" if status["alive"] else session.why),
        ("read-only", status.get("read_only")),
        ("damage", status.get("damage")),
        ("trouble", status.get("trouble")),
        ("refused", _first(status.get("refused"))),
        ("conflicts", ", ".join(status.get("conflicts") or ())),
        ("not removed", _not_removed(status)),
        ("set aside", _first(status.get("aside"))),
        ("skipped", "; ".join(f"{path}: {why}" for path, why in status.get("warnings") or ())),
        ("unreadable", _first(status.get("unreadable"))),
        ("not visible", _invisible(status)),
        ("test timing", status.get("timing") or None),
        ("session", _session(session, status)),
        ("next", _next(configuration, session, status)),
    ]
    lines += [f"  {what:<12}{said}" for what, said in details if said]
    return [printable(line) for line in lines]


def _title(session: LocalSession, status: Event) -> str:
    state = status["state"] if status["alive"] else condition_of(session)
    if session.is_reader:
        state = "read-only" if session.is_held else "read-only, its daemon is dead"
    elif status["alive"] and status["pid"] is None:
        state = "does not answer"
    place = session.mountpoint or "(not mounted)"
    if status["alive"] and session.mountpoint and status["state"] == "UPLOADING":
        place = f"{place} (mounted)" if status.get("is_mounted") else f"(unmounted from {place})"
    return f"{session.name}  {state}  {place}"


def condition_of(session: LocalSession) -> str:
    """What became of a session that no process has."""
    if session.reading:
        return "import cut short"
    return "cut short" if session.why else "crashed"


def _generation(status: Event) -> str:
    """Which one a read-only mount shows."""
    reader = status.get("reader")
    if not reader or reader["generation"] is None:
        return ""
    published, since = (_local(reader[name]) for name in ("published", "since"))
    of = f", published {published}" if published else ""
    follows = "; it follows newer ones" if reader["follows"] else ""
    return f"{reader['generation']}{of}, shown since {since}{follows}"


def _local(moment: str | None) -> str:
    return local_moment(seconds_of(moment)) if moment else ""


def _unpublished(status: Event) -> str:
    found = status.get("unpublished")
    if found is None:
        return ""
    return amount(found["files"], found["bytes"]) if found["files"] else "nothing"


def _every(status: Event) -> str:
    """How often it publishes unasked, while it is mounted."""
    every = status.get("every")
    return f"by itself every {span(every)}" if every and status.get("is_mounted") else ""


def _fetched(status: Event) -> str:
    found = status.get("prefetch")
    if not found or found["files"] >= found["of_files"]:
        return ""
    here = amount(found["files"], found["bytes"])
    return f"{here} of {amount(found['of_files'], found['of_bytes'])}"


def _moved(status: Event) -> str:
    """How far an upload is; nothing where none is under way."""
    found = status.get("upload")
    if not found or (status["state"] != "UPLOADING" and found["files"] >= found["of_files"]):
        return ""
    left = max(0, found["of_bytes"] - found["bytes"])
    return f"{line_of(found)}; {size(left)} left"


def _first(paths: Iterable[str] | None, total: int | None = None) -> str:
    """The first of these names, and how many more there are: `total`, where these are not all."""
    found = list(paths or ())
    more = (len(found) if total is None else total) - len(found[:_SHOWN])
    return ", ".join(found[:_SHOWN]) + (f" and {more} more" if more else "")


def _not_removed(status: Event) -> str:
    """Names that were removed here, and stay."""
    paths = _first(status.get("not_removed"))
    return f"{paths}: another tool changed it" if paths else ""


def _invisible(status: Event) -> str:
    """Files that stand in the manifest alone, since no key can have their names."""
    found = status.get("invisible")
    if not found or not found["files"]:
        return ""
    return f"to other tools: {_first(found['paths'], found['files'])}"


def _lock(status: Event) -> str:
    lock = status.get("lock")
    if not lock or status.get("lost"):  # then it tells no more than what once was
        return ""
    now = time.time()
    return (
        f"{lock['state']}, {lock['user']} on {lock['machine']} "
        f"since {local_moment(seconds_of(lock['since']))}, "
        f"renewed {span(now - seconds_of(lock['renewed']))} ago"
    )


def _session(session: LocalSession, status: Event) -> str:
    return session.short + (f", process {status['pid']}" if status.get("pid") else "")


def _next(configuration: Configuration, session: LocalSession, status: Event) -> str:
    if session.is_reader:
        end = shlex.join(["pdfs", "umount", session.mountpoint])
        return f"{end} ends it; nothing can be changed in it"
    if status["alive"] and status["pid"] is None:
        return "pdfs status again: its process is busy, or another command; nothing is lost by that"
    if status.get("lost"):
        return (
            f"unmount, then pdfs recover resume {session.short} merges and publishes what is here,"
            " pdfs recover rescue copies it out"
        )
    if session.reading and not session.is_held:
        return (
            f"pdfs import {shlex.quote(session.reading)} {session.project} begins anew, "
            f"pdfs recover discard {session.short} gives it up"
        )
    if not session.is_held:
        return (
            f"pdfs recover resume {session.short} publishes it, mounting the stage goes on with it"
        )
    if status.get("read_only"):
        end = shlex.join(["pdfs", "umount", session.mountpoint or session.short])
        return f"{end} publishes nothing more; mounting the stage again goes on with what was kept"
    if status.get("refused"):
        words = ["pdfs", "publish", session.mountpoint or session.short, "--set-aside", "PATH"]
        return f"{shlex.join(words)} ends the publish without a file that is refused"
    if status["state"] == "ACTIVE" and session.mountpoint:
        return shlex.join(["pdfs", "umount", session.mountpoint]) + " publishes and releases"
    if status.get("is_mounted"):
        wait = shlex.join(["pdfs", "publish", session.mountpoint])
        return f"{wait} waits until what was written so far is published"
    return shlex.join(["pdfs", "umount", session.short]) + " waits until everything is published"
