"""Contents through the cache: bounded for programs, patient for a publish, never made up."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from pdfs.core.content import Content, Packed, content_of
from pdfs.core.ids import ObjectName
from pdfs.disk import OsDisk
from pdfs.errors import ContentLost, StoreUnavailable
from pdfs.local.cache import PartCache
from pdfs.stage.contents import Contents
from pdfs.stage.context import StageContext
from pdfs.store.faulty import FaultyStore, Network
from tests.stage.contexts import SIZES, TIMING, Site, fine

PARTS = 5
DATA = random.Random(0).randbytes(PARTS * SIZES.part)
NAME = ObjectName("000000000001-1")
READ = 5.0
SECONDS = 3.0
"""For each part: all of them together take longer than a program's read may wait."""


def never() -> None:
    raise AssertionError


async def big_content(site: Site) -> Content:
    await site.store.put(site.keys.content(NAME), DATA, condition=None)
    return content_of(DATA, smallest_part=SIZES.part).with_packed(Packed(NAME, 0))


def slow(site: Site, nursery: trio.Nursery, requests: list[str]) -> StageContext:
    """Behind a link that lives, and is slow."""

    def latency() -> float:
        requests.append("one")
        return SECONDS

    network = Network(
        fate_of=fine,
        latency=latency,
        lateness=lambda: 0.0,
        nursery=nursery,
        crash=never,  # type: ignore[arg-type]  # it never returns, and is never called
    )
    return replace(
        site.context(), store=FaultyStore(site.store, network), timing=replace(TIMING, read=READ)
    )


def contents_of(ctx: StageContext, path: Path) -> Contents:
    """With a cache in memory alone: no threads, which the clock of the test would overtake."""
    return Contents(ctx, PartCache(OsDisk(), path, quota=0))


async def test_a_read_of_a_program_is_told_when_the_bucket_takes_too_long(tmp_path: Path) -> None:
    site = Site()
    async with trio.open_nursery() as nursery:
        contents = contents_of(slow(site, nursery, []), tmp_path)
        content = await big_content(site)
        began = trio.current_time()
        with pytest.raises(StoreUnavailable, match="did not deliver within 5 s"):
            await contents.read(content, 0, content.size)
        assert trio.current_time() - began == READ
        assert await contents.read(content, 0, 10) == DATA[:10]


async def test_a_read_of_a_publish_has_all_the_time_that_the_link_needs(tmp_path: Path) -> None:
    site = Site()
    async with trio.open_nursery() as nursery:
        contents = contents_of(slow(site, nursery, []), tmp_path)
        content = await big_content(site)
        began = trio.current_time()
        assert await contents.read_patiently(content, 0, content.size) == DATA
        assert trio.current_time() - began > READ


async def test_a_big_file_that_is_being_changed_comes_part_by_part_for_as_long_as_it_takes(
    tmp_path: Path,
) -> None:
    site, requests = Site(), list[str]()
    async with trio.open_nursery() as nursery:
        contents = contents_of(slow(site, nursery, requests), tmp_path)
        content = await big_content(site)
        await contents.bring(content)
        fetched = len(requests)
        assert fetched >= PARTS
        assert await contents.read(content, 0, content.size) == DATA
        assert len(requests) == fetched, "what was brought is fetched again"


async def test_each_part_that_came_can_be_read_while_the_rest_of_a_big_file_still_comes(
    tmp_path: Path,
) -> None:
    site = Site()
    async with trio.open_nursery() as nursery:
        contents = contents_of(slow(site, nursery, []), tmp_path)
        content = await big_content(site)
        nursery.start_soon(contents.bring, content)
        await trio.sleep(2.5 * SECONDS)
        began = trio.current_time()
        assert await contents.read(content, 0, SIZES.part) == DATA[: SIZES.part]
        assert trio.current_time() == began


@pytest.mark.parametrize(
    "content",
    [
        Content(size=10, digest=None),
        content_of(b"ten bytes.", smallest_part=SIZES.part),
        content_of(DATA, smallest_part=SIZES.part),
    ],
    ids=["never read", "small", "big"],
)
async def test_a_content_without_any_home_is_lost_and_never_zeros(
    content: Content, tmp_path: Path
) -> None:
    contents = contents_of(Site().context(), tmp_path)
    for read in (contents.read, contents.read_patiently):
        with pytest.raises(ContentLost, match="nowhere in the bucket"):
            await read(content, 0, content.size)
    with pytest.raises(ContentLost):
        await contents.bring(content)
    await contents.prefetch([content])
    assert contents.prefetched.is_over
