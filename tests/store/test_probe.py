"""What a store is believed to do is what it did: refusals of stores that ignore conditions."""

import itertools
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from pdfs.core.content import ETag
from pdfs.errors import StoreUnavailable, StoreUnsuitable
from pdfs.store.directory import DirectoryStore
from pdfs.store.faulty import Fate, Request
from pdfs.store.memory import ALL_TRAITS, MemorySignedDelete, MemoryStore
from pdfs.store.objects import (
    NO_METADATA,
    Condition,
    Fetched,
    IfAbsent,
    IfMatch,
    ObjectInfo,
    ObjectStore,
    Stored,
    Traits,
    UploadId,
)
from pdfs.store.probe import SCRATCH, probe
from pdfs.store.s3 import S3Store, open_access
from tests.stage.contexts import Site
from tests.store.running import each_server, settings_of
from tests.store.servers import Server


async def probed(store: ObjectStore, prefix: str = "") -> Traits:
    ids = itertools.count()
    return await probe(store, prefix=prefix, ids=lambda: f"id-{next(ids)}")


class Ignoring(MemoryStore):
    """Ignores conditions of one kind in a PUT, as many an S3 server does."""

    def __init__(self, ignored: type[IfAbsent] | type[IfMatch]) -> None:
        super().__init__(now=time.time)
        self._ignored = ignored

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        condition: Condition | None,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Stored:
        heeded = None if isinstance(condition, self._ignored) else condition
        return await super().put(
            key, body, condition=heeded, content_type=content_type, metadata=metadata
        )


class Looking(MemoryStore):
    """Looks at the condition, and writes some time later."""

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        condition: Condition | None,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Stored:
        self._judge(key, condition)
        await trio.sleep(0.01)
        return await super().put(
            key, body, condition=None, content_type=content_type, metadata=metadata
        )


class LookingAtCompletes(MemoryStore):
    async def complete_upload(
        self, key: str, upload: UploadId, parts: Sequence[ETag], *, condition: Condition | None
    ) -> Stored:
        self._judge(key, condition)
        await trio.sleep(0.01)
        return await super().complete_upload(key, upload, parts, condition=None)


class Changing(MemoryStore):
    """Refuses, and writes nevertheless."""

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        condition: Condition | None,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Stored:
        try:
            self._judge(key, condition)
        finally:
            stored = await super().put(key, body, condition=None)
        return stored


class Stale(MemoryStore):
    """Shows the first version for ever."""

    async def get(
        self, key: str, *, span: tuple[int, int] | None = None, if_match: ETag | None = None
    ) -> Fetched:
        fetched = await super().get(key, span=span)
        first = next(change.stored for change in self.history if change.key == key)
        return fetched if first is None else Fetched(info=fetched.info, body=first.body)


class Eternal(MemoryStore):
    """Takes a signature for good."""

    def __init__(self) -> None:
        super().__init__(now=time.time, traits=NO_TRAITS)

    def sign_delete(self, key: str, *, valid_for: float) -> MemorySignedDelete:
        return super().sign_delete(key, valid_for=1e9)


class Conflicting(MemoryStore):
    """Answers 409 to all writers that meet, but to the first one of a round."""

    def __init__(self, *, winners: int) -> None:
        super().__init__(now=time.time)
        self._winners = winners
        self._meeting: dict[str, int] = {}

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        condition: Condition | None,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Stored:
        if "create-" not in key:
            return await super().put(key, body, condition=condition)
        order = self._meeting[key] = self._meeting.get(key, 0) + 1
        await trio.sleep(0.01)
        self._meeting[key] -= 1
        if order > self._winners:
            raise StoreUnavailable("409", sent=False)
        return await super().put(key, body, condition=condition)


NO_TRAITS = Traits(
    conditional_complete=False,
    conditional_delete=False,
    conditional_part_copy=False,
    nested_keys=False,
)


@pytest.mark.parametrize("traits", [ALL_TRAITS, NO_TRAITS])
async def test_a_store_proves_what_it_does(traits: Traits) -> None:
    clock = trio.current_time
    assert await probed(MemoryStore(now=clock, traits=traits)) == traits


@pytest.mark.parametrize(
    "trait",
    ["conditional_complete", "conditional_delete", "conditional_part_copy", "nested_keys"],
)
async def test_each_trait_is_proved_by_itself(trait: str) -> None:
    expected = replace(NO_TRAITS, **{trait: True})
    assert await probed(MemoryStore(now=trio.current_time, traits=expected)) == expected


@pytest.mark.figure(name="S7")
@pytest.mark.parametrize(
    ("ignored", "words"), [(IfAbsent, "If-None-Match: \\*"), (IfMatch, "If-Match")]
)
async def test_a_store_that_ignores_a_condition_of_a_put_is_refused_in_words(
    ignored: type[IfAbsent] | type[IfMatch], words: str
) -> None:
    with pytest.raises(StoreUnsuitable, match=words) as caught:
        await probed(Ignoring(ignored))
    assert "use a store" in caught.value.remedy


async def test_a_store_that_looks_before_it_writes_is_refused() -> None:
    with pytest.raises(StoreUnsuitable, match="4 of 4 writers"):
        await probed(Looking(now=trio.current_time))


