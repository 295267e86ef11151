"""Programs that append records to files, several of them to the same one, and sync now and then."""

import os
import random
import threading
from collections import defaultdict
from pathlib import Path

from tests.e2e.kills.diary import Bytes, Diary, Told
from tests.e2e.kills.expected import request_ends
from tests.e2e.kills.hand import wrote

SHARED, OWN = "shared.log", "alone.log"
WRITERS = ((SHARED, "first"), (SHARED, "second"), (OWN, "third"))
LONGEST = 12 << 20
"""Bytes of a file, from which it begins anew."""


def size_of_record(choice: random.Random) -> int:
    """Mostly lines, some blocks, and a few that are several requests."""
    kind = choice.random()
    if kind < 0.85:
        return choice.randrange(16, 8_000)
    return choice.randrange(60_000, 200_000) if kind < 0.98 else choice.randrange(1 << 20, 3 << 20)


class Appends:
    """Files to which records are appended with O_APPEND."""

    def __init__(self, outside: Path) -> None:
        self._contents = {name: b"" for name, _ in WRITERS}

    def prepare(self, top: Path) -> None:
        """The files are made by who appends first."""

    @staticmethod
    def work(top: Path, outside: Path, diary: Diary, name: str) -> None:
        """Append for ever, or until one of the writers can't."""
        ended = threading.Event()
        failures: list[OSError] = []

        def run(file: str, writer: str) -> None:
            try:
                append_records(top / file, diary, file, f"{name} {writer}", ended)
            except OSError as error:
                failures.append(error)
                ended.set()

        threads = [threading.Thread(target=run, args=each) for each in WRITERS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        raise failures[0]

    def check(self, top: Path, told: Told) -> None:
        """Each file is what it was, and then whole records, those of a writer in their order."""
        for file in self._contents:
            path = top / file
            found = path.read_bytes() if path.exists() else b""
            self._contents[file] = self._checked(file, found, told)
            if len(found) > LONGEST:
                path.unlink()
                self._contents[file] = b""

    def _checked(self, file: str, found: bytes, told: Told) -> bytes:
        before = self._contents[file]
        assert found.startswith(before), f"{file} has lost what was there before"
        queues: defaultdict[str, list[Bytes]] = defaultdict(list)
        for operation in told.acknowledged:
            if operation.name == "append" and operation.arguments[0] == file:
                queues[operation.arguments[1]].append(operation.arguments[2])
        begun = {
            operation.arguments[1]: operation.arguments[2]
            for operation in told.in_flight
            if operation.name == "append" and operation.arguments[0] == file
        }
        rest = take_records(found[len(before) :], queues, begun)
        lost = {writer: len(records) for writer, records in queues.items() if records}
        assert not lost, f"{file} has lost acknowledged records: {lost}"
        at = len(found) - len(rest)
        cut_short = (
            bytes(data)[:size] for data in begun.values() for size in request_ends(at, data.size)
        )
        assert not rest or rest in cut_short, (
            f"{file}: {len(rest)} bytes from {at} on are of nobody; in flight: {begun}"
        )
        return found


def append_records(
    path: Path, diary: Diary, file: str, writer: str, ended: threading.Event
) -> None:
    """What each writer does."""
    choice, count = random.Random(writer), 0
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    while not ended.is_set():
        count += 1
        data = Bytes(f"{writer} {count}", size_of_record(choice))
        raw = bytes(data)
        with diary.noted("append", file, writer, data):
            wrote(os.write(descriptor, raw), raw)
        if choice.random() < 0.2:
            with diary.noted("fsync", file):
                os.fsync(descriptor)


def take_records(found: bytes, queues: dict[str, list[Bytes]], begun: dict[str, Bytes]) -> bytes:
    """What is left of `found` when every whole record is taken off, in the writers' orders."""
    at = 0
    while (writer := _whose(found, at, queues, begun)) is not None:
        data = queues[writer].pop(0) if queues[writer] else begun.pop(writer)
        at += data.size
    return found[at:]


def _whose(
    found: bytes, at: int, queues: dict[str, list[Bytes]], begun: dict[str, Bytes]
) -> str | None:
    for writer in {*queues, *begun}:
        waiting = queues[writer][:1] or [begun[writer] for _ in range(writer in begun)]
        if waiting and found.startswith(bytes(waiting[0]), at):
            return writer
    return None
