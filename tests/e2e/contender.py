"""A process that takes a stage and gives it back, when it is told to: one line each way.

    take      → {"won": true, "fence": 3}, or {"won": false, "said": "locked by …"}
    release   → {}

It is the product's Start and release without a mount; the environment names bucket and owner.
"""

import json
import os
import sys
from dataclasses import replace

import trio

from pdfs.cli.bucket import opened_stage
from pdfs.config import configure
from pdfs.core.ids import RunId, SessionId
from pdfs.core.keys import StageKeys
from pdfs.core.lease import Claimant, Unpublished
from pdfs.disk import read_path
from pdfs.errors import LockHeld
from pdfs.stage.context import StageContext
from pdfs.stage.end import end_session
from pdfs.stage.start import Started, start


async def contend(project: str, stage: str) -> None:
    configuration = configure(dict(os.environ), {}, read_path)
    async with opened_stage(configuration, StageKeys(project, stage)) as ctx:
        say()
        while await heard() == "take":
            mine = as_new_session(ctx)
            try:
                owner = mine.owner
                claimant = Claimant(user=owner.user, session=owner.session, run=owner.run)
                started = await start(mine, claimant)
            except LockHeld as error:
                say(won=False, said=str(error))
                continue
            say(won=True, fence=started.fence)
            await give_back(mine, started)


async def give_back(ctx: StageContext, started: Started) -> None:
    assert await heard() == "release"
    await end_session(ctx, started.root)
    await started.lock.release(Unpublished())
    say()


def as_new_session(ctx: StageContext) -> StageContext:
    session, run = SessionId(ctx.new_id()), RunId(ctx.new_id())
    return replace(ctx, owner=replace(ctx.owner, session=session, run=run))


async def heard() -> str:
    line: str = await trio.to_thread.run_sync(sys.stdin.readline)
    return line.strip()


def say(**told: object) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    trio.run(contend, sys.argv[1], sys.argv[2])
