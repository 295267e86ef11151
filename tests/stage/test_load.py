"""Reading trees and plans: whatever their length, and however slow the link is that lives."""

from dataclasses import dataclass, replace

import pytest
import trio

from pdfs.core import manifest as core_manifest
from pdfs.core.content import ETag
from pdfs.core.ids import ObjectName
from pdfs.core.manifest import Manifest, Top, never_published
from pdfs.errors import StoreUnavailable
from pdfs.stage.context import StageContext
from pdfs.stage.load import read_tree
from pdfs.store.memory import MemoryStore
from pdfs.store.objects import Fetched
from tests.stage.contexts import TIMING, Site

NAME = ObjectName("000000000001-1")
TREE = replace(never_published(Top(mtime=5)), generation=1)
SLOWEST = 10.0
"""Bytes per second of a link that just counts as alive."""


@dataclass
class Link:
    """How many bytes per second it brings."""

    speed: float


class SlowStore(MemoryStore):
    """A bucket behind a slow link."""

    link = Link(1.0)

    async def get(
        self, key: str, *, span: tuple[int, int] | None = None, if_match: ETag | None = None
    ) -> Fetched:
        found = await super().get(key, span=span, if_match=if_match)
        await trio.sleep(len(found.body) / self.link.speed)
        return found


async def behind(speed: float) -> StageContext:
    """A stage whose tree takes longer than the wait for one answer."""
    site = Site(timing=replace(TIMING, slowest=SLOWEST))
    store = SlowStore(now=site.now)
    store.link = Link(speed)
    body = core_manifest.encode(TREE)
    assert len(body) / speed > site.timing.answer
    await store.put(site.keys.tree(NAME), body, condition=None)
    return site.context(store=store)


async def test_a_tree_that_takes_longer_than_one_answer_may_is_a_matter_of_time_only() -> None:
    ctx = await behind(speed=1.2 * SLOWEST)
    found: Manifest = await read_tree(ctx, NAME)
    assert (found.generation, found.top) == (TREE.generation, TREE.top)


async def test_a_link_that_is_as_good_as_dead_is_told() -> None:
    ctx = await behind(speed=SLOWEST / 10)
    with pytest.raises(StoreUnavailable):
        await read_tree(ctx, NAME)
