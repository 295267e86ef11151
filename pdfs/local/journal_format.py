"""The bytes of a journal segment, schema 2: grammar, names and checksums. No I/O.

A journal is the write-ahead log of one session: numbered records in numbered segments.

    journal-{n}.wal.__partial__     segment n, in decimal, while it may still grow
    journal-{n}.wal                 the same, renamed after its trailer was synced: it is whole
    carried-{n}.wal                 segment n: bytes that a checkpoint copied (`local.carrying`)

No two segments of a session have the same number, and later records are in segments of higher
numbers. A journal numbers its segments with gaps of one, which are for what checkpoints carry: so
those above the snapshot's `through` are through + 1, + 3, + 5, …, and one that is gone shows.

    segment = header *record [trailer] *%x00
    header  = frame json *space     kind 0; fills the first 4,096 bytes exactly
    record  = frame body data       kind 1 to 254, meant by the caller; `data` is a write's payload
    trailer = frame json            kind 255; nothing but zeros follows
    frame   = 48 bytes, integers little-endian:

         0  3  "PDJ"
         3  1  kind
         4  4  mark: low half of xxh3-64(run), the same in every frame of a segment
         8  4  length of the body (or of the json and its padding)
        12  4  length of the data
        16  8  sequence: of a record, 1, 2, … without a gap through all segments of a session;
               of a header, 0; of a trailer, that of the last record before it; of what is
               carried, that of the last record before the checkpoint
        24  8  synced: newest sequence known to be on the disk when this was written; of a trailer,
               its sequence
        32  8  xxh3-64(body data)
        40  8  xxh3-64(session segment offset frame[0:40]): 16 bytes, 8 bytes and 8 bytes, `offset`
               being that of this frame in its segment

    header json:  schema, session, run, segment, project, stage, user, machine, base
    trailer json: records, body_bytes, data_bytes: how many, and the sums of their lengths; `next`:
                  number of the segment that goes on, which is there; not there in the last one

`session` and `run` are UUIDs, 32 lower-case hex digits in the json and 16 bytes in the checksums.
`base` says which bucket and endpoint the session is of, and which directory an import reads; it is
not interpreted here.

A frame is valid only where it was written: session, segment, offset and sequence are under its
checksum, and `mark` ties it to the run, so a sector of another place, session or generation of
the file is never taken for a record. Frame and payload have checksums of their own, so that the
frame of a damaged record still tells its length, its sequence, and what was synced before it.

Order on disk: header and directory are synced before the first record is written; so bytes at or
after 4,096 prove that there was a header. The trailer is written when all records before it are
synced, and synced before the rename. A segment may be made ahead, allocated and, once its header is
synced, filled with zeros.

Every later schema keeps the header: frame, json and 4,096 bytes. So an older PDFS can read `schema`
and refuse the rest in words.
"""

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import xxhash

from pdfs.core.ids import RunId, SessionId
from pdfs.disk import Buffer
from pdfs.errors import UsageError

SCHEMA: Final = 2
PARTIAL: Final = ".__partial__"
HEADER: Final = 0
TRAILER: Final = 255
MAGIC: Final = b"PDJ"
FRAME_SIZE: Final = 48
HEADER_SIZE: Final = 4096
PAYLOAD_LIMIT: Final = 1 << 30
"""Longest body, and longest data; a frame that states more is none."""