async def test_a_complete_that_looks_before_it_writes_counts_as_unconditional() -> None:
    traits = await probed(LookingAtCompletes(now=trio.current_time))
    assert not traits.conditional_complete
    assert traits.conditional_delete


async def test_a_store_that_writes_what_it_refuses_is_refused() -> None:
    with pytest.raises(StoreUnsuitable, match="changes an object"):
        await probed(Changing(now=trio.current_time))


async def test_a_store_that_shows_old_versions_is_refused() -> None:
    with pytest.raises(StoreUnsuitable, match="old version"):
        await probed(Stale(now=trio.current_time))


async def test_a_store_that_deletes_however_late_is_refused() -> None:
    with pytest.raises(StoreUnsuitable, match="deletes"):
        await probed(Eternal())


async def test_writers_that_are_told_to_come_again_are_no_winners() -> None:
    assert (await probed(Conflicting(winners=1))).conditional_delete
    with pytest.raises(StoreUnsuitable, match="no writer"):
        await probed(Conflicting(winners=0))


async def test_the_probe_leaves_nothing_whether_it_ends_well_or_not() -> None:
    for store in (MemoryStore(now=trio.current_time), Ignoring(IfMatch)):
        try:
            await probed(store, "some/prefix/")
        except StoreUnsuitable:
            assert isinstance(store, Ignoring)
        assert not store.objects
        assert not [page async for page in store.list_uploads("")]
        assert store.history
        assert all(change.key.startswith(f"some/prefix/{SCRATCH}") for change in store.history)


async def test_the_probe_cleans_up_when_it_is_cancelled() -> None:
    store = MemoryStore(now=trio.current_time)
    with trio.CancelScope() as scope:

        async def cancel_later() -> None:
            while len(store.history) < 10:
                await trio.lowlevel.checkpoint()
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_later)
            nursery.start_soon(probed, store)
    assert store.history
    assert not store.objects


async def test_a_store_that_goes_away_is_unavailable_and_not_unsuitable() -> None:
    class Away(MemoryStore):
        async def head(self, key: str) -> ObjectInfo:
            raise StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable):
        await probed(Away(now=trio.current_time))


class Stumbling:
    """Answers 500 to some of the PUTs, which are carried out all the same."""

    def __init__(self, failing: Container[int]) -> None:
        self.failing = failing
        self.count = 0

    def fate_of(self, request: Request) -> Fate:
        self.count += request.operation == "put"
        is_due = request.operation == "put" and self.count in self.failing
        return Fate.BROKEN if is_due else Fate.FINE


@pytest.mark.parametrize("number", range(1, 12))
async def test_a_store_that_stumbles_once_is_probed_anew(number: int) -> None:
    site, stumbling = Site(), Stumbling({number})
    async with trio.open_nursery() as late:
        assert await probed(site.behind(late, stumbling.fate_of)) == ALL_TRAITS
    assert stumbling.count > number
    assert not site.store.objects


async def test_a_store_that_stumbles_all_the_time_is_given_up() -> None:
    site, stumbling = Site(), Stumbling(range(1, 1000))
    begun = trio.current_time()
    async with trio.open_nursery() as late:
        with pytest.raises(StoreUnavailable):
            await probed(site.behind(late, stumbling.fate_of))
    assert 1 < stumbling.count < 10
    assert trio.current_time() - begun <= 10


@pytest.mark.real_clock
async def test_the_directory_keeps_its_promises(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    assert await probed(store) == store.traits
    await store.aclose()


@pytest.mark.figure(name="S7")
@pytest.mark.real_clock
async def test_rclone_serve_s3_is_refused_in_words(credentials: None, rclone: Server) -> None:
    store = S3Store(open_access(settings_of(rclone)))
    with pytest.raises(StoreUnsuitable, match="ignores the condition 'If-None-Match: \\*'"):
        await probed(store)
    assert [page async for page in store.list("")] == []
    await store.aclose()


SEEN = {
    "moto": Traits(
        conditional_complete=False,  # If-Match is ignored
        conditional_delete=True,
        conditional_part_copy=False,
        nested_keys=True,
    ),
    "seaweed": Traits(
        conditional_complete=False,  # looks before it writes
        conditional_delete=True,
        conditional_part_copy=True,
        nested_keys=False,  # no parent for a child that is there
    ),
    "r2": Traits(
        conditional_complete=True,
        conditional_delete=False,
        conditional_part_copy=False,
        nested_keys=True,
    ),
    "minio": Traits(
        conditional_complete=True,
        conditional_delete=False,
        conditional_part_copy=True,
        nested_keys=False,
        hides_nested=True,
    ),
    "versitygw": Traits(
        conditional_complete=True,
        conditional_delete=True,
        conditional_part_copy=True,
        nested_keys=False,  # 409
    ),
}


@pytest.mark.real_clock
@pytest.mark.parametrize("name", each_server("moto", "seaweed", "r2"))
async def test_each_server_is_seen_to_do_what_it_does_and_is_left_clean(
    credentials: None, request: pytest.FixtureRequest, name: str
) -> None:
    store = S3Store(open_access(settings_of(request.getfixturevalue(name), prefix="probed/")))
    assert await probed(store) == SEEN[name]
    assert [row.key async for page in store.list("") for row in page] == []
    await store.aclose()
