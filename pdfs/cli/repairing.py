"""Repairing a stage: a session like others that serves nobody, and publishes what mends it.

The plan that it finds is finished, what other tools did is taken in, what is damaged is told to the
tree, that is published, and leftovers are collected. Killed amid that, it is a crashed session.

A stage without a root, or without its tree, gets one before that; no session is needed for it.
"""

import uuid
from collections.abc import Sequence
from functools import partial

import trio

from pdfs.cli.bucket import opened_stage
from pdfs.cli.sessions import LocalSession, local_sessions, sessions_of, state_of
from pdfs.cli.unmounted import UnmountedSession
from pdfs.config import Configuration
from pdfs.core.ids import Path, SessionId
from pdfs.core.keys import StageKeys
from pdfs.core.restore import Past
from pdfs.errors import UnpublishedWork
from pdfs.mount.access import claimant_of
from pdfs.stage.repair import Mending
from pdfs.stage.restore import restore


def bring_back(configuration: Configuration, keys: StageKeys, *, take_over: bool) -> Past | None:
    """Give the stage the newest root that it can have; None where it needs none.

    Raises LockHeld where somebody has it, and as `stage.restore` does. Sessions that crashed here
    do not stand in the way: until there is a root they can't be resumed.
    """
    sessions = local_sessions(configuration)
    return trio.run(partial(_bring_back, configuration, keys, sessions, take_over=take_over))


async def _bring_back(
    configuration: Configuration,
    keys: StageKeys,
    sessions: Sequence[LocalSession],
    *,
    take_over: bool,
) -> Past | None:
    async with opened_stage(configuration, keys, changes=True) as ctx:
        return await restore(ctx, claimant_of(ctx, sessions, take_over=take_over))


def repair(
    configuration: Configuration, keys: StageKeys, *, reads: bool, take_over: bool
) -> list[Path]:
    """Take the stage, put it right, and give it back; the conflict copies that were made.

    Raises LockHeld where somebody has it, UnpublishedWork where a session of it crashed here.
    """
    left = [each for each in sessions_of(configuration, keys) if not each.is_held]
    if left:
        raise UnpublishedWork(
            f"a session of {left[0].name} crashed here, and what it did is not published wholly",
            remedy=f"first pdfs recover resume {left[0].short}, or discard; then repair",
        )
    return trio.run(partial(_repair, configuration, keys, reads=reads, take_over=take_over))


async def _repair(
    configuration: Configuration, keys: StageKeys, *, reads: bool, take_over: bool
) -> list[Path]:
    session = SessionId(uuid.uuid4().hex)
    async with opened_stage(configuration, keys, session=session, changes=True) as ctx:
        with state_of(configuration) as state:
            unmounted = UnmountedSession(configuration, ctx, state, take_over=take_over)
            unmounted.session.collects_all = True
            mending = Mending(ctx, reads=reads)
            unmounted.session.on_note = mending.hear
            await unmounted.run(lambda work: unmounted.kept(partial(mending.mend, work)))
            return unmounted.session.conflicts
