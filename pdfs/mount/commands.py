"""What can be asked of a session at its control socket, and what comes of it.

    status      how it is
    publish     what was written so far goes into the bucket; the stage stays mounted
    umount      it is unmounted, and its end publishes it
    abort       it ends without publishing

Who asks for an end is answered when all of it is over: when that is, the carrier says (`end`).
"""

from collections.abc import Mapping

import trio

from pdfs.core.ids import Path
from pdfs.core.notes import Asked, Troubled, TroubleOver
from pdfs.errors import (
    LockLost,
    MountError,
    PdfsError,
    StoreError,
    UnpublishedWork,
    UsageError,
)
from pdfs.mount.control import NOTHING, Answer, Result
from pdfs.mount.detach import sync_mount
from pdfs.mount.logbook import Logbook
from pdfs.mount.outcome import Outcome
from pdfs.mount.publisher import Publisher
from pdfs.mount.request import MountRequest
from pdfs.mount.serving import Serving
from pdfs.mount.status import status_of
from pdfs.mount.workspace import DiskWorkspace
from pdfs.session import StageSession
from pdfs.stage.contents import Contents
from pdfs.stage.context import StageContext


class Commands:
    """What one session does when it is told to."""

    def __init__(
        self,
        request: MountRequest,
        ctx: StageContext,
        session: StageSession,
        workspace: DiskWorkspace,
        contents: Contents,
        serving: Serving | None,
        outcome: Outcome,
        log: Logbook,
    ) -> None:
        """`serving` is None where the session is not to be mounted."""
        self._request = request
        self._ctx = ctx
        self._session = session
        self._workspace = workspace
        self._contents = contents
        self._serving = serving
        self._outcome = outcome
        self._log = log
        self.publisher = Publisher(self._publish_now, every=request.every, has_work=self._has_work)
        """To be run as long as the stage is mounted."""
        self.mountable = trio.Event()
        """There is a mount to be taken away, or there will be none."""
        self._ended = trio.Event()
        self._error: PdfsError | None = None
        self._unwritten: MountError | None = None
        """Why the last publish that was asked for did not begin."""

    @property
    def calls(self) -> Mapping[str, Answer]:
        """Each of them, by the word for it."""
        return {
            "status": self.status,
            "publish": self.publish,
            "umount": self.umount,
            "abort": self.abort,
        }

    def end(self, error: PdfsError | None) -> None:
        """The session is over, and nothing of it is left to be done here; `error` says how."""
        self._error = error
        self.mountable.set()
        self._ended.set()

    async def cut_off(self) -> None:
        """End the mount also when programs use it."""
        if self._serving is not None:
            await self._serving.showing.cut_off()

    async def status(self, _: Result = NOTHING) -> Result:
        """The session as it is now."""
        return status_of(
            self._request,
            self._ctx,
            self._session,
            self._contents.prefetched,
            self._trouble(),
            None if self._serving is None else self._serving.failure,
            self._outcome.damage,
            {} if self._serving is None else self._serving.unreadable,
        )

    async def umount(self, request: Result = NOTHING) -> Result:
        """Unmount, publish, release; answers when all of it is done.

        A mount that waits for the end of this session asks so, too, and says that it does.
        """
        waits = request.get("waits") is True
        self._log.note(Asked(what="mount" if waits else "umount"))
        if self._serving is not None:
            await self.mountable.wait()
            if self._session.is_serving:
                await self._serving.showing.unmount()
        return await self._published()

    async def publish(self, request: Result = NOTHING) -> Result:
        """Publish what was written so far, mounted or not; answers when that is done.

        With steps to set aside, it is the publish under way that is to end without them.
        """
        self._log.note(Asked(what="publish"))
        if aside := request.get("set_aside"):
            return await self._set_aside(_paths_in(aside))
        if self._serving is not None:
            await self.mountable.wait()
            try:
                if self._session.is_serving and (done := await self.publisher.published()):
                    return self._outcome.told_of(done)
            except LockLost as error:
                raise self._outcome.kept(error) from error
        return await self._published()

    async def _publish_now(self) -> Result:
        """Publish, the stage stays mounted; what came of it."""
        assert self._serving is not None
        before = self._outcome.mark()
        await self._write_mapped(self._serving.showing.mountpoint)
        await self._session.publish()
        return self._outcome.so_far(before)

    async def _set_aside(self, paths: list[Path]) -> Result:
        """End the publish under way without these; what came of it."""
        before = self._outcome.mark()
        try:
            is_over = await self._session.set_aside(paths)
        except LockLost as error:
            raise self._outcome.kept(error) from error
        if is_over and self._session.is_serving:
            return self._outcome.told_of(self._outcome.so_far(before))
        return await self._published()

    async def _write_mapped(self, mountpoint: str) -> None:
        """What programs have mapped is written; else nothing is published that would lack it."""
        try:
            await sync_mount(mountpoint)
        except MountError as error:
            self._unwritten = MountError(
                f"nothing was published: {error.what}",
                remedy="publish again; what programs wrote through calls is safe here",
            )
            self._log.note(Troubled(kind=type(error).__name__, what=str(error)))
            raise self._unwritten from error
        if self._unwritten is not None:
            self._unwritten = None
            self._log.note(TroubleOver())

    def _has_work(self) -> bool:
        work = self._workspace.work
        return work is not None and work.tree.has_edits and self._session.lost is None

    async def _published(self) -> Result:
        """How the session ended, for those who wanted it published."""
        outcome = await self._end()
        if self._session.is_aborted:
            raise UnpublishedWork(
                "the session was aborted meanwhile: it was ended without publishing",
                remedy=f"pdfs recover undo {self._ctx.owner.session[:8]} brings it back",
            )
        return outcome

    async def abort(self, _: Result = NOTHING) -> Result:
        """End the session without publishing."""
        self._session.abort()
        self._log.note(Asked(what="abort"))
        await self.cut_off()
        return await self._end()

    async def _end(self) -> Result:
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._outcome.at_the_end()

    def _trouble(self) -> str | None:
        """With the bucket, or else with mapped pages, or with the session's log."""
        error = self._session.trouble or self._unwritten or self._log.trouble
        if isinstance(error, StoreError):  # what the requests of the next try meet with is newer
            error = self._ctx.uploads.unresolved or error
        return None if error is None else str(error)


def _paths_in(value: object) -> list[Path]:
    """The paths of a request. Raises UsageError."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UsageError("what is to be set aside is a list of paths in the stage")
    return [Path(each) for each in value]
