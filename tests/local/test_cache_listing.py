"""A cache that other sessions change while it is opened."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pdfs.disk import OsDisk
from pdfs.local.cache import PartCache


def test_a_part_that_another_session_removes_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("aa", "ab"):
        (tmp_path / "cache" / "parts" / "aa").mkdir(parents=True, exist_ok=True)
        (tmp_path / "cache" / "parts" / "aa" / name).write_bytes(b"part")
    scandir = os.scandir

    @contextmanager
    def scan_and_lose(where: int) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(where) as entries:
            found = list(entries)
        gone = tmp_path / "cache" / "parts" / "aa" / "ab"
        if any(entry.name == "ab" for entry in found):
            gone.unlink()
        yield found

    monkeypatch.setattr("pdfs.local.cache.os.scandir", scan_and_lose)
    cache = PartCache(OsDisk(), tmp_path / "cache", quota=1 << 20)
    try:
        assert cache.has("aa")
        assert not cache.has("ab")
    finally:
        cache.close()
