r"""The lines of a session's log, schema 1: grammar and names. No I/O.

    {state path}/logs/{session}.jsonl.__partial__     while the session lives or waits for recovery
    {state path}/logs/{session}.jsonl                 the same, renamed after its last line

    log  = first *line [last]
    line = JSON object in ASCII, "\n"

Every line has `n` (1, 2, …; a number that is missing is a line that could not be written), `at`
(UTC, ISO 8601) and `event`, and the fields of that event:

    begun      the first line: schema, session, run, project, stage, user, machine, bucket,
               mountpoint, pid, pdfs (version)
    resumed    another process goes on with the session: the same, and `cut`, the bytes of a torn
               last line that were taken away before
    ended      the last line: records (lines but `begun` and `ended`), lost (lines that could not be
               written, or not be read again), counts (lines by event), totals (of what was
               published and fetched, and of conflicts)
    others     as in `core.notes`

A log that was ended may be taken up again, when a discarded session is brought back: then `ended`
stands inside it, too.

Texts are cut at 4,096 characters, and what looks like a credential in one is replaced; a line never
holds a byte of a file's content. Names that are not UTF-8 are carried as lone surrogates, escaped.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal

from pdfs.core.ids import RunId, SessionId
from pdfs.local.journal_format import decode_json, is_uuid

SCHEMA: Final = 1
BEGUN: Final = "begun"
RESUMED: Final = "resumed"
ENDED: Final = "ended"
LONGEST_LINE: Final = 1 << 20
"""No line that was written is as long: 11 texts of 4,096 characters, each escaped to 12 bytes."""
_LONGEST_TEXT: Final = 4096
_NAME = re.compile(r"([0-9a-f]{32})\.jsonl(\.__partial__)?", re.ASCII)
_SECRETS = re.compile(
    r"""(?<=://)[^/\s@]+(?=@)                                      # user and password of a URL
    | (?<=[?&])(X-Amz-(Credential|Signature|Security-Token)|AWSAccessKeyId|Signature)=[^&\s'"]+
    | \b(AKIA|ASIA)[0-9A-Z]{12,}\b""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHeader:
    """Whose log it is, and which process writes it."""

    session: SessionId
    run: RunId
    project: str
    stage: str
    user: str
    machine: str
    bucket: str
    mountpoint: str
    """Empty where the session is not mounted."""
    pid: int
    pdfs: str
    """Version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line as it was written."""

    offset: int
    """Of its first byte in the file."""
    number: int
    at: str
    event: str
    fields: Mapping[str, object]
    """All but the three above; who reads one takes it for anything."""


class Tally:
    """What the last line of a log sums up."""

    def __init__(self) -> None:
        self.lines = self.records = 0
        self.counts: Counter[str] = Counter()
        self.totals = {"published_files": 0, "published_bytes": 0}
        self.totals |= {"fetched_bytes": 0, "conflicts": 0}

    def add(self, event: str, fields: Mapping[str, object]) -> None:
        """Count one line."""
        self.lines += 1
        if event in (BEGUN, ENDED):
            return
        self.records += 1
        self.counts[event] += 1
        match event, fields:
            case "published", {"files": int(files), "bytes": int(count)}:
                self.totals["published_files"] += files
                self.totals["published_bytes"] += count
            case "fetched", {"bytes": int(count)}:
                self.totals["fetched_bytes"] += count
            case "conflict", _:
                self.totals["conflicts"] += 1
            case _:
                pass  # only counted


def log_name(session: SessionId, state: Literal["partial", "whole"]) -> str:
    """File name of a session's log."""
    return f"{session}.jsonl" + (".__partial__" if state == "partial" else "")


def parse_log_name(name: str) -> tuple[SessionId, bool] | None:
    """(session, is it whole) of a log's file name; None for any other name."""
    match = _NAME.fullmatch(name)
    return None if match is None else (SessionId(match[1]), match[2] is None)


def encode_line(number: int, at: str, event: str, fields: Mapping[str, object]) -> bytes:
    """One line with its end."""
    cleaned = {name: _cleaned(name, value) for name, value in fields.items()}
    line = {"n": number, "at": at, "event": event, **cleaned}
    return json.dumps(line, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def header_fields(header: LogHeader) -> dict[str, object]:
    """The fields of `begun` and `resumed`."""
    return {"schema": SCHEMA, **asdict(header)}


def decode_line(raw: bytes, offset: int) -> LogLine | None:
    """The line of these bytes, without its end; None where they are none. No error for any."""
    match decode_json(raw):
        case {"n": int(number), "at": str(at), "event": str(event), **fields}:
            return LogLine(offset=offset, number=number, at=at, event=event, fields=fields)
        case _:
            return None


def decode_header(line: LogLine) -> LogHeader | int | None:
    """Whose log it is, by a `begun` or `resumed` line; None for any other line.

    The schema alone, where that is one that this code does not know.
    """
    if line.event not in (BEGUN, RESUMED):
        return None
    match line.fields:
        case {"schema": int(schema)} if schema != SCHEMA:
            return schema
        case {
            "session": str(session),
            "run": str(run),
            "project": str(project),
            "stage": str(stage),
            "user": str(user),
            "machine": str(machine),
            "bucket": str(bucket),
            "mountpoint": str(mountpoint),
            "pid": int(pid),
            "pdfs": str(version),
        } if is_uuid(session) and is_uuid(run):
            return LogHeader(
                session=SessionId(session),
                run=RunId(run),
                project=project,
                stage=stage,
                user=user,
                machine=machine,
                bucket=bucket,
                mountpoint=mountpoint,
                pid=pid,
                pdfs=version,
            )
        case _:
            return None


def _cleaned(name: str, value: object) -> object:
    """`value` as it may stand in a log. A path is left as it is: it names a file, exactly."""
    if not isinstance(value, str):
        return value
    text = value if name == "path" else _SECRETS.sub("…", value)
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
