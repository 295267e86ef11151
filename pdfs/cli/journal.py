"""`pdfs journal`: what is in the files of a session's journal, and whether they are whole.

Both commands only read, and need neither the bucket nor the session to be dead.
"""

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

import click

from pdfs.cli.options import with_configuration
from pdfs.cli.words import printable
from pdfs.config import Configuration
from pdfs.core.amounts import count, size
from pdfs.core.ids import SessionId
from pdfs.core.record import Record, Write, decode
from pdfs.disk import OsDisk
from pdfs.errors import DamageFound, JournalDamaged, UsageError
from pdfs.local.journal_format import is_uuid
from pdfs.local.journal_inspection import (
    Place,
    Verdict,
    is_snapshot,
    opened_place,
    summarize_snapshot,
    verify_file,
    verify_journal,
)
from pdfs.local.journal_loader import JournalRecord, Loaded, load_segment
from pdfs.local.session_directory import BEGINNING
from pdfs.local.snapshot import SNAPSHOT

_OTHERS = ("session.json", "session.lock", "reserve")
"""What lies beside a journal, and is passed over where `verify` is given all files."""
_SEGMENT = "sessions/5e55105e55105e55105e55105e551000/journal-1.wal"


@click.group("journal", epilog="\b\nExample:\n  pdfs journal verify DIRECTORY\n")
def journal_command() -> None:
    """Look at the files of a session's journal, also while the session lives. Changes nothing.

    They are in sessions/SESSION below the state directory.
    """


@journal_command.command("dump", epilog=f"\b\nExample:\n  pdfs journal dump {_SEGMENT}\n")
@click.argument("file")
@with_configuration
def dump_command(configuration: Configuration, file: str) -> None:
    """Print what FILE holds, a line of JSON for each record, without the data of writes.

    FILE is a segment of a journal, or a snapshot, of which a summary is printed. Ends with 11
    where FILE is damaged, and then whole records behind the damage come, too.
    """
    disk = OsDisk()
    with opened_place(disk, file) as place:
        if place.is_directory:
            raise UsageError(f"{file} is a directory", remedy="name one of its files")
        if is_snapshot(disk, place.directory, place.name):
            summary = summarize_snapshot(disk, place.directory, place.name)
            _print({"kind": "snapshot", **dataclasses.asdict(summary)})
            return
        session = _session_of(place)
        loaded = load_segment(disk, place.directory, place.name, session=session)
        for fields in _lines(loaded):
            _print(fields)
        end = loaded.end
        if end.damage is not None:  # or was it just being written?
            verdict = verify_file(disk, place.directory, place.name, session)
            end = dataclasses.replace(end, damage=verdict.damage, torn_tail=verdict.torn_tail)
        _print({"kind": "end", **dataclasses.asdict(end)})
        if end.damage is not None:
            raise DamageFound(str(end.damage))


@journal_command.command("verify", epilog="\b\nExample:\n  pdfs journal verify DIRECTORY\n")
@click.argument("files", nargs=-1, required=True, metavar="FILE...|DIRECTORY...")
@with_configuration
def verify_command(configuration: Configuration, files: tuple[str, ...]) -> None:
    """Check every byte of segments and snapshots, or of the whole journal in a session's DIRECTORY.

    A DIRECTORY says more than its files one by one: what a later segment calls synced must be in
    the earlier ones. Ends with 11 where something is damaged: the first bad byte is named, and
    what is lost behind it. The torn tail of a session that crashed, or is writing, is no damage.
    """
    disk, damaged = OsDisk(), 0
    for file in files:
        with opened_place(disk, file) as place:
            for verdict in _verdicts(disk, place):
                click.echo(printable(_said(verdict)))
                damaged += verdict.is_damaged
    if damaged:
        raise DamageFound(
            f"damage was found in {damaged} of these",
            remedy="leave the files as they are; pdfs recover rescue copies out what is whole",
        )


def _verdicts(disk: OsDisk, place: Place) -> Iterator[Verdict]:
    if place.name in _OTHERS or place.name.startswith(BEGINNING):
        return
    if not place.is_directory:
        yield verify_file(disk, place.directory, place.name, _session_of(place))
        return
    journal = verify_journal(disk, place.directory, place.name)
    try:
        yield verify_file(disk, place.directory, SNAPSHOT, None)
    except FileNotFoundError:
        yield Verdict(name=SNAPSHOT, is_missing=True)
    yield journal


def _session_of(place: Place) -> SessionId | None:
    """Whose a segment is if its own header can't tell: that of the directory that it is in."""
    return SessionId(place.parent) if is_uuid(place.parent) else None


# --- dump -------------------------------------------------------------------------------------


def _lines(loaded: Loaded) -> Iterator[dict[str, object]]:
    if loaded.header is not None:
        yield {"kind": "header", **dataclasses.asdict(loaded.header)}
    for record in loaded.records():
        yield _fields(record)
    end = loaded.end
    if end.damage is not None or end.torn_tail is not None:
        for record in loaded.intact_behind():
            yield {**_fields(record), "is_replayed": False}


def _fields(record: JournalRecord) -> dict[str, object]:
    fields: dict[str, object] = {
        "sequence": record.sequence,
        "segment": record.segment,
        "offset": record.offset,
        "data_size": record.data_size,
    }
    try:
        decoded = decode(record.kind, record.body)
    except JournalDamaged as error:
        return {**fields, "kind": f"code {record.kind}", "problem": error.what}
    if isinstance(decoded, Write):
        held: Any = dataclasses.asdict(decoded)
    else:
        held = json.loads(record.body)
    return {**fields, "kind": _kind_of(decoded), "fields": held}


def _kind_of(record: Record) -> str:
    """`set_attributes` for a `SetAttributes`."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", type(record).__name__).lower()


def _print(fields: dict[str, object]) -> None:
    """One line of ASCII: what a terminal would obey, and bytes that are no UTF-8, as escapes."""
    click.echo(json.dumps(fields, ensure_ascii=True))


# --- verify -----------------------------------------------------------------------------------


def _said(verdict: Verdict) -> str:
    held = count(verdict.records, "record")
    if verdict.records:
        held += f" ({verdict.first_sequence} to {verdict.last_sequence})"
    if verdict.damage is not None:
        return f"{verdict.name}: {held}; then {verdict.damage}"
    if verdict.problem:
        return verdict.problem
    if verdict.is_missing:
        return f"{verdict.name}: there is none, and so nothing is replayed"
    if verdict.name == SNAPSHOT:
        return f"{verdict.name}: whole, as of record {verdict.last_sequence}"
    if verdict.torn_tail is not None:
        tail = verdict.torn_tail
        behind = count(tail.intact_records, "whole record")
        return (
            f"{verdict.name}: {held}; then a torn tail in {tail.file} from byte {tail.offset} on"
            f" ({size(tail.size)}, {behind} behind it): normal after a power cut, or while it is"
            " written; no record of the journal calls what is lost synced"
        )
    state = "whole" if verdict.is_whole else "sound, not closed: its session lives, or crashed"
    return f"{verdict.name}: {held}; {state}"
