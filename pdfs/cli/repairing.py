"""Repairing a stage: a session like others that serves nobody, and publishes what mends it.

The plan that it finds is finished, what other tools did is taken in, what is damaged is told to the
tree, that is published, and leftovers are collected. Killed amid that, it is a crashed session.
"""

import uuid
from functools import partial

import trio

from pdfs.cli.bucket import opened_stage
from pdfs.cli.sessions import sessions_of, state_of
from pdfs.cli.unmounted import UnmountedSession
from pdfs.config import Configuration
from pdfs.core.ids import Path, SessionId
from pdfs.core.keys import StageKeys
from pdfs.errors import UnpublishedWork
from pdfs.stage.repair import Mending


def repair(configuration: Configuration, keys: StageKeys, *, reads: bool) -> list[Path]:
    """Take the stage, put it right, and give it back; the conflict copies that were made.

    Raises LockHeld where somebody has it, UnpublishedWork where a session of it crashed here.
    """
    left = [each for each in sessions_of(configuration, keys) if not each.is_held]
    if left:
        raise UnpublishedWork(
            f"a session of {left[0].name} crashed here, and what it did is not published wholly",
            remedy=f"first pdfs recover resume {left[0].short}, or discard; then repair",
        )
    return trio.run(partial(_repair, configuration, keys, reads=reads))


async def _repair(configuration: Configuration, keys: StageKeys, *, reads: bool) -> list[Path]:
    session = SessionId(uuid.uuid4().hex)
    async with opened_stage(configuration, keys, session=session, changes=True) as ctx:
        with state_of(configuration) as state:
            unmounted = UnmountedSession(configuration, ctx, state)
            unmounted.session.collects_all = True
            mending = Mending(ctx, reads=reads)
            unmounted.session.on_note = mending.hear
            await unmounted.run(lambda work: unmounted.kept(partial(mending.mend, work)))
            return unmounted.session.conflicts
