"""A cache that other sessions change while it is opened."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pdfs.core.content import Digest
from pdfs.disk import OsDisk
from pdfs.local.cache import PartCache


def test_a_part_that_another_session_removes_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, lost = (Digest(b"\xaa" * 31 + last) for last in (b"\xaa", b"\xab"))
    folder = tmp_path / "cache" / "parts" / "aa"
    folder.mkdir(parents=True)
    for name in (kept, lost):
        (folder / name.hex()).write_bytes(b"part")
    scandir = os.scandir

    @contextmanager
    def scan_and_lose(where: int) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(where) as entries:
            found = list(entries)
        if any(entry.name == lost.hex() for entry in found):
            (folder / lost.hex()).unlink()
        yield found

    monkeypatch.setattr("pdfs.local.cache.os.scandir", scan_and_lose)
    cache = PartCache(OsDisk(), tmp_path / "cache", quota=1 << 20)
    try:
        assert cache.has(kept)
        assert not cache.has(lost)
    finally:
        cache.close()
