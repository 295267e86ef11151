"""Carries one session: joins it with the file system, the control socket and the signals.

    StageSession.run ──serve──▶ Serving
          ▲
    control socket, signals: umount, abort, status

A signal is an unmount: what programs have mapped is written, the mount goes, everything is
published. Where that takes too long (`mount.stopping`), or something fails that never should, the
session is broken off: the journal is sealed and kept for recovery, and the stage is given back.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import trio

from pdfs.core.lease import Claimant, LockState
from pdfs.core.notes import Mounted, Unmounted
from pdfs.core.states import State
from pdfs.disk import OsDisk
from pdfs.errors import (
    DiskError,
    LockHeld,
    LockLost,
    LockUnreadable,
    ObjectDamaged,
    PdfsError,
    Stopped,
    UnpublishedWork,
)
from pdfs.local.cache import PartCache
from pdfs.local.state import StateDirectory
from pdfs.mount.commands import Commands
from pdfs.mount.control import ControlServer
from pdfs.mount.description import description_of, header_of
from pdfs.mount.logbook import Logbook
from pdfs.mount.outcome import Outcome
from pdfs.mount.progress import ProgressTeller
from pdfs.mount.request import MountRequest
from pdfs.mount.serving import Served, Serving
from pdfs.mount.status import unended_fields
from pdfs.mount.stopping import Stopping
from pdfs.mount.workspace import DiskWorkspace, ServedWork
from pdfs.session import StageSession
from pdfs.stage.contents import Contents
from pdfs.stage.context import StageContext
from pdfs.stage.together import background, cause_of
from pdfs.stage.work import Work

logger = logging.getLogger(__name__)

_KEPT = "nothing is lost: mount the stage again, or pdfs recover resume"
_LOCK_STAYS = "the bucket did not answer, so the lock stays until then"


class Carrier:
    """One session in this process."""

    def __init__(
        self,
        request: MountRequest,
        report: Callable[[Mapping[str, object]], None],
        ctx: StageContext,
        state: StateDirectory,
        cache: PartCache,
    ) -> None:
        self._request = request
        self._report = report
        self._ctx = ctx = replace(ctx, keep=cache.put)
        self._cache = cache
        self._contents = Contents(ctx, cache)
        self._workspace = DiskWorkspace(
            OsDisk(),
            state,
            header_of(request.configuration, ctx),
            description_of(request.configuration, ctx, request.mountpoint or "", run=ctx.owner.run),
            self._contents.read,
            self._contents.read_patiently,
        )
        self._state_path = state.path
        self._log = Logbook(state.path / "logs", request, ctx, self._contents.received)
        self._progress = ProgressTeller(lambda: self._contents.prefetched, ctx.uploads, self._tell)
        self._session: StageSession
        self._outcome: Outcome
        self.commands: Commands
        """What can be asked of it, once it runs."""
        self._control: ControlServer
        self._serving: Serving | None = None
        self._stopping = Stopping(
            request.configuration.stop_timeout,
            state=lambda: self._session.state,
            is_mounted=lambda: self._session.is_serving,
            cut_off=lambda: self.commands.cut_off(),
            note=self._log.note,
        )
        self._error: PdfsError | None = None

    async def run(self, claimant: Claimant, *, resumes: bool) -> int:
        """Carry the session to its end; returns 0, or the exit code of what it left behind.

        Raises PdfsError where it could not be ended in order: its journal is then sealed.
        """
        resumed = self._workspace.resume(self._ctx.owner.session) if resumes else None
        if resumed is None:
            self._workspace.prepare()
        self._log.open()
        self._put_together(resumed)
        if self._workspace.torn:
            logger.error("the journal is damaged: %s", self._workspace.torn)
            self._tell({"event": "damage", "what": self._workspace.torn})
        try:
            async with (
                self._control.served(),
                self._stopping.heard(),
                background(self._progress.run),
            ):
                await self._run_to_its_end(claimant)
        except BaseException as error:
            self._log.note_failure(error)
            if self._session.state is State.IDLE:
                self._forget()
            raise
        finally:
            self._finish()
        if self._error is not None:
            raise self._error
        return self._outcome.exit_code

    def _put_together(self, resumed: ServedWork | None) -> None:
        self._session = session = StageSession(self._ctx, self._workspace, resumed=resumed)
        session.on_state, session.on_note = self._note_state, self._log.note
        self._outcome = Outcome(self._ctx, session, self._workspace)
        self._serving = self._new_serving()
        self.commands = Commands(
            self._request,
            self._ctx,
            session,
            self._workspace,
            self._contents,
            self._serving,
            self._outcome,
            self._log,
        )
        self._control = ControlServer(
            self._request.configuration.runtime, self._ctx.owner.session, self.commands.calls
        )

    def closed(self) -> dict[str, object]:
        """The last event of the session."""
        return {"event": "closed", **self._outcome.at_the_end()}

    async def _run_to_its_end(self, claimant: Claimant) -> None:
        """Who waits for the end is told when nothing of it is left to be done here."""
        try:
            await self._run_session(claimant)
        except BaseException as error:
            cause = cause_of(error)
            await self._break_off(f"the daemon failed: {cause!r}")
            self._error = UnpublishedWork(
                f"the daemon failed before everything was published: {cause!r}",
                remedy=f"report it; {_KEPT}",
            )
            await self._answer()
            raise
        self._progress.tell()
        if self._error is not None:
            self._log.note_failure(self._error)
        else:
            self._log.note(self._outcome.note)
        self._finish()
        await self._answer()

    async def _answer(self) -> None:
        self.commands.end(self._error)
        with trio.CancelScope(shield=True):
            await self._control.finish()

    async def _run_session(self, claimant: Claimant) -> None:
        serve = None if self._serving is None else partial(self._serve, self._serving)
        try:
            with self._stopping.scope:
                await self._session.run(claimant, serve)
        except (LockHeld, LockUnreadable) as error:
            self._error = error
            self._forget()
        except (LockLost, ObjectDamaged) as error:
            self._error = self._outcome.kept(error)
            if self._session.lock is None:  # the root is gone, or can't be read
                self._forget()
            else:
                self._note_end(error.what)
        except PdfsError as error:
            self._error = error
        if self._stopping.scope.cancelled_caught:
            self._error = await self._stopped()

    def _forget(self) -> None:
        """The stage can't be had: that is the answer, whatever the disk says now."""
        try:
            self._workspace.forget()
        except DiskError as error:
            logger.error("what was begun for the session could not be removed: %s", error)

    async def _stopped(self) -> PdfsError:
        """Break off; what to tell who waits."""
        why = self._stopping.why
        await self._break_off(f"it was stopped {why}")
        lock = self._session.lock
        stays = "" if lock is None or lock.state is LockState.RELEASED else f"{_LOCK_STAYS}; "
        if self._workspace.work is None:
            return Stopped(
                f"the mount was stopped {why}", remedy=f"{stays}nothing was changed: mount it again"
            )
        return UnpublishedWork(
            f"the session was stopped before everything was published, {why}",
            remedy=f"{stays}{_KEPT}",
        )

    async def _break_off(self, why: str) -> None:
        """The hooks of a session that is cut short; what they can't do, kill -9 didn't either."""
        self._note_end(why)
        try:
            await self._session.break_off(self._workspace.seal)
        except DiskError as error:
            logger.error("the journal could not be sealed, so the lock is kept: %s", error)

    def _note_end(self, why: str) -> None:
        """For who finds what the session leaves here."""
        try:
            self._workspace.note_end(why)
        except DiskError as error:
            logger.error("why it was cut short could not be written down: %s", error)

    def _finish(self) -> None:
        """Whatever happened: the journal is whole, and the session free for whoever resumes it.

        Idempotent.
        """
        try:
            self._workspace.seal()
        except DiskError as error:
            logger.error("the journal could not be sealed: %s", error)
        self._workspace.close()
        self._log.finish(is_over=self._workspace.is_over)

    # --- serving ----------------------------------------------------------------------------------

    @property
    def was_served(self) -> bool:
        """Whether the stage was mounted."""
        return self._serving is not None and self._serving.showing.was_mounted

    def _new_serving(self) -> Serving | None:
        if self._request.mountpoint is None:
            return None
        return Serving(
            Served(
                request=self._request,
                ctx=self._ctx,
                session=self._session,
                workspace=self._workspace,
                cache=self._cache,
                contents=self._contents,
                state_path=self._state_path,
            ),
            self._request.mountpoint,
            on_mounted=self._tell_mounted,
            on_fetched=self._log.note_fetched,
        )

    async def _serve(self, serving: Serving, work: Work) -> None:
        assert isinstance(work, ServedWork)
        try:
            await serving.serve(work, self.commands.publisher.run)
        finally:
            self._log.note_fetched()
            if serving.showing.was_mounted:
                self._log.note(Unmounted())

    def _tell_mounted(self) -> None:
        self.commands.mountable.set()
        self._log.note(Mounted(mountpoint=self._request.mountpoint or ""))
        self._report(
            {
                "event": "mounted",
                "session": self._ctx.owner.session,
                "pid": os.getpid(),
                "mountpoint": self._request.mountpoint,
                "unended": unended_fields(self._session),
                "aside": self._session.aside,
            }
        )

    # --- telling ----------------------------------------------------------------------------------

    def _note_state(self, state: State) -> None:
        self._tell({"event": "state_changed", "state": state})

    def _tell(self, event: Mapping[str, object]) -> None:
        self._report(event)
        self._control.tell(event)
