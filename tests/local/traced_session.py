"""A session on this machine as a process under strace: `python -m tests.local.traced_session`.

Journal, ledger, upkeep, checkpoints and recovery as the daemon has them, all on one thread, so that
a run is repeated call by call; no kernel between (that is `tests/e2e/test_syscalls.py`).
"""

import argparse
import random
import sys
from collections.abc import Callable
from pathlib import Path

import trio

from pdfs.disk import OsDisk
from pdfs.local.sizes import JournalSizes
from pdfs.local.state import StateDirectory
from pdfs.local.upkeep import Upkeep
from tests.local.desk import Desk, Memory, Opened, opened_session
from tests.local.ledgers import inline, made_here
from tests.local.strace import follow_this_process

SIZES = JournalSizes(segment=8 << 10, growth=1 << 10, reserve=512, garbage=1 << 40, often=3)


Tell = Callable[[str], None]


async def work(opened: Opened, memory: Memory, seed: int, count: int, tell: Tell) -> None:
    """Random operations, among them syncs, rolls and two checkpoints.

    Tells the number of each record that was acknowledged.
    """
    desk = Desk(opened.ledger, random.Random(seed), memory)
    upkeep = Upkeep(
        opened.ledger,
        opened.journal,
        make=made_here(opened.journal.disk, opened.directory.descriptor),
        run_blocking=inline,
        tell=lambda error: tell(f"trouble: {error}"),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upkeep.run)
        for number in range(1, count + 1):
            desk.step()
            tell(str(opened.ledger.last))
            if number % 8 == 0:
                await opened.ledger.sync()
            if number % (count // 2) == count // 4:
                await upkeep.checkpoint()
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def live(root: Path, memory: Memory, seed: int, count: int, tell: Tell) -> None:
    """One session from its begin until nothing of it is left; tells `ending` before that."""
    disk = OsDisk()
    with opened_session(root, disk, sizes=SIZES) as opened:
        opened.directory.describe({"project": "Kraftwerk_1234567"})
        await work(opened, memory, seed, count, tell)
        opened.journal.close()
        tell("ending")
        with StateDirectory(disk, root) as state:
            state.remove(opened.directory)


async def recover(root: Path, tell: Tell) -> None:
    """Recover the session that is there, up to where its journal takes records."""
    with opened_session(root, sizes=SIZES, fence=2) as opened:
        tell(str(opened.ledger.last))


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["live", "recover"])
    parser.add_argument("root", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--tamper", action="append", default=[])
    given = parser.parse_args()
    trio._core._run._r.seed(given.seed)
    follow_this_process(given.log, *given.tamper)
    if given.what == "live":
        trio.run(live, given.root, Memory(), given.seed, given.count, say)
    else:
        trio.run(recover, given.root, say)


if __name__ == "__main__":
    main()
