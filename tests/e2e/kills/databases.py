"""A project database: SQLite transactions, acknowledged by COMMIT, checked by SQLite itself too."""

import contextlib
import hashlib
import random
import sqlite3
from pathlib import Path
from typing import Any

from tests.e2e.kills.diary import Bytes, Diary, Operation, Told, names

FILE = "plant.dcf"
KEYS = 300
Rows = dict[int, str]
"""Key → digest of the blob."""


class Database:
    """One table in one file; each process uses another journal of SQLite's."""

    def __init__(self, outside: Path) -> None:
        self._rows: Rows = {}

    def prepare(self, top: Path) -> None:
        with contextlib.closing(sqlite3.connect(top / FILE)) as database, database:
            database.execute("create table parts (key integer primary key, drawing blob)")

    @staticmethod
    def work(top: Path, outside: Path, diary: Diary, name: str) -> None:
        """Commit transactions for ever."""
        choice, count = random.Random(name), 0
        database = sqlite3.connect(top / FILE, isolation_level=None)
        mode = choice.choice(["delete", "truncate", "persist", "wal"])
        assert database.execute(f"pragma journal_mode={mode}").fetchone() == (mode,)
        database.execute(f"pragma synchronous={choice.choice(['off', 'normal', 'full'])}")
        while True:
            changes: list[list[Any]] = []
            for _ in range(choice.randrange(1, 12)):
                count += 1
                size = choice.choice([-1, 40, 3000, choice.randrange(30_000)])
                changes.append([choice.randrange(KEYS), f"{name} {count}", size])
            with diary.noted("commit", changes):
                commit(database, changes)

    def check(self, top: Path, told: Told) -> None:
        """Integrity, and the rows of every transaction, of which one may be either way."""
        for operation in told.acknowledged:
            self._rows = after(self._rows, operation)
        assert len(told.in_flight) <= 1, names(told.in_flight)
        possible = [self._rows, *(after(self._rows, each) for each in told.in_flight)]
        with contextlib.closing(sqlite3.connect(top / FILE)) as database:
            assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
            table = database.execute("select key, drawing from parts").fetchall()
        found = {key: hashlib.sha256(drawing).hexdigest() for key, drawing in table}
        assert found in possible, [
            {key for key in {*found, *rows} if found.get(key) != rows.get(key)} for rows in possible
        ]
        self._rows = found


def commit(database: sqlite3.Connection, changes: list[list[Any]]) -> None:
    """One transaction."""
    database.execute("begin immediate")
    for key, name, size in changes:
        if size < 0:
            database.execute("delete from parts where key = ?", (key,))
        else:
            row = (key, bytes(Bytes(name, size)))
            database.execute("insert or replace into parts values (?, ?)", row)
    database.execute("commit")


def after(rows: Rows, operation: Operation) -> Rows:
    """What a transaction makes of the table."""
    rows = dict(rows)
    (changes,) = operation.arguments
    for key, name, size in changes:
        if size < 0:
            rows.pop(key, None)
        else:
            rows[key] = hashlib.sha256(bytes(Bytes(name, size))).hexdigest()
    return rows
