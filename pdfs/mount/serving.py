"""The mount of one session's stage: the file system, FUSE, and what runs beside the requests.

requests ──▶ StageFilesystem ──▶ ledger
beside them: the journal's flush and upkeep, the prefetch, and whatever else is given
"""

import logging
import math
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath

import trio

from pdfs import fuse
from pdfs.core.content import Content
from pdfs.core.node import Node
from pdfs.disk import OsDisk
from pdfs.errors import JournalFailed, LockLost, PdfsError
from pdfs.fs.clock import coarse_now
from pdfs.fs.filesystem import StageFilesystem
from pdfs.fs.upward import Upward
from pdfs.local.cache import PartCache
from pdfs.mount.memory import give_back, settle_memory
from pdfs.mount.mountpoint import made_for_mount
from pdfs.mount.request import MountRequest
from pdfs.mount.showing import Showing
from pdfs.mount.workspace import DiskWorkspace, ServedWork
from pdfs.session import StageSession
from pdfs.stage.contents import Contents
from pdfs.stage.context import StageContext
from pdfs.stage.plain import largest_on
from pdfs.stage.together import background

logger = logging.getLogger(__name__)

_AMPLE = 1 << 30
"""Bytes: with so many free, nobody asks what else there would be, which takes 0.1 s to count."""


def with_more(found: os.statvfs_result, more: int) -> os.statvfs_result:
    """The same with so many more bytes free, or less; not below zero."""
    blocks = more // found.f_frsize
    free = (max(0, each + blocks) for each in (found.f_bfree, found.f_bavail))
    return os.statvfs_result((*found[:3], *free, *found[5:]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The session whose stage is mounted, and where its bytes are."""

    request: MountRequest
    ctx: StageContext
    session: StageSession
    workspace: DiskWorkspace
    cache: PartCache
    contents: Contents
    state_path: PurePath


class Serving:
    """One mount, at `mountpoint`."""

    def __init__(
        self,
        served: Served,
        mountpoint: str,
        *,
        on_mounted: Callable[[], None],
        on_fetched: Callable[[], None],
    ) -> None:
        """`on_mounted` is called when the mount answers, `on_fetched` when the prefetch is over."""
        self._served = served
        self._on_fetched = on_fetched
        self.showing = Showing(
            served.ctx.keys,
            mountpoint,
            allow_other=served.request.allow_other,
            caching=lambda: fuse.FOREVER if served.session.is_settled else fuse.BRIEFLY,
            on_mounted=on_mounted,
        )
        self._to_fetch, self._fetches = trio.open_memory_channel[Content](math.inf)
        self.unreadable: Mapping[str, str] = {}
        """Files that a program asked for, and whose bytes are nowhere: by path, why."""
        self.failure: PdfsError | None = None
        """Why the journal takes nothing any more."""

    async def serve(self, work: ServedWork, beside: Callable[[], Awaitable[None]]) -> None:
        """Show the stage until it is unmounted; `beside` runs as long."""
        filesystem = StageFilesystem(
            work.ledger,
            now_ns=coarse_now,
            room=self._room,
            largest=largest_on(self._served.ctx.store.traits),
            upward=Upward(first_write=self._first_write, failed=self._journal_failed),
            make_room=self._served.workspace.make_room,
        )
        settle_memory()
        self.unreadable = filesystem.unreadable
        self._served.session.busy = filesystem.busy
        self._served.session.opened = filesystem.seen
        self._served.session.hear_of_loss(partial(_make_read_only, filesystem))
        work.serve_through(filesystem.commit_from_below)
        keep = self._served.workspace.keep
        try:
            async with (
                background(partial(self._flush, filesystem)),
                background(partial(keep, self._journal_is_short, self._evict)),
                background(partial(self._prefetch, work)),
                background(self._fetch_opened),
                background(beside),
            ):
                await self._mount(filesystem)
        finally:
            work.unmounted()

    async def _mount(self, filesystem: StageFilesystem) -> None:
        directory = made_for_mount(
            OsDisk(),
            self.showing.mountpoint,
            is_ours=self._served.workspace.has_made_mountpoint,
            note_made=self._served.workspace.note_mountpoint_made,
        )
        await self.showing.show(filesystem, directory)
        with suppress(PdfsError):  # the file system has told it upward
            await filesystem.sync()  # a publish that waits for the bucket syncs nothing for hours

    # --- beside the requests ----------------------------------------------------------------------

    async def _flush(self, filesystem: StageFilesystem) -> None:
        """What programs never sync survives a power cut after this interval."""
        while True:
            await trio.sleep(self._served.ctx.timing.flush)
            try:
                await filesystem.sync()
            except PdfsError:
                return  # the file system has told it upward, and takes nothing more
            if self._served.workspace.is_deleted:
                filesystem.fail(_deleted(self._served.state_path))
                return

    async def _prefetch(self, work: ServedWork) -> None:
        clean = {node.base for node in work.tree.nodes.values() if node.is_file and node.is_clean}
        await self._served.contents.prefetch(clean)
        give_back()
        self._on_fetched()

    def _first_write(self, node: Node) -> None:
        self._to_fetch.send_nowait(node.base)

    async def _fetch_opened(self) -> None:
        """The rest of a file that is being changed, ahead of the others."""
        async for content in self._fetches:
            try:
                await self._served.contents.bring(content)
            except PdfsError as error:
                logger.warning("a file that is being changed could not be fetched: %s", error)

    async def _evict(self, wanted: int) -> int:
        """Let go of cached parts where that makes room for the journal."""
        return await self._served.cache.evict(wanted) if self._is_beside_cache() else 0

    def _is_beside_cache(self) -> bool:
        """Whether the journal and the cache share a file system; not where that was removed."""
        paths = self._served.request.configuration.cache, self._served.state_path
        try:
            return len({os.stat(path).st_dev for path in paths}) == 1
        except OSError:
            return False

    def _room(self) -> os.statvfs_result:
        """What programs can still write: on a disk that is nearly full what would be freed counts,
        and what the journal is about to take does not."""
        found = os.statvfs(self._served.state_path)
        if found.f_bavail * found.f_frsize >= _AMPLE:
            return found
        evictable = self._served.cache.size if self._is_beside_cache() else 0
        journal = self._served.workspace.freeable() - self._served.workspace.unprepared()
        return with_more(found, journal + evictable)

    def _journal_is_short(self, error: PdfsError) -> None:
        if isinstance(error, JournalFailed):
            self._journal_failed(error)
        else:
            logger.warning("the journal can't be kept in order: %s", error)

    def _journal_failed(self, error: PdfsError) -> None:
        """Say it once: requests and the upkeep both find it out."""
        if self.failure is None:
            self.failure = error
            logger.error("the mount is read-only from here on: %s", error)


def _deleted(state: PurePath) -> JournalFailed:
    return JournalFailed(
        f"the files of this session in {state} were deleted: nothing that is written from here on"
        " would survive the end of this process",
        remedy="unmount the stage (fusermount3 -u): that publishes what was written before, as far"
        " as the journal is still open; kill nothing",
    )


def _make_read_only(filesystem: StageFilesystem, error: LockLost) -> None:
    filesystem.read_only = error
