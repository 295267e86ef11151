"""How fast the journal takes records, with and without rolls and checkpoints, and is recovered."""

import contextlib
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import trio

from pdfs.core.content import Content
from pdfs.core.ids import TOP, Fence, Inode, RunId, SessionId
from pdfs.core.record import Create, Kind, Write
from pdfs.core.tree import new_tree
from pdfs.disk import OsDisk
from pdfs.errors import ContentLost, PdfsError
from pdfs.local.checkpoint import Checkpoint, Order
from pdfs.local.checkpoint_process import run_checkpoint_process
from pdfs.local.journal import Journal
from pdfs.local.journal_format import Header
from pdfs.local.ledger import Ledger
from pdfs.local.recovery import begin, recover, reopen
from pdfs.local.sizes import ALONE, JournalSizes
from pdfs.local.state import StateDirectory
from pdfs.local.upkeep import Upkeep

SESSION = SessionId("5e55105e55105e55105e55105e551000")
MIB = 1 << 20


def _header() -> Header:
    return Header(
        session=SESSION,
        run=RunId(uuid.uuid4().hex),
        project="bench",
        stage="journal",
        user="bench",
        machine="bench",
        base={},
    )


async def _fetch_nothing(content: Content, start: int, stop: int) -> bytes:
    raise ContentLost("there is no bucket here")


@contextlib.asynccontextmanager
async def _begun(root: Path, sizes: JournalSizes) -> AsyncIterator[tuple[Ledger, Journal]]:
    disk = OsDisk()
    with StateDirectory(disk, root) as state, state.create_session(SESSION) as directory:
        ledger, journal = begin(
            disk,
            directory,
            _header(),
            new_tree(uid=0, gid=0),
            fetch=_fetch_nothing,
            run_blocking=trio.to_thread.run_sync,
            sizes=sizes,
        )
        ledger.adopt(Fence(1))
        try:
            yield ledger, journal
        finally:
            journal.abandon()


def _create(ledger: Ledger) -> Inode:
    ino = ledger.new_inode()
    ledger.commit(
        Create(parent=TOP, name="f", ino=ino, kind=Kind.FILE, mode=0o644, uid=0, gid=0, time=0)
    )
    return ino


class _Appends:
    """Writes of one size over one file, and what became of them."""

    def __init__(self, piece: int, total: int, over: int) -> None:
        self.piece, self.total, self.over = piece, total, over
        self.seconds = self.longest = 0.0
        self.checkpoints = self.peak = 0
        self.beside: list[float] = []
        """How long each request took that came while a checkpoint was made."""
        self._is_making = False

    async def run(self, root: Path, sizes: JournalSizes, *, is_kept: bool) -> None:
        async with _begun(root, sizes) as (ledger, journal), trio.open_nursery() as nursery:
            nursery.start_soon(self._flush, ledger)
            nursery.start_soon(self._watch, root)
            if is_kept:
                upkeep = Upkeep(
                    ledger,
                    journal,
                    make=partial(self._make, journal.directory),
                    run_blocking=trio.to_thread.run_sync,
                    tell=_say,
                )
                nursery.start_soon(upkeep.run)
            await trio.sleep(0.3)
            await self._write(ledger)
            nursery.cancel_scope.cancel()

    async def _write(self, ledger: Ledger) -> None:
        choice, ino = random.Random(1), _create(ledger)
        data, places = bytes(self.piece), self.over // self.piece
        began = last = time.perf_counter()
        for _ in range(self.total // self.piece):
            ledger.commit(
                Write(ino=ino, offset=choice.randrange(places) * self.piece, time=0), data
            )
            await trio.lowlevel.checkpoint()
            now = time.perf_counter()
            if self._is_making:
                self.beside.append(now - last)
            self.longest, last = max(self.longest, now - last), now
        self.seconds = last - began

    async def _make(self, directory: int, order: Order) -> Checkpoint:
        self._is_making = True
        try:
            made = await run_checkpoint_process(directory, order)
        finally:
            self._is_making = False
        self.checkpoints += 1
        return made

    async def _flush(self, ledger: Ledger) -> None:
        while True:
            await trio.sleep(1)
            await ledger.sync()

    async def _watch(self, root: Path) -> None:
        while True:
            await trio.sleep(0.1)
            self.peak = max(self.peak, _used(root))


def _used(root: Path) -> int:
    total = 0
    for path in root.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total


def _say(error: PdfsError) -> None:
    click.echo(f"  {error}", err=True)


def _recover(root: Path) -> dict[str, float]:
    """Recover the session there, in this process."""
    began = time.perf_counter()
    disk = OsDisk()
    with StateDirectory(disk, root) as state, state.open_session(SESSION) as directory:
        recovered = recover(disk, directory)
        assert recovered is not None
        assert not recovered.damage
        replayed = time.perf_counter()
        _, journal = reopen(
            disk,
            directory,
            _header(),
            recovered,
            fetch=_fetch_nothing,
            run_blocking=trio.to_thread.run_sync,
        )
        journal.abandon()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "replay": replayed - began,
        "all": time.perf_counter() - began,
        "mib": peak / 1024,
    }


@click.command("journal")
@click.option("--gib", default=1.0, show_default=True, help="How much is written each time.")
@click.option("--dir", "parent", type=Path, help="Where; by default, where temporary files are.")
@click.option("--only", help="One of: one segment, rolls, as served.")
def journal_command(gib: float, parent: Path | None, only: str | None) -> None:
    """The journal alone: appends with and without checkpoints, and the recovery of what they left.

    Writes go to random places of one file of 100 MB, synced once a second; `longest` is the longest
    time that a request waited for its turn; beside checkpoints, the median is told, too. Wanted:
    10 s and 500 MiB for the recovery of 1 GiB.
    """
    kept = JournalSizes()
    shapes: dict[str, tuple[JournalSizes, bool]] = {
        "one segment": (ALONE, False),
        "rolls": (replace(kept, garbage=1 << 50, records=1 << 50), True),
        "as served": (kept, True),
    }
    for piece, words in ((4 << 10, "4 KiB"), (MIB, "1 MiB")):
        for name, (sizes, is_kept) in shapes.items():
            if only not in (None, name):
                continue
            with tempfile.TemporaryDirectory(prefix="pdfs-bench.", dir=parent) as directory:
                appends = _Appends(piece, int(gib * (1 << 30)), 100 * MIB)
                trio.run(partial(appends.run, Path(directory), sizes, is_kept=is_kept))
                click.echo(
                    f"{words} {name:12} {appends.total / piece / appends.seconds:9.0f} writes/s"
                    f" {appends.total / 1e6 / appends.seconds:6.0f} MB/s,"
                    f" longest {appends.longest * 1e3:5.0f} ms,"
                    f" {appends.checkpoints} checkpoints{_beside(appends.beside)},"
                    f" peak {appends.peak / MIB:5.0f} MiB"
                )
                _report_recovery(Path(directory))


def _beside(times: list[float]) -> str:
    if not times:
        return ""
    return f" (beside them {statistics.median(times) * 1e3:.2f}, {max(times) * 1e3:.0f} ms at most)"


def _report_recovery(root: Path) -> None:
    size = _used(root) / MIB
    command = [sys.executable, __file__, str(root)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    click.echo(
        f"      recovered from {size:5.0f} MiB in {found['all']:.1f} s"
        f" (replay {found['replay']:.1f} s), {found['mib']:.0f} MiB of memory"
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_recover(Path(sys.argv[1]))))
