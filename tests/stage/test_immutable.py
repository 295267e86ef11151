"""Objects of names that nobody else has: what a commit rests on arrived as it was sent."""

import pytest
import trio

from pdfs.errors import StoreUnavailable
from pdfs.stage.immutable import put_immutable
from pdfs.store.faulty import Fate, Request
from tests.stage.contexts import Site

KEY, BODY = "Kraftwerk/.pdfs/planning/contents/000000000001-a", b"a drawing"


@pytest.mark.parametrize("damaged", [1, 2])
async def test_what_arrives_damaged_is_sent_again(damaged: int) -> None:
    site = Site()
    fates = iter([Fate.DAMAGED] * damaged)

    def fate_of(request: Request) -> Fate:
        return next(fates, Fate.FINE) if request.is_write else Fate.FINE

    async with trio.open_nursery() as late:
        await put_immutable(site.context(store=site.behind(late, fate_of)), KEY, BODY)
    assert site.store.objects[KEY].body == BODY
    assert next(fates, None) is None


async def test_what_never_arrives_undamaged_is_not_called_sent() -> None:
    site = Site()

    def fate_of(request: Request) -> Fate:
        return Fate.DAMAGED if request.is_write else Fate.FINE

    async with trio.open_nursery() as late:
        ctx = site.context(store=site.behind(late, fate_of))
        with pytest.raises(StoreUnavailable, match="does not arrive undamaged"):
            await put_immutable(ctx, KEY, BODY)
