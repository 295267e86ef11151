"""Power cuts under the directory bucket: what a put or delete answered is there afterwards."""

import os
from pathlib import Path

import pytest

from pdfs.store.directory import DirectoryStore
from pdfs.store.objects import IfAbsent
from tests.local.crashing_disk import CrashingDisk, PowerCuts

pytestmark = pytest.mark.real_clock


class RenamingDisk(CrashingDisk):
    """Writes down a rename without replacing as a rename, which it is once it succeeded."""

    def rename_noreplace(self, old_directory: int, old: str, new_directory: int, new: str) -> None:
        assert new not in names_in(new_directory), "the steps of this test replace by rename alone"
        self.rename(old_directory, old, new_directory, new)


def names_in(directory: int) -> list[str]:
    return os.listdir(directory)


async def test_what_was_answered_survives_a_power_cut_whole(tmp_path: Path, seed: int) -> None:
    disk = RenamingDisk(tmp_path)
    store = DirectoryStore(tmp_path, disk=disk)
    answered: list[tuple[int, str, bytes | None]] = []
    bodies: dict[str, set[bytes | None]] = {}

    async def put(key: str, body: bytes, *, new: bool = False) -> None:
        bodies.setdefault(key, {None}).add(body)
        await store.put(key, body, condition=IfAbsent() if new else None)
        answered.append((len(disk.log), key, body))

    await put("a/b/c", b"first" * 300, new=True)
    await put("a/b/d", b"second", new=True)
    await put("a/b/c", b"third" * 300)
    await store.delete("a/b/d", condition=None)
    answered.append((len(disk.log), "a/b/d", None))
    begun = await store.create_upload("e/f")
    parts = [await store.upload_part("e/f", begun, n, body) for n, body in ((1, b"x"), (2, b"y"))]
    bodies["e/f"] = {None, b"xy"}
    await store.complete_upload("e/f", begun, parts, condition=IfAbsent())
    answered.append((len(disk.log), "e/f", b"xy"))
    await store.aclose()

    states = 0
    for cut, state in PowerCuts(disk, seed).states():
        states += 1
        for key, versions in bodies.items():
            assert state.get(key) in versions, (cut, key)
        for key, body in {key: body for at, key, body in answered if at <= cut}.items():
            if not any(at > cut and key == later for at, later, _ in answered):
                assert state.get(key) == body, (cut, key)
    assert states > 200
