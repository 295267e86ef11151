"""A process that takes a stage and gives it back, when it is told to: one line each way.

    take      → {"won": true, "fence": 3}, or {"won": false, "said": "locked by …"}
    release   → {}

It is the product's Start and release without a mount; the environment names bucket and owner. A
directory that plays the bucket is behind a link as slow as the relay before a server; what is said
of `take` then tells, too, when its first lock was `sent` and `answered`, by `time.monotonic`.
"""

import json
import os
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import NoReturn

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
from pdfs.store.faulty import Fate, FaultyStore, Network
from pdfs.store.objects import NO_METADATA, Condition, ObjectStore, Stored

LINK = 0.01
"""Seconds that each request to a directory is on its way, and each answer."""


class SlowLink(FaultyStore):
    """A directory at the end of a link, which notes when a lock went over it."""

    def __init__(self, store: ObjectStore, nursery: trio.Nursery) -> None:
        network = Network(
            fate_of=lambda request: Fate.FINE,
            latency=lambda: LINK * random.uniform(0.8, 1.2),
            lateness=lambda: 0.0,
            nursery=nursery,
            crash=_no_crash,
        )
        super().__init__(store, network)
        self.noted: dict[str, float] = {}

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        condition: Condition | None,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Stored:
        notes = self.noted if key.endswith(".lock.json") else {}
        notes.setdefault("sent", time.monotonic())
        try:
            return await super().put(
                key, body, condition=condition, content_type=content_type, metadata=metadata
            )
        finally:
            await trio.sleep(self._network.latency())
            notes.setdefault("answered", time.monotonic())


def _no_crash() -> NoReturn:
    raise AssertionError("nobody dies here")


async def contend(project: str, stage: str) -> None:
    configuration = configure(dict(os.environ), {}, read_path)
    async with (
        opened_stage(configuration, StageKeys(project, stage)) as ctx,
        trio.open_nursery() as nursery,
    ):
        if os.environ["PDFS_BUCKET"].startswith("file:"):
            ctx = replace(ctx, store=SlowLink(ctx.store, nursery))
        say()
        while await heard() == "take":
            await take(as_new_session(ctx))


async def take(mine: StageContext) -> None:
    owner = mine.owner
    claimant = Claimant(user=owner.user, session=owner.session, run=owner.run)
    noted = mine.store.noted if isinstance(mine.store, SlowLink) else {}
    noted.clear()
    try:
        started = await start(mine, claimant)
    except LockHeld as error:
        say(won=False, said=str(error), **noted)
        return
    say(won=True, fence=started.fence, **noted)
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
