"""How far an upload is: every byte counts once, whatever had to be sent again."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trio

from pdfs.core.ids import Fence, Inode, Path
from pdfs.core.progress import Phase, Progress
from pdfs.errors import StoreRefused, StoreUnavailable
from pdfs.stage.context import StageContext
from pdfs.stage.staging import Unstaged, stage_contents
from pdfs.stage.uploads import Uploads
from pdfs.store.faulty import Fate, Request
from pdfs.store.retry import Patience
from tests.stage.contexts import SIZES, FateOf, Site, fine

FILES = {"small.csv": 10, "also-small.csv": 20, "whole.dxf": 300, "in-parts.dwg": 1000}


async def seen_while_staging(fate_of: FateOf) -> tuple[list[Progress], Progress]:
    """What was to be seen whenever a content was read, and at the end."""
    seen: list[Progress] = []

    def reading(ctx: StageContext) -> Callable[[int, int], Awaitable[bytes]]:
        async def read(start: int, stop: int) -> bytes:
            await trio.lowlevel.checkpoint()
            assert ctx.uploads.progress is not None
            seen.append(ctx.uploads.progress)
            return bytes(stop - start)

        return read

    async with trio.open_nursery() as nursery:
        site = Site()
        ctx = site.context(store=site.behind(nursery, fate_of))
        ctx = replace(
            ctx,
            sizes=replace(SIZES, parallel=1),
            patience=Patience(ctx.timing, site.chance.random, ctx.uploads.failed),
        )
        files = {
            Inode(number): Unstaged(Path(name), size, reading(ctx))
            for number, (name, size) in enumerate(FILES.items(), 2)
        }
        ctx.uploads.begin(Phase.UPLOAD, files=0, size=0)
        await stage_contents(ctx, Fence(1), files, ())
        assert ctx.uploads.progress is not None
        return seen, ctx.uploads.progress


@pytest.mark.parametrize("fails", [False, True])
async def test_an_upload_counts_every_byte_once_and_names_the_file_that_is_under_way(
    fails: bool,
) -> None:
    failed: list[Request] = []

    def once(request: Request) -> Fate:
        if fails and request.operation == "upload part" and not failed:
            failed.append(request)
            return Fate.ANSWER_LOST
        return Fate.FINE

    seen, end = await seen_while_staging(once)
    assert {progress.path for progress in seen} == {"small.csv", "whole.dxf", "in-parts.dwg"}
    assert [progress.bytes for progress in seen] == sorted(progress.bytes for progress in seen)
    assert any(0 < progress.bytes - 330 < 1000 for progress in seen), "parts are counted, too"
    assert all(progress.left == 1330 - progress.bytes for progress in seen)
    assert end == Progress(
        phase=Phase.UPLOAD,
        files=4,
        of_files=4,
        bytes=1330,
        of_bytes=1330,
        retries=int(fails),
    )


def now(uploads: Uploads) -> Progress:
    assert uploads.progress is not None
    return uploads.progress


def test_what_failed_is_told_until_something_succeeds() -> None:
    uploads = Uploads()
    error = StoreUnavailable("the bucket does not answer")
    uploads.failed(error)
    assert uploads.progress is None
    uploads.begin(Phase.UPLOAD, files=2, size=30)

    def fail() -> None:
        with uploads.item(Path("a.dxf"), 10) as sent:
            sent(5)
            uploads.failed(error)
            uploads.failed(error)
            assert now(uploads).bytes == 5
            raise StoreRefused("no room")

    with pytest.raises(StoreRefused):
        fail()
    assert (now(uploads).files, now(uploads).bytes) == (0, 0)
    assert (now(uploads).retries, now(uploads).trouble) == (1, error.what)
    uploads.begin(Phase.UPLOAD, files=2, size=30)
    assert (now(uploads).retries, now(uploads).trouble) == (1, error.what)
    with uploads.item(Path("a.dxf"), 10) as sent:
        sent(10)
        sent(10)
        assert (now(uploads).bytes, now(uploads).path) == (10, "a.dxf")
    assert (now(uploads).files, now(uploads).bytes) == (1, 10)
    assert (now(uploads).retries, now(uploads).trouble) == (1, "")
    uploads.begin(Phase.UPLOAD, files=1, size=1, is_first=True)
    assert now(uploads).retries == 0


def test_a_step_that_begins_again_counts_again() -> None:
    uploads = Uploads()
    uploads.begin(Phase.PUBLISH, files=3, size=30)
    with uploads.item(Path("a.dxf"), 10):
        uploads.begin(Phase.PUBLISH, files=2, size=20)
    assert uploads.progress == Progress(phase=Phase.PUBLISH, of_files=2, of_bytes=20)


async def test_without_failures_nothing_is_said_of_any() -> None:
    _, end = await seen_while_staging(fine)
    assert (end.retries, end.trouble) == (0, "")


def test_the_time_to_go_is_that_of_the_phase_and_unknown_when_one_begins() -> None:
    uploads = Uploads()
    uploads.look(0.0)
    uploads.begin(Phase.UPLOAD, files=1, size=1000)
    with uploads.item(Path("a.dxf"), 1000) as sent:
        for second in range(11):
            uploads.look(float(second))
            sent(10)
        assert now(uploads).seconds_left == 90
    uploads.begin(Phase.PUBLISH, files=1, size=1000)
    assert now(uploads).seconds_left is None
