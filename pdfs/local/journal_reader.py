"""Reading one segment and trusting nothing in it: what is valid, where that ends, what lies behind.

Memory is bounded by `_WINDOW` and the body of one valid record, whatever lengths a file states, and
time by a few passes over the file. Read errors of the disk are OSError.
"""

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

import xxhash

from pdfs.core.ids import SessionId
from pdfs.disk import read_fully
from pdfs.local.journal_format import (
    FRAME_SIZE,
    HEADER,
    HEADER_SIZE,
    MAGIC,
    TRAILER,
    Frame,
    Totals,
    decode_frame,
    decode_trailer,
)

_WINDOW: Final = 4 << 20


class Found(NamedTuple):
    """A frame with a valid checksum; `body` where that of its payload is valid as well."""

    offset: int
    frame: Frame
    body: bytes | None

    @property
    def end(self) -> int:
        """Where the next frame begins."""
        return self.offset + self.frame.size


class SegmentReader:
    """One open segment."""

    def __init__(
        self, descriptor: int, *, session: SessionId, number: int, mark: int | None
    ) -> None:
        """`mark` is that of the segment's header, None where it has no valid header."""
        self._file = _WindowedFile(descriptor)
        self._session = bytes.fromhex(session)
        self._number = number
        self._mark = mark
        self.end = 0 if mark is None else HEADER_SIZE
        """First byte behind the valid header, and the records and trailer that were passed."""
        self.trailer: Frame | None = None
        """Of the trailer, if that is the last thing that was passed and it is right."""

    def records(self) -> Iterator[Found]:
        """The valid records from the beginning on; call once."""
        passed, last_sequence = Totals(), 0
        while self._mark is not None and (found := self._found_at(self.end)) is not None:
            frame, body = found.frame, found.body
            if body is None or frame.kind == HEADER or frame.mark != self._mark:
                return
            if frame.kind == TRAILER:
                if decode_trailer(body) == passed and last_sequence in (0, frame.sequence):
                    self.trailer, self.end = frame, found.end
                return
            passed, last_sequence = passed.plus(frame.body_size, frame.data_size), frame.sequence
            self.end = found.end
            yield found

    def frames_from(self, offset: int) -> Iterator[Found]:
        """Every valid frame at or behind `offset`, found by its magic, whatever lies between.

        Also those of another run than the header's: then one of the two is not what was written.
        """
        offset = max(offset, HEADER_SIZE)
        while (offset := self._file.find(MAGIC, offset)) >= 0:
            found = self._found_at(offset)
            if found is not None:
                yield found
            offset = offset + 1 if found is None or found.body is None else found.end

    def used_from(self, offset: int) -> int:
        """How many bytes from `offset` to the last one that is not zero."""
        return self._file.used_end(offset) - offset

    def _found_at(self, offset: int) -> Found | None:
        raw = bytes(self._file.view(offset, FRAME_SIZE))
        frame = decode_frame(raw, self._session, self._number, offset)
        if frame is None:
            return None
        return Found(offset, frame, self._body_of(frame, offset + FRAME_SIZE))

    def _body_of(self, frame: Frame, offset: int) -> bytes | None:
        size = frame.body_size + frame.data_size
        if offset + size > self._file.size:
            return None
        if size > _WINDOW:
            is_intact = self._file.checksum(offset, size) == frame.payload_checksum
            return bytes(self._file.view(offset, frame.body_size)) if is_intact else None
        payload = self._file.view(offset, size)
        if xxhash.xxh3_64_intdigest(payload) != frame.payload_checksum:
            return None
        return bytes(payload[: frame.body_size])


class _WindowedFile:
    """A file read through one buffer."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._window = b""
        self._start = 0
        self.size = os.fstat(descriptor).st_size

    def view(self, offset: int, length: int) -> memoryview:
        """These bytes; fewer only where the file ends."""
        length = min(length, self.size - offset)
        if length <= 0:
            return memoryview(b"")
        if not self._start <= offset <= offset + length <= self._start + len(self._window):
            ahead = min(max(length, _WINDOW), self.size - offset)
            self._window = read_fully(self._descriptor, ahead, offset)
            self._start = offset
        position = offset - self._start
        return memoryview(self._window)[position : position + length]

    def checksum(self, offset: int, length: int) -> int:
        """xxh3-64 of these bytes."""
        hasher = xxhash.xxh3_64()
        for start in range(offset, offset + length, _WINDOW):
            hasher.update(self.view(start, min(_WINDOW, offset + length - start)))
        return hasher.intdigest()

    def find(self, needle: bytes, offset: int) -> int:
        """Offset of the first `needle` at or behind `offset`, or -1."""
        while len(self.view(offset, len(needle))) == len(needle):
            if (position := self._window.find(needle, offset - self._start)) >= 0:
                return self._start + position
            offset = self._start + len(self._window) - len(needle) + 1
        return -1

    def used_end(self, offset: int) -> int:
        """Where the last byte that is not zero ends, or `offset` where none follows."""
        used = offset
        for start in range(offset, self.size, _WINDOW):
            if kept := bytes(self.view(start, _WINDOW)).rstrip(b"\0"):
                used = start + len(kept)
        return used
