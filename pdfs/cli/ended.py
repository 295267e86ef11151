"""Sessions of this machine that are over, as their logs tell them.

Who asks for an end that has just come is answered from there, as the daemon would have answered:
whether the stage was published is known, and nobody is to look for it elsewhere.
"""

import os
import time
from contextlib import suppress

from pdfs.cli.control import Event
from pdfs.cli.sessions import LocalSession, find_last, state_of
from pdfs.config import Configuration
from pdfs.core.lease import seconds_of
from pdfs.core.notes import BroughtBack, CameTo, ConflictCopied, Discarded
from pdfs.disk import OsDisk
from pdfs.errors import DiskError, SessionNotFound, UnpublishedWork
from pdfs.local.session_log_format import RESUMED, LogLine
from pdfs.local.session_log_reader import FoundLog, LogReader, list_logs

_LATELY = 60.0
"""Seconds after its end in which a session is still taken for the one that is meant."""
_GOES_ON = {RESUMED, Discarded.event, BroughtBack.event}
"""What may come after an end, and makes it none."""


def lately_ended(configuration: Configuration, target: str) -> LocalSession | None:
    """The session of that name which ended last, if that is a moment ago and its log says how."""
    if not os.path.isdir(configuration.state / "logs"):
        return None
    with state_of(configuration) as state:
        logs = list_logs(OsDisk(), state.logs)
    over = [session_of_log(log) for log in logs if log.is_whole]
    with suppress(SessionNotFound):
        found = find_last(over, target)
        is_late = abs(time.time() - found.changed) < _LATELY
        if is_late and _told(configuration, found):
            return found
    return None


def answer_of_ended(configuration: Configuration, found: LocalSession) -> Event | None:
    """What its daemon has answered, or would have, to who wanted it published; None: not known.

    Raises UnpublishedWork where it was aborted.
    """
    told = _told(configuration, found)
    if told is None:
        return None
    outcome, conflicts = told
    if outcome["is_aborted"]:
        raise UnpublishedWork(
            f"{found.name} was aborted a moment before: it was ended without publishing",
            remedy=f"pdfs recover undo {found.short} brings it back",
        )
    damage = str(outcome["damage"])
    if outcome["missing"]:
        lacking = f"{outcome['missing']} of its files are without their bytes"
        damage = f"{damage}; and {lacking}" if damage else lacking
    return {"exit_code": outcome["exit_code"], "conflicts": conflicts, "damage": damage}


def _told(
    configuration: Configuration, found: LocalSession
) -> tuple[dict[str, object], list[str]] | None:
    """What its log says that it came to, and its conflict copies."""
    outcome: dict[str, object] | None = None
    conflicts: list[str] = []
    try:
        with (
            state_of(configuration) as state,
            LogReader(OsDisk(), state.logs, found.session) as log,
        ):
            for line in log.lines():
                if not isinstance(line, LogLine):
                    continue
                if line.event == ConflictCopied.event:
                    conflicts.append(str(line.fields.get("path")))
                elif line.event == CameTo.event and _is_outcome(line):
                    outcome = dict(line.fields)
                elif line.event in _GOES_ON:
                    outcome = None
    except (DiskError, SessionNotFound):
        return None
    return None if outcome is None else (outcome, conflicts)


def _is_outcome(line: LogLine) -> bool:
    kinds = {"exit_code": int, "is_aborted": bool, "missing": int, "damage": str}
    return all(isinstance(line.fields.get(name), kind) for name, kind in kinds.items())


def session_of_log(log: FoundLog) -> LocalSession:
    """A session that is over, as its log knows it."""
    header = log.header
    return LocalSession(
        session=log.session,
        is_held=False,
        project="" if header is None else header.project,
        stage="" if header is None else header.stage,
        user="" if header is None else header.user,
        machine="" if header is None else header.machine,
        bucket="" if header is None else header.bucket,
        endpoint="",
        mountpoint="" if header is None else header.mountpoint,
        pid=0 if header is None else header.pid,
        started=seconds_in(log.begun) or 0.0,
        changed=log.changed,
        why="",
        problem="",
    )


def seconds_in(at: str) -> float | None:
    """A moment of a log, in s since 1970; None where it is none."""
    try:
        return seconds_of(at)
    except ValueError:
        return None
