"""Carriers without FUSE: a story stands in for the processes that use the mount."""

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from pdfs import fuse
from pdfs.config import Configuration, configure
from pdfs.core.ids import SessionId
from pdfs.disk import OsDisk, read_path
from pdfs.fs.filesystem import StageFilesystem
from pdfs.local.cache import PartCache
from pdfs.local.ledger import Ledger
from pdfs.local.state import StateDirectory
from pdfs.mount import serving
from pdfs.mount.carrier import Carrier
from pdfs.mount.request import MountRequest
from pdfs.stage.context import StageContext
from tests.fs.process import Process
from tests.stage.contexts import Site, claimant_of

Story = Callable[[Process], Awaitable[None]]
"""What processes do while the stage is mounted; when it returns, it is unmounted."""


def configuration_of(path: Path) -> Configuration:
    names = ("STATE_HOME", "CACHE_HOME", "DATA_HOME", "CONFIG_HOME", "RUNTIME_DIR")
    environ = {f"XDG_{name}": str(path / name.lower()) for name in names}
    environ |= {"PDFS_USER": "anna", "PDFS_MACHINE": "ws7"}
    environ |= {name: os.environ[name] for name in ("PDFS_STOP_TIMEOUT",) if name in os.environ}
    return configure(environ, {}, read_path)


def stand_in_for_fuse(monkeypatch: pytest.MonkeyPatch, *stories: Story) -> None:
    """Each mount takes the next story."""
    left = list(stories)

    async def serve(
        filesystem: StageFilesystem, mountpoint: str, options: object, *, task_status: Any
    ) -> None:
        task_status.started()
        try:
            await left.pop(0)(Process(filesystem))
        finally:
            filesystem.end()

    monkeypatch.setattr(fuse, "serve", serve)
    monkeypatch.setattr(serving, "made_for_mount", lambda *_, **__: nullcontext())


async def idle(process: Process) -> None:
    await trio.lowlevel.checkpoint()


@dataclass(slots=True)
class Desk:
    """A machine with a state directory, at a stage in memory."""

    path: Path
    site: Site
    events: list[Mapping[str, object]] = field(default_factory=list)
    carrier: Carrier | None = None
    quota: int = 0
    """Of the cache on the disk, in bytes."""

    @property
    def configuration(self) -> Configuration:
        return configuration_of(self.path)

    async def carry(
        self,
        ctx: StageContext | None = None,
        *,
        resumes: bool = False,
        mountpoint: str | None = "/mnt/plant",
        every: float = 0.0,
    ) -> int:
        """One session of one process, to its end."""
        ctx = ctx or self.site.context()
        request = MountRequest(
            configuration=self.configuration,
            project=ctx.keys.project,
            stage=ctx.keys.stage,
            mountpoint=mountpoint,
            every=every,
        )
        cache = PartCache(OsDisk(), self.path / "cache", quota=self.quota)
        with StateDirectory(OsDisk(), self.configuration.state) as state:
            self.carrier = Carrier(request, self.events.append, ctx, state, cache)
            try:
                return await self.carrier.run(
                    claimant_of(ctx, crashed=frozenset({ctx.owner.session})), resumes=resumes
                )
            finally:
                cache.close()

    def socket(self) -> Path:
        (found,) = Path(self.configuration.runtime).glob("*.sock")
        return found

    def sessions(self, below: str = "sessions") -> dict[SessionId, Path]:
        """The session directories there, or in the trash."""
        paths = Path(self.configuration.state, below).iterdir()
        return {SessionId(path.name): path for path in paths}

    def plain(self, path: str) -> bytes:
        """The plain object of that path."""
        return self.site.store.objects[f"Kraftwerk/planning/{path}"].body

    def conflicts(self) -> list[str]:
        """The paths of all conflict copies in the bucket."""
        paths = (key.removeprefix("Kraftwerk/planning/") for key in self.site.store.objects)
        return [path for path in paths if " (conflict " in path]

    def logged(self) -> list[dict[str, Any]]:
        """The lines of the one log."""
        (file,) = Path(self.configuration.state, "logs").iterdir()
        return [json.loads(line) for line in file.read_text().splitlines()]

    def has_plain(self, path: str) -> bool:
        return f"Kraftwerk/planning/{path}" in self.site.store.objects


def draw(ledger: Ledger, *names: str) -> None:
    """Files with their own names as content."""
    process = Process(StageFilesystem(ledger, now_ns=lambda: 1, room=lambda: None))  # type: ignore[arg-type, return-value]  # nobody asks for room
    for name in names:
        process.write_file(name, name.encode())