_PLACED_FRAME = struct.Struct("<16sQQ3sBIIIQQQ")
_PLACE = struct.Struct("<16sQQ")
_FRAME = struct.Struct("<3sBIIIQQQQ")
_CHECKSUM = struct.Struct("<Q")
_UNCHECKED: Final = FRAME_SIZE - _CHECKSUM.size
_NAME = re.compile(r"(journal|carried)-([1-9][0-9]{0,17})\.wal(\.__partial__)?", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Whose journal this is; every segment of it begins with the same."""

    session: SessionId
    run: RunId
    project: str
    stage: str
    user: str
    machine: str
    base: Mapping[str, object]
    """A JSON object."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What ties a frame to its segment."""

    session: bytes
    mark: int
    segment: int


class Frame(NamedTuple):
    """A frame whose own checksum is right; its payload is still to be checked.

    A tuple, as a replay makes one for each record: 1 µs less than a frozen dataclass.
    """

    kind: int
    mark: int
    body_size: int
    data_size: int
    sequence: int
    synced: int
    payload_checksum: int

    @property
    def size(self) -> int:
        """Bytes from this frame to the next."""
        return FRAME_SIZE + self.body_size + self.data_size


@dataclass(frozen=True, slots=True)
class Totals:
    """What a trailer says was written before it."""

    records: int = 0
    body_bytes: int = 0
    data_bytes: int = 0

    def plus(self, body_size: int, data_size: int) -> "Totals":
        """With one record more."""
        return Totals(self.records + 1, self.body_bytes + body_size, self.data_bytes + data_size)


class Trailer(NamedTuple):
    """What a trailer says."""

    totals: Totals
    next_segment: int
    """Number of the segment that goes on; 0 where there is none."""


class SegmentName(NamedTuple):
    """What the name of a segment's file says."""

    number: int
    is_whole: bool
    is_carried: bool = False

    def __str__(self) -> str:
        kind, end = "carried" if self.is_carried else "journal", "" if self.is_whole else PARTIAL
        return f"{kind}-{self.number}.wal{end}"


def parse_segment_name(name: str) -> SegmentName | None:
    """What the name of a segment's file says; None for any other name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return SegmentName(int(match[2]), match[3] is None, match[1] == "carried")


def is_uuid(text: object) -> bool:
    """Whether `text` is a session or run id as it stands in files and names."""
    return isinstance(text, str) and _UUID.fullmatch(text) is not None


def mark_of(run: RunId) -> int:
    """What every frame that this run writes carries."""
    return xxhash.xxh3_64_intdigest(bytes.fromhex(run)) & 0xFFFF_FFFF


def origin_of(session: SessionId, run: RunId, segment: int) -> Origin:
    """The origin of every frame in that segment."""
    return Origin(bytes.fromhex(session), mark_of(run), segment)


def encode_frame(
    origin: Origin, offset: int, kind: int, body: bytes, data: Buffer, sequence: int, synced: int
) -> bytes:
    """The frame to write at `offset`, right before `body` and `data`."""
    payload = xxhash.xxh3_64(body)
    payload.update(data)
    placed = _PLACED_FRAME.pack(
        origin.session,
        origin.segment,
        offset,
        MAGIC,
        kind,
        origin.mark,
        len(body),
        len(data),
        sequence,
        synced,
        payload.intdigest(),
    )
    return placed[_PLACE.size :] + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(placed))


def decode_frame(raw: Buffer, session: bytes, segment: int, offset: int) -> Frame | None:
    """The frame at `offset` of that segment; None where `raw` is not exactly one."""
    if len(raw) != FRAME_SIZE:
        return None
    magic, *fields, checksum = _FRAME.unpack(raw)
    if magic != MAGIC:
        return None
    place = _PLACE.pack(session, segment, offset)
    if xxhash.xxh3_64_intdigest(place + raw[:_UNCHECKED]) != checksum:
        return None
    frame = Frame._make(fields)
    is_possible = frame.body_size <= PAYLOAD_LIMIT and frame.data_size <= PAYLOAD_LIMIT
    return frame if is_possible else None


def encode_header(header: Header, segment: int) -> bytes:
    """The first 4,096 bytes of a segment. Raises UsageError where the header is too long."""
    if not (is_uuid(header.session) and is_uuid(header.run)):
        raise UsageError(f"{header.session!r} or {header.run!r} is not a session or run id")
    fields = {
        "schema": SCHEMA,
        "session": header.session,
        "run": header.run,
        "segment": segment,
        "project": header.project,
        "stage": header.stage,
        "user": header.user,
        "machine": header.machine,
        "base": dict(header.base),
    }
    body = encode_json(fields).ljust(HEADER_SIZE - FRAME_SIZE)
    if len(body) > HEADER_SIZE - FRAME_SIZE:
        raise UsageError("names of project, stage, user and machine too long for a journal header")
    origin = origin_of(header.session, header.run, segment)
    return encode_frame(origin, 0, HEADER, body, b"", 0, 0) + body


def decode_header(block: bytes) -> tuple[Header, int] | int | None:
    """(header, segment number) of the first 4,096 bytes of a segment.

    The schema alone, where that is one that this code does not know; None for bytes that are not a
    header as it was written.
    """
    match decode_json(block[FRAME_SIZE:HEADER_SIZE]):
        case {
            "schema": int(schema),
            "session": str(session),
            "run": str(run),
            "segment": int(segment),
            **fields,
        } if is_uuid(session) and is_uuid(run) and 0 < segment < 1 << 63:
            origin = origin_of(SessionId(session), RunId(run), segment)
            if not _is_header_of(block, origin):
                return None
        case _:
            return None
    if schema != SCHEMA:
        return schema
    match fields:
        case {
            "project": str(project),
            "stage": str(stage),
            "user": str(user),
            "machine": str(machine),
            "base": dict(base),
        }:
            return Header(
                session=SessionId(session),
                run=RunId(run),
                project=project,
                stage=stage,
                user=user,
                machine=machine,
                base=base,
            ), segment
        case _:
            return None


def _is_header_of(block: bytes, origin: Origin) -> bool:
    frame = decode_frame(block[:FRAME_SIZE], origin.session, origin.segment, 0)
    return (
        frame is not None
        and (frame.kind, frame.mark, frame.size) == (HEADER, origin.mark, HEADER_SIZE)
        and frame.payload_checksum == xxhash.xxh3_64_intdigest(block[FRAME_SIZE:])
    )


def encode_trailer(origin: Origin, offset: int, trailer: Trailer, last_sequence: int) -> bytes:
    """The trailer to write at `offset`, all records until `last_sequence` being synced."""
    totals = trailer.totals
    fields = {
        "records": totals.records,
        "body_bytes": totals.body_bytes,
        "data_bytes": totals.data_bytes,
    }
    if trailer.next_segment:
        fields["next"] = trailer.next_segment
    body = encode_json(fields)
    frame = encode_frame(origin, offset, TRAILER, body, b"", last_sequence, last_sequence)
    return frame + body


def decode_trailer(body: bytes) -> Trailer | None:
    """What the body of a trailer says; None where it says nothing."""
    fields = decode_json(body)
    match fields:
        case {"records": int(records), "body_bytes": int(bodies), "data_bytes": int(datas)}:
            following = fields.get("next", 0)
            totals = Totals(records, bodies, datas)
            return Trailer(totals, following) if isinstance(following, int) else None
        case _:
            return None


def encode_json(fields: Mapping[str, object]) -> bytes:
    """JSON in UTF-8, without white space; lone surrogates survive."""
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def decode_json(raw: bytes) -> dict[str, object]:
    """The object of these bytes; an empty one where they are none. No error for any bytes."""
    try:
        value = json.loads(raw.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
