"""The daemon's main function: from a request to an exit code.

store, probe, state directory ─▶ `carrier.Carrier`, one for each session that is carried
store, state directory ────────▶ `reading.ReaderCarrier`, for a read-only mount
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import partial

import trio

from pdfs.core.ids import RunId, SessionId
from pdfs.core.keys import StageKeys
from pdfs.core.lease import Claimant, Lock
from pdfs.disk import OsDisk, make_path
from pdfs.errors import DiskError, LockHeld, PdfsError
from pdfs.local.cache import PartCache, default_quota
from pdfs.local.session_log import delete_old_logs
from pdfs.local.state import StateDirectory
from pdfs.mount.access import (
    check_exists,
    check_made,
    claimant_of,
    new_id,
    opened_store,
    prove,
    stage_context,
)
from pdfs.mount.carrier import Carrier
from pdfs.mount.control import described
from pdfs.mount.reading import ReaderCarrier, remove_ended_readers
from pdfs.mount.request import MountRequest
from pdfs.stage.context import StageContext
from pdfs.stage.draining import wait_while_draining
from pdfs.stage.together import background, cause_of
from pdfs.store.objects import ObjectStore
from pdfs.store.silence import Silence

logger = logging.getLogger(__name__)

_KEPT = 30
"""Days for which a discarded session can be brought back, at least."""
_LOGS_KEPT = 90 * 86400.0
"""Seconds for which the log of a session that has ended stays: a quarter of a year."""
_UNBEGUN_KEPT = 86400.0
"""Seconds for which a directory that never became a session stays: long enough to become one."""
_MOST = 10
"""Discarded sessions that one mount deletes: it should not be held up."""

Report = Callable[[Mapping[str, object]], None]


def run(request: MountRequest, report: Report) -> int:
    """Carry one session to its end; returns the exit code. `report` hears of every event."""
    try:
        return trio.run(_main, request, report)
    except PdfsError as error:
        report({"event": "failed", "refusal": _refusal(error), **described(error)})
        return error.exit_code
    except Exception as error:
        logger.exception("the daemon failed")
        failed = PdfsError(
            f"the daemon failed: {cause_of(error)!r}",
            remedy="report it; what was written is kept: pdfs recover list",
        )
        report({"event": "failed", "refusal": None, **described(failed)})
        return failed.exit_code


def _refusal(error: PdfsError) -> str | None:
    """Why a lock could not be taken, in the words that the command line asks by."""
    return getattr(error.refusal, "name", "").lower() if isinstance(error, LockHeld) else None


async def _main(request: MountRequest, report: Report) -> int:
    configuration = request.configuration
    disk = OsDisk()
    silence = Silence()
    if not request.create:
        check_made(configuration, request.project)
    async with (
        opened_store(configuration, makes=request.create) as store,
        background(partial(silence.tell, partial(_tell_silent, store, report))),
    ):
        if request.read_only:
            return await _read(request, report, store, silence)
        with silence.asking():
            await prove(configuration, store)
        with StateDirectory(disk, configuration.state) as state:
            await trio.to_thread.run_sync(_tidy, state)
            carry = partial(_carry, request, report, store, silence, state)
            carrier, code = await carry(request.crashed)
            if request.crashed and request.mountpoint and not carrier.was_served:
                # All of it was in the bucket already: what the user wants is a mount.
                carrier, code = await carry(None)
            report(carrier.closed())
            return code


async def _read(request: MountRequest, report: Report, store: ObjectStore, silence: Silence) -> int:
    """Carry a read-only mount to its end: whatever the store is, it has to do no more than read."""
    configuration = request.configuration
    keys = StageKeys(request.project, request.stage)
    session = SessionId(new_id())
    ctx = stage_context(configuration, store, keys, session, RunId(new_id()), silence)
    await check_exists(ctx)
    cache = _opened_cache(request)
    try:
        with StateDirectory(OsDisk(), configuration.state) as state:
            await trio.to_thread.run_sync(_tidy, state)
            carrier = ReaderCarrier(request, report, ctx, state, cache)
            await carrier.run()
    finally:
        cache.close()
    report({"event": "closed", "exit_code": 0})
    return 0


def _tell_silent(store: ObjectStore, report: Report, trouble: str) -> None:
    report({"event": "silent", "bucket": store.name, "trouble": trouble})


def _tidy(state: StateDirectory) -> None:
    """Delete what was discarded or ended long ago; nothing that goes wrong here matters."""
    now = time.time()
    try:
        for session in state.empty_trash(now, days=_KEPT, most=_MOST):
            logger.info("session %s, discarded 30 days of use ago, is deleted", session)
        delete_old_logs(OsDisk(), state.logs, now - _LOGS_KEPT)
        state.remove_unbegun(now - _UNBEGUN_KEPT)
        remove_ended_readers(state)
    except PdfsError as error:
        logger.warning("what is old could not be deleted: %s", error)


async def _carry(
    request: MountRequest,
    report: Report,
    store: ObjectStore,
    silence: Silence,
    state: StateDirectory,
    crashed: SessionId | None,
) -> tuple[Carrier, int]:
    """Carry one session: a new one, or `crashed`."""
    keys = StageKeys(request.project, request.stage)
    session = crashed or SessionId(new_id())
    ctx = stage_context(request.configuration, store, keys, session, RunId(new_id()), silence)
    if crashed is None and not request.create:
        await check_exists(ctx)
    await wait_while_draining(
        ctx, _claimant(request, ctx, state), request.wait_lock, partial(_tell_waiting, ctx, report)
    )
    cache = _opened_cache(request)
    try:
        carrier = Carrier(request, report, ctx, state, cache)
        code = await carrier.run(_claimant(request, ctx, state), resumes=crashed is not None)
        return carrier, code
    finally:
        cache.close()


def _tell_waiting(ctx: StageContext, report: Report, lock: Lock, age: float) -> None:
    report(
        {
            "event": "waiting",
            "project": ctx.keys.project,
            "stage": ctx.keys.stage,
            "user": lock.user,
            "machine": lock.machine,
            "age": age,
            "files": lock.pending.files,
            "bytes": lock.pending.bytes,
        }
    )


def _opened_cache(request: MountRequest) -> PartCache:
    path = request.configuration.cache
    try:
        disk = OsDisk()
        directory = make_path(disk, str(path))
        room = os.statvfs(directory)
        disk.close(directory)
        cache = PartCache(disk, path, quota=0)
        cache.quota = default_quota(room.f_bavail * room.f_frsize, cache.size)
        return cache
    except OSError as error:
        raise DiskError(
            f"the cache {path} can't be used: {error}", remedy="set XDG_CACHE_HOME"
        ) from error


def _claimant(request: MountRequest, ctx: StageContext, state: StateDirectory) -> Claimant:
    here = state.sessions()
    return claimant_of(ctx, here, agreed=request.agreed, take_over=request.take_over)
