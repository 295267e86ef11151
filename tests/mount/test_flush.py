"""The flush interval: what programs save without an fsync, and the power goes (invariant 3)."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from pdfs.mount.workspace import DiskWorkspace
from pdfs.store.faulty import Fate, Request
from tests.fs.process import Process
from tests.mount.carriers import Desk, stand_in_for_fuse
from tests.stage.contexts import Site


async def inline(workspace: DiskWorkspace, call: Callable[[], None]) -> None:
    """Threads would be overtaken by the clock, which jumps."""
    await trio.lowlevel.checkpoint()
    call()


async def test_what_no_program_ever_syncs_is_synced_each_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiskWorkspace, "_run_blocking", inline)
    site = Site()
    desk = Desk(tmp_path, site)
    assert site.timing.flush == 1
    unsynced: list[int] = []

    def count() -> None:
        assert desk.carrier is not None
        journal = desk.carrier._workspace._journal
        assert journal is not None
        unsynced.append(journal.last_sequence - journal.synced_sequence)

    async def save(process: Process) -> None:
        for number in range(3):
            process.write_file(f"f{number}", b"saved")
            count()
            await trio.sleep(1.1)
            count()

    stand_in_for_fuse(monkeypatch, save)
    assert await desk.carry() == 0
    assert unsynced == [2, 0, 2, 0, 2, 0]


async def test_what_was_saved_last_is_synced_when_it_is_unmounted_though_the_bucket_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publish is what syncs it next, and that may be hours away."""
    monkeypatch.setattr(DiskWorkspace, "_run_blocking", inline)
    site = Site()
    desk = Desk(tmp_path, site)
    is_away = False
    unsynced: list[int] = []

    def fate_of(_: Request) -> Fate:
        if not is_away or len(unsynced) == 3:
            return Fate.FINE
        assert desk.carrier is not None
        journal = desk.carrier._workspace._journal
        assert journal is not None
        unsynced.append(journal.last_sequence - journal.synced_sequence)
        return Fate.REFUSED

    async def save(process: Process) -> None:
        nonlocal is_away
        await trio.sleep(1.5)
        process.write_file("f", b"saved at the last moment")
        is_away = True

    stand_in_for_fuse(monkeypatch, save)
    async with trio.open_nursery() as late:
        assert await desk.carry(site.context(store=site.behind(late, fate_of))) == 0
    assert unsynced == [0, 0, 0]
