"""The daemon's side of a read-only mount, without FUSE: what it leaves, and what it tells."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
import trio

from pdfs.core.ids import Path as StagePath
from pdfs.core.ids import SessionId
from pdfs.disk import OsDisk
from pdfs.errors import ContentLost, MountError, SessionError
from pdfs.local.cache import PartCache
from pdfs.local.state import StateDirectory
from pdfs.mount import reading as reading_module
from pdfs.mount.mounts import Mounted
from pdfs.mount.reading import ReaderCarrier, remove_ended_readers
from pdfs.mount.request import MountRequest
from tests.fs.process import Process
from tests.mount.carriers import configuration_of, stand_in_for_fuse
from tests.stage.contexts import Site
from tests.stage.works import sit_down

pytestmark = pytest.mark.real_clock
PLAN = StagePath("plan.dwg")
DEAD = SessionId("d" * 32)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    with StateDirectory(OsDisk(), configuration_of(tmp_path).state) as state:
        yield state


async def carried(
    site: Site,
    tmp_path: Path,
    state: StateDirectory,
    monkeypatch: pytest.MonkeyPatch,
    story: Callable[[ReaderCarrier, Process], Awaitable[None]],
) -> list[Mapping[str, object]]:
    """One read-only mount, in which processes do what `story` tells; the events."""
    ctx, events = site.context("bert"), list[Mapping[str, object]]()
    monkeypatch.setattr(reading_module, "made_for_mount", lambda *_, **__: nullcontext())
    stand_in_for_fuse(monkeypatch, lambda process: story(carrier, process))
    request = MountRequest(
        configuration=configuration_of(tmp_path),
        project=ctx.keys.project,
        stage=ctx.keys.stage,
        mountpoint="/mnt/look",
        read_only=True,
    )
    cache = PartCache(OsDisk(), tmp_path / "cache", quota=0)
    try:
        carrier = ReaderCarrier(request, events.append, ctx, state, cache)
        await carrier.run()
    finally:
        cache.close()
    return events


async def test_a_reader_tells_its_generation_and_what_it_could_not_read(
    tmp_path: Path, state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    anna = await sit_down(site, site.context())
    anna.editor.write(PLAN, b"a plan")
    await anna.save()
    for key, found in [*site.store.objects.items()]:
        if found.body == b"a plan":
            await site.store.put(key, b"a PLAN", condition=None)

    async def story(carrier: ReaderCarrier, process: Process) -> None:
        with pytest.raises(ContentLost):
            await process.read_file(PLAN)
        status = await carrier._status()
        assert isinstance(status["reader"], dict)
        assert status["reader"]["generation"] == 1
        assert status["unreadable"] == {PLAN: process.fs.unreadable[PLAN]}
        assert (status["state"], status["lock"], status["trouble"]) == ("ACTIVE", None, None)
        for refused in (carrier._control._calls["publish"], carrier._control._calls["abort"]):
            with pytest.raises(SessionError, match="mounted read-only"):
                await refused({})
        assert [each.is_held for each in state.readers()] == [True]

    events = await carried(site, tmp_path, state, monkeypatch, story)
    (mounted,) = [event for event in events if event["event"] == "mounted"]
    assert mounted["mountpoint"] == "/mnt/look"
    assert state.readers() == []
    assert state.sessions() == []


async def test_a_reader_that_can_not_be_mounted_leaves_nothing(
    tmp_path: Path, state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(carrier: ReaderCarrier, process: Process) -> None:
        await trio.lowlevel.checkpoint()
        raise MountError("no FUSE here")

    with pytest.raises(MountError):
        await carried(Site(), tmp_path, state, monkeypatch, story)
    assert state.readers() == []


def test_what_crashes_left_goes_unless_its_dead_mount_is_still_there(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mounted_at(path: str) -> Mounted | None:
        return Mounted(path, "fuse.pdfs", "Plant/planning", "0:61") if path == "/mnt/a" else None

    monkeypatch.setattr(reading_module, "mount_at", mounted_at)
    for session, place in ((DEAD, "/mnt/a"), (SessionId("e" * 32), "/mnt/b")):
        with state.create_reader(session) as reader:
            reader.describe({"mountpoint": place})
    state.create_reader(SessionId("f" * 32)).close()
    with state.create_reader(SessionId("a" * 32)):
        remove_ended_readers(state)
        assert {each.session for each in state.readers()} == {DEAD, "a" * 32}
