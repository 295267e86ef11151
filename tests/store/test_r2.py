"""That the R2 of these tests does what PDFS has to live with."""

import time

import pytest
import trio

from pdfs.errors import StoreRefused, StoreUnavailable
from pdfs.store.objects import IfAbsent, IfMatch
from pdfs.store.s3 import S3Store, open_access
from tests.store.running import settings_of
from tests.store.servers import Server
from tests.store.test_conformance import PART, body_of, upload

pytestmark = [pytest.mark.real_clock, pytest.mark.usefixtures("credentials")]


async def test_all_parts_but_the_last_have_one_size(r2_unlimited: Server) -> None:
    store = S3Store(open_access(settings_of(r2_unlimited, prefix="parts/")))
    for sizes in ((PART, PART + 1, 1), (PART, PART + 1)):
        begun, parts = await upload(store, "a", *(bytes(size) for size in sizes))
        with pytest.raises(StoreRefused, match="same length"):
            await store.complete_upload("a", begun, parts, condition=None)
    begun, parts = await upload(store, "a", bytes(PART), bytes(PART), b"end")
    await store.complete_upload("a", begun, parts, condition=None)
    await store.aclose()


async def test_a_key_takes_one_write_a_second(r2: Server) -> None:
    store = S3Store(open_access(settings_of(r2, prefix="rate/")))
    first = await store.put("a", b"1", condition=IfAbsent())
    began = time.monotonic()
    with pytest.raises(
        StoreUnavailable, match=r"429 .*Reduce your concurrent request rate"
    ) as told:
        await store.put("a", b"2", condition=IfMatch(first.etag))
    assert (told.value.sent, told.value.retry_after) == (False, 1.0)
    await store.put("b", b"at the same time", condition=IfAbsent())
    assert await body_of(store, "a") == b"1"
    await trio.sleep(began + 1.0 - time.monotonic())
    await store.put("a", b"2", condition=IfMatch(first.etag))
    await store.aclose()


async def test_conditions_of_deletes_are_not_looked_at(r2_unlimited: Server) -> None:
    store = S3Store(open_access(settings_of(r2_unlimited, prefix="deletes/")))
    await store.put("a", b"1", condition=None)
    signed = store.sign_delete("a", valid_for=1)
    await trio.sleep(2.1)
    with pytest.raises(StoreRefused, match="expired"):
        await signed.send()
    assert await body_of(store, "a") == b"1"
    await store.delete("a", condition=IfMatch((await store.put("b", b"2", condition=None)).etag))
    assert [row.key async for page in store.list("") for row in page] == ["b"]
    await store.aclose()
