"""What every store keeps, whatever it is made of: the contract of `store.objects`, run on each."""

import hashlib
import time
import unicodedata
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
import trio

from pdfs.core.content import ETag
from pdfs.errors import (
    KeyClash,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    UsageError,
)
from pdfs.store.directory import DirectoryStore
from pdfs.store.memory import MemoryStore
from pdfs.store.objects import (
    Condition,
    IfAbsent,
    IfMatch,
    Listed,
    ObjectStore,
    Traits,
    UploadId,
)
from pdfs.store.s3 import S3Store
from tests.store.running import sampled_server
from tests.store.servers import Server

pytestmark = pytest.mark.real_clock

MIB = 1 << 20
PART = 5 * MIB
"""The shortest that S3 takes for a part that is not the last."""
NO_SUCH = ETag("0" * 32)
NO_TRAITS = Traits(
    conditional_complete=False,
    conditional_delete=False,
    conditional_part_copy=False,
    nested_keys=False,
)


def md5(body: bytes) -> ETag:
    return ETag(hashlib.md5(body).hexdigest())


_MOTO_KEYS = "moto 5.2 finds no route for a key with a line break, and uploads none with controls"
_MOTO_500 = "moto 5.2 answers 500 where an upload is gone"
_WEED_EMPTY = "SeaweedFS 4.48 keeps and lists a directory that has become empty"
_WEED_PARENT = "SeaweedFS 4.48 takes a key below an object; only the other order is refused"
_WEED_BACKSLASH = "SeaweedFS 4.48 stores a backslash as a slash"
_MINIO_UPLOADS = "MinIO lists uploads under way of one whole key only, of which it is told"
_MINIO_HIDES = "MinIO takes a key beside its child, and hides the child from listings"
_GATEWAY_CONTROLS = "versitygw 1.8 lists keys in XML that can't hold these"
_GATEWAY_GONE = "versitygw 1.8 says of what was not there that it is removed"
_HOLDS, _UPLOADED, _LISTED = (
    "test_strange_keys_hold_an_object_like_any_other",
    "test_strange_keys_can_be_uploaded_in_parts_and_copied",
    "test_uploads_of_strange_keys_are_listed",
)
DEVIATIONS = {
    f"{_HOLDS}[moto-newline]": _MOTO_KEYS,
    f"{_UPLOADED}[moto-newline]": _MOTO_KEYS,
    f"{_UPLOADED}[moto-controls]": _MOTO_KEYS,
    f"{_LISTED}[moto-newline]": _MOTO_KEYS,
    f"{_LISTED}[moto-controls]": _MOTO_KEYS,
    f"{_HOLDS}[seaweed-backslash]": _WEED_BACKSLASH,
    f"{_UPLOADED}[seaweed-backslash]": _WEED_BACKSLASH,
    f"{_LISTED}[seaweed-backslash]": _WEED_BACKSLASH,
    f"{_LISTED}[seaweed-controls]": "SeaweedFS 4.48 lists uploads in XML that can't hold these",
    "test_a_copy_from_what_is_not_there_is_refused[moto]": "moto 5.2 copies a short part",
    "test_an_aborted_upload_is_gone_and_aborting_again_is_no_error[moto]": _MOTO_500,
    "test_a_completed_upload_takes_no_more_parts[moto]": _MOTO_500,
    "test_uploads_under_way_are_listed_below_their_prefix[moto]": "moto 5.2 dates them 2010",
    "test_listing_is_in_byte_order[seaweed]": "SeaweedFS 4.48 lists directory by directory",
    "test_a_directory_without_objects_is_not_listed[seaweed]": _WEED_EMPTY,
    "test_a_key_can_take_the_place_of_its_deleted_children[seaweed]": _WEED_EMPTY,
    "test_a_key_beside_its_child_works_or_clashes_as_promised[seaweed]": _WEED_PARENT,
    "test_a_completed_upload_beside_its_parent_clashes_too[seaweed]": _WEED_PARENT,
    "test_uploads_under_way_are_listed_below_their_prefix[minio]": _MINIO_UPLOADS,
    "test_a_key_beside_its_child_works_or_clashes_as_promised[minio]": _MINIO_HIDES,
    "test_a_completed_upload_beside_its_parent_clashes_too[minio]": _MINIO_HIDES,
    f"{_HOLDS}[versitygw-controls]": _GATEWAY_CONTROLS,
    f"{_LISTED}[versitygw-controls]": _GATEWAY_CONTROLS,
    "test_delete_if_match_removes_only_the_version_named[versitygw]": _GATEWAY_GONE,
}
"""What a server does otherwise than the contract says; each test fails as long as it does."""


def deviation(name: str) -> str | None:
    """Why the test of that name fails on its server."""
    if name.startswith(f"{_LISTED}[minio-"):
        return _MINIO_UPLOADS
    return DEVIATIONS.get(name.replace("r2_unlimited", "moto"))  # which plays it


@pytest.fixture(
    params=[
        *("memory", "memory without traits", "directory", "seaweed"),
        *sampled_server("moto", "r2_unlimited"),  # the one is before the other
    ]
)
def store(
    request: pytest.FixtureRequest, tmp_path: Path, s3_store: Callable[[Server], S3Store]
) -> Iterator[ObjectStore]:
    made: ObjectStore
    match request.param:
        case "memory":
            made = MemoryStore(now=time.time, page_size=3)
        case "memory without traits":
            made = MemoryStore(now=time.time, traits=NO_TRAITS)
        case "directory":
            made = DirectoryStore(tmp_path)
        case server:
            made = s3_store(request.getfixturevalue(server))
    reason = deviation(request.node.name)
    if reason is not None:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    yield made
    trio.run(made.aclose)


def need(store: ObjectStore, trait: str) -> None:
    if not getattr(store.traits, trait):
        pytest.skip(f"{store.name} does not promise {trait}")


async def rows(store: ObjectStore, prefix: str) -> list[Listed]:
    return [row async for page in store.list(prefix) for row in page]


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [row.key for row in await rows(store, prefix)]


async def put_all(store: ObjectStore, names: Sequence[str]) -> None:
    for name in names:
        await store.put(name, name.encode(), condition=None)


async def body_of(store: ObjectStore, key: str) -> bytes:
    return (await store.get(key)).body


async def upload(store: ObjectStore, key: str, *bodies: bytes) -> tuple[UploadId, list[ETag]]:
    """An upload with these parts, not completed."""
    begun = await store.create_upload(key)
    etags = [
        await store.upload_part(key, begun, number, body)
        for number, body in enumerate(bodies, start=1)
    ]
    return begun, etags


# Bytes in, bytes out


async def test_get_gives_back_the_bytes_of_a_put(store: ObjectStore) -> None:
    body = bytes(range(256)) * 5
    stored = await store.put("project/stage/valve.dwg", body, condition=None)
    fetched = await store.get("project/stage/valve.dwg")
    assert fetched.body == body
    assert fetched.info.key == "project/stage/valve.dwg"
    assert fetched.info.size == len(body)
    assert fetched.info.etag == stored.etag


async def test_etag_of_a_put_is_the_md5_of_its_bytes(store: ObjectStore) -> None:
    for body in (b"", b"one", b"two", b"one"):
        assert (await store.put("a", body, condition=None)).etag == md5(body)
        assert (await store.head("a")).etag == md5(body)


async def test_an_object_of_no_bytes_is_an_object(store: ObjectStore) -> None:
    await store.put("empty", b"", condition=IfAbsent())
    assert (await store.get("empty")).body == b""
    assert (await store.head("empty")).size == 0
    assert [(row.key, row.size) for row in await rows(store, "")] == [("empty", 0)]


async def test_a_body_of_many_mebibytes_survives(store: ObjectStore) -> None:
    body = hashlib.shake_128(b"seed").digest(20 * MIB + 7)
    await store.put("big", body, condition=IfAbsent())
    assert await body_of(store, "big") == body
    assert (await store.get("big", span=(19 * MIB, 20 * MIB + 7))).body == body[19 * MIB :]


@pytest.mark.parametrize("span", [(0, 1), (0, 10), (3, 7), (9, 10)])
async def test_span_gives_exactly_its_bytes_and_the_whole_size(
    store: ObjectStore, span: tuple[int, int]
) -> None:
    await store.put("a", b"0123456789", condition=None)
    fetched = await store.get("a", span=span)
    assert fetched.body == b"0123456789"[span[0] : span[1]]
    assert fetched.info.size == 10
    assert fetched.info.etag == md5(b"0123456789")


@pytest.mark.parametrize("span", [(0, 11), (9, 11), (10, 11), (100, 200)])
async def test_span_beyond_the_end_is_never_answered_short(
    store: ObjectStore, span: tuple[int, int]
) -> None:
    await store.put("a", b"0123456789", condition=None)
    with pytest.raises(PreconditionFailed):
        await store.get("a", span=span)


@pytest.mark.parametrize("span", [(-1, 1), (1, 1), (2, 1)])
async def test_span_without_bytes_is_refused(store: ObjectStore, span: tuple[int, int]) -> None:
    await store.put("a", b"0123456789", condition=None)
    with pytest.raises(UsageError):
        await store.get("a", span=span)


async def test_get_of_a_version_that_is_gone_is_refused(store: ObjectStore) -> None:
    old = await store.put("a", b"old", condition=None)
    assert (await store.get("a", if_match=old.etag)).body == b"old"
    await store.put("a", b"new", condition=None)
    with pytest.raises(PreconditionFailed):
        await store.get("a", if_match=old.etag)
    with pytest.raises(PreconditionFailed):
        await store.get("a", span=(0, 1), if_match=old.etag)


async def test_an_absent_object_is_not_found(store: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound):
        await store.get("a")
    with pytest.raises(ObjectNotFound):
        await store.get("a", span=(0, 1))
    with pytest.raises(ObjectNotFound):
        await store.get("a", if_match=NO_SUCH)
    with pytest.raises(ObjectNotFound):
        await store.head("a")


async def test_a_directory_is_not_an_object(store: ObjectStore) -> None:
    await store.put("a/b", b"", condition=None)
    with pytest.raises(ObjectNotFound):
        await store.get("a")
    with pytest.raises(ObjectNotFound):
        await store.head("a")


# Conditions of a put


async def test_if_absent_creates_and_never_replaces(store: ObjectStore) -> None:
    await store.put("a", b"first", condition=IfAbsent())
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"second", condition=IfAbsent())
    assert await body_of(store, "a") == b"first"


async def test_if_match_replaces_only_the_version_named(store: ObjectStore) -> None:
    first = await store.put("a", b"first", condition=None)
    second = await store.put("a", b"second", condition=IfMatch(first.etag))
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"third", condition=IfMatch(first.etag))
    assert await body_of(store, "a") == b"second"
    assert (await store.head("a")).etag == second.etag


async def test_if_match_never_creates(store: ObjectStore) -> None:
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"body", condition=IfMatch(NO_SUCH))
    with pytest.raises(ObjectNotFound):
        await store.head("a")


async def test_if_absent_holds_again_after_a_delete(store: ObjectStore) -> None:
    await store.put("a", b"first", condition=IfAbsent())
    await store.delete("a", condition=None)
    await store.put("a", b"second", condition=IfAbsent())
    assert await body_of(store, "a") == b"second"


async def race(store: ObjectStore, key: str, condition: Condition) -> list[bytes]:
    """The bodies of the puts that were told they had won, of eight at the same time."""
    won: list[bytes] = []

    async def contend(body: bytes) -> None:
        try:
            await store.put(key, body, condition=condition)
        except PreconditionFailed:
            return
        won.append(body)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(contend, f"contender {number}".encode())
    return won


async def test_one_of_many_creators_wins(store: ObjectStore) -> None:
    for attempt in range(5):
        won = await race(store, f"lock-{attempt}", IfAbsent())
        assert len(won) == 1
        assert await body_of(store, f"lock-{attempt}") == won[0]


async def test_one_of_many_replacers_wins(store: ObjectStore) -> None:
    etag = (await store.put("root", b"start", condition=IfAbsent())).etag
    for _ in range(5):
        won = await race(store, "root", IfMatch(etag))
        assert len(won) == 1
        assert await body_of(store, "root") == won[0]
        etag = md5(won[0])
        etag = (await store.put("root", b"again", condition=IfMatch(etag))).etag


async def test_an_increment_by_compare_and_swap_loses_no_step(store: ObjectStore) -> None:
    await store.put("counter", b"0", condition=IfAbsent())

    async def increment() -> None:
        for _ in range(5):
            while True:
                seen = await store.get("counter")
                body = str(int(seen.body) + 1).encode()
                try:
                    await store.put("counter", body, condition=IfMatch(seen.info.etag))
                except PreconditionFailed:
                    continue
                break

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(increment)
    assert await body_of(store, "counter") == b"20"


# What is kept beside the bytes

METADATA = {
    "mtime": "1700000000.123456789",
    "pdfs-digest": "blake2b-256:" + "ab" * 32,
    "spaces": "  two  before, two after  ",
    "percent": "100 % of %41",
    "unicode": "Kühlwasser-Rückkühlwerk 冷却水 \u00a0\u2028",
    "punctuation": "a+b=c&d?e#f;g:h,i\"j'k<l>m\\n|o~p",
}


async def test_metadata_and_content_type_come_back_as_given(store: ObjectStore) -> None:
    await store.put(
        "a", b"", condition=None, content_type="text/plain; charset=utf-8", metadata=METADATA
    )
    for info in (await store.head("a"), (await store.get("a")).info):
        assert dict(info.metadata) == METADATA
        assert info.content_type == "text/plain; charset=utf-8"


async def test_metadata_of_an_upload_come_back_as_given(store: ObjectStore) -> None:
    begun = await store.create_upload("a", content_type="image/x-dwg", metadata=METADATA)
    part = await store.upload_part("a", begun, 1, b"body")
    await store.complete_upload("a", begun, [part], condition=None)
    info = await store.head("a")
    assert dict(info.metadata) == METADATA
    assert info.content_type == "image/x-dwg"


async def test_a_new_version_keeps_nothing_of_the_old_metadata(store: ObjectStore) -> None:
    await store.put("a", b"1", condition=None, content_type="x/y", metadata={"old": "1"})
    await store.put("a", b"2", condition=None, metadata={"new": "2"})
    info = await store.head("a")
    assert dict(info.metadata) == {"new": "2"}
    assert info.content_type == "application/octet-stream"


@pytest.mark.parametrize(
    "metadata",
    [{"Upper": "x"}, {"a b": "x"}, {"": "x"}, {"é": "x"}, {"a": ""}, {"a": "x" * 3000}],
)
async def test_metadata_that_no_header_carries_is_refused(
    store: ObjectStore, metadata: dict[str, str]
) -> None:
    with pytest.raises(UsageError):
        await store.put("a", b"", condition=None, metadata=metadata)
    with pytest.raises(UsageError):
        await store.create_upload("a", metadata=metadata)
    assert await keys(store) == []


async def test_age_of_an_object_is_told_by_the_stores_clock(store: ObjectStore) -> None:
    stored = await store.put("a", b"", condition=None)
    info = await store.head("a")
    assert abs(stored.date - info.last_modified) <= 2
    assert -1 <= info.date - info.last_modified <= 5
    (row,) = await rows(store, "")
    assert abs(row.last_modified - info.last_modified) < 1
    fetched = await store.get("a")
    assert fetched.info.last_modified == info.last_modified
    assert abs(fetched.info.date - time.time()) < 60


async def test_replacing_an_object_renews_its_last_modified(store: ObjectStore) -> None:
    await store.put("a", b"1", condition=None)
    before = (await store.head("a")).last_modified
    await trio.sleep(1.1)
    await store.put("a", b"1", condition=None)
    assert (await store.head("a")).last_modified > before


# Keys

STRANGE_KEYS = {
    "spaces": "with space/and  two",
    "outer spaces": " leading and trailing ",
    "percents": "plus+percent%41%2F%",
    "query": "amp&question?hash#semicolon;equals=",
    "quotes": "quote\"single'less<greater>",
    "backslash": "back\\slash",
    "ascii": "star*[bracket]{brace}|pipe^caret`tick~tilde!$@,:",
    "tab": "tab\ttab",
    "newline": "new\nline\r",
    "controls": "bell\x07escape\x1bdelete\x7f",
    "nfc": unicodedata.normalize("NFC", "Kühlturm"),
    "nfd": unicodedata.normalize("NFD", "Kühlturm"),
    "east": "日本/プラント/配管.dwg",
    "astral": "emoji-🏭",
    "dots": "...three dots",
    "dash": "-leading-dash",
    "trailing dot": "trailing.dot.",
    "upper": "case/A",
    "lower": "case/a",
    "deep": "deep/" + "/".join("abcdefghij"),
    "long": "x/" + "é" * 127,
}
strange_keys = pytest.mark.parametrize("key", STRANGE_KEYS.values(), ids=STRANGE_KEYS)


@strange_keys
async def test_strange_keys_hold_an_object_like_any_other(store: ObjectStore, key: str) -> None:
    await store.put(key, b"body", condition=IfAbsent())
    assert (await store.get(key)).body == b"body"
    assert (await store.get(key, span=(1, 3))).body == b"od"
    assert (await store.head(key)).key == key
    assert await keys(store) == [key]
    assert await keys(store, key) == [key]
    with pytest.raises(PreconditionFailed):
        await store.put(key, b"other", condition=IfAbsent())
    await store.delete(key, condition=None)
    assert await keys(store) == []


@strange_keys
async def test_strange_keys_can_be_uploaded_in_parts_and_copied(
    store: ObjectStore, key: str
) -> None:
    await store.put(key, b"body", condition=IfAbsent())
    begun = await store.create_upload(f"{key}2")
    first = await store.upload_part(f"{key}2", begun, 1, b"x" * PART)
    last = await store.copy_part(f"{key}2", begun, 2, source=key, span=(0, 4), if_match=None)
    await store.complete_upload(f"{key}2", begun, [first, last], condition=None)
    assert await body_of(store, f"{key}2") == b"x" * PART + b"body"


@strange_keys
async def test_uploads_of_strange_keys_are_listed(store: ObjectStore, key: str) -> None:
    begun = await store.create_upload(key)
    rows = [row async for page in store.list_uploads("") for row in page]
    assert [(row.key, row.upload) for row in rows] == [(key, begun)]
    await store.abort_upload(key, begun)


async def test_normal_forms_of_unicode_are_different_keys(store: ObjectStore) -> None:
    forms = [unicodedata.normalize(form, "Rückkühlwerk") for form in ("NFC", "NFD")]
    await put_all(store, forms)
    assert [await body_of(store, form) for form in forms] == [form.encode() for form in forms]
    assert await keys(store) == sorted(forms, key=str.encode)


async def test_the_longest_key_holds_an_object(store: ObjectStore) -> None:
    key = "/".join(["k" * 200] * 6)[: store.max_key_bytes]
    assert len(key) == store.max_key_bytes
    await store.put(key, b"body", condition=IfAbsent())
    assert await body_of(store, key) == b"body"
    assert await keys(store) == [key]


@pytest.mark.parametrize("key", ["", "nul\0", "surrogate\udc80", "k" * 2000, "/".join("k" * 600)])
async def test_a_key_that_no_store_holds_is_refused_by_every_call(
    store: ObjectStore, key: str
) -> None:
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.get(key),
        lambda: store.head(key),
        lambda: store.put(key, b"", condition=None),
        lambda: store.delete(key, condition=None),
        lambda: store.create_upload(key),
        lambda: store.upload_part(key, UploadId("x"), 1, b""),
        lambda: store.complete_upload(key, UploadId("x"), [NO_SUCH], condition=None),
        lambda: store.abort_upload(key, UploadId("x")),
    ]
    for call in calls:
        with pytest.raises(UsageError):
            await call()
    assert await keys(store) == []


async def test_a_key_beside_its_child_works_or_clashes_as_promised(store: ObjectStore) -> None:
    await store.put("a/b", b"child", condition=IfAbsent())
    if store.traits.nested_keys:
        await store.put("a", b"parent", condition=IfAbsent())
        assert await keys(store) == ["a", "a/b"]
        assert await body_of(store, "a") == b"parent"
    else:
        with pytest.raises(KeyClash):
            await store.put("a", b"parent", condition=IfAbsent())
        with pytest.raises(KeyClash):
            await store.put("a/b/c", b"grandchild", condition=None)
        assert await keys(store) == ["a/b"]
    assert await body_of(store, "a/b") == b"child"


async def test_a_completed_upload_beside_its_parent_clashes_too(store: ObjectStore) -> None:
    begun, parts = await upload(store, "a/b/c", b"body")
    await store.put("a/b", b"parent", condition=None)
    if store.traits.nested_keys:
        await store.complete_upload("a/b/c", begun, parts, condition=None)
        assert await keys(store) == ["a/b", "a/b/c"]
    else:
        with pytest.raises(KeyClash):
            await store.complete_upload("a/b/c", begun, parts, condition=None)
    assert await body_of(store, "a/b") == b"parent"


async def test_a_key_can_take_the_place_of_its_deleted_children(store: ObjectStore) -> None:
    await put_all(store, ["a/b/c", "a/b/d"])
    await store.delete("a/b/c", condition=None)
    await store.delete("a/b/d", condition=None)
    await store.put("a", b"now a file", condition=IfAbsent())
    assert await keys(store) == ["a"]
    await store.delete("a", condition=None)
    await store.put("a/b", b"now a directory", condition=IfAbsent())
    assert await keys(store) == ["a/b"]


# Listing

TREE = ["a", "a-b", "a.b", "a/1", "a/2/x", "a/2/y", "a0", "b/1", "ä/1", "z"]


async def put_tree(store: ObjectStore) -> list[str]:
    names = TREE if store.traits.nested_keys else TREE[1:]
    await put_all(store, names)
    return sorted(names, key=str.encode)


async def test_listing_tells_key_size_and_etag(store: ObjectStore) -> None:
    names = await put_tree(store)
    found = {row.key: (row.size, row.etag) for row in await rows(store, "")}
    assert found == {name: (len(name.encode()), md5(name.encode())) for name in names}


async def test_listing_is_in_byte_order(store: ObjectStore) -> None:
    names = await put_tree(store)
    assert await keys(store) == names


@pytest.mark.parametrize("prefix", ["a", "a/", "a/2", "a/2/", "a/2/x", "ä", "b/1", "c", "zz", "a-"])
async def test_listing_shows_what_starts_with_the_prefix(store: ObjectStore, prefix: str) -> None:
    names = await put_tree(store)
    found = sorted(await keys(store, prefix), key=str.encode)
    assert found == [name for name in names if name.startswith(prefix)]


async def directories(store: ObjectStore, prefix: str) -> list[str]:
    return [name async for page in store.list_directories(prefix) for name in page]


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [("", ["a/", "b/", "ä/"]), ("a/", ["a/2/"]), ("a", ["a/"]), ("a/2/", []), ("c/", [])],
)
async def test_directories_are_the_next_level_below_the_prefix(
    store: ObjectStore, prefix: str, expected: list[str]
) -> None:
    await put_tree(store)
    assert await directories(store, prefix) == expected


async def test_a_directory_without_objects_is_not_listed(store: ObjectStore) -> None:
    await put_all(store, ["a/b/c", "d"])
    await store.delete("a/b/c", condition=None)
    assert await directories(store, "") == []
    assert await keys(store) == ["d"]


async def test_listing_goes_on_over_many_pages(store: ObjectStore) -> None:
    names = [f"many/{number:04}" for number in range(1100)]

    async def put_some(some: Sequence[str]) -> None:
        await put_all(store, some)

    async with trio.open_nursery() as nursery:
        for start in range(10):
            nursery.start_soon(put_some, names[start::10])
    assert await keys(store, "many/") == names


async def test_an_empty_bucket_lists_nothing(store: ObjectStore) -> None:
    assert await keys(store) == []
    assert await directories(store, "") == []
    assert [page async for page in store.list_uploads("")] == []


# Uploads in parts


async def test_parts_become_one_object_when_completed(store: ObjectStore) -> None:
    bodies = [b"a" * PART, b"b" * PART, b"the end"]
    begun, parts = await upload(store, "big", *bodies)
    with pytest.raises(ObjectNotFound):
        await store.head("big")
    stored = await store.complete_upload("big", begun, parts, condition=None)
    fetched = await store.get("big")
    assert fetched.body == b"".join(bodies)
    assert fetched.info.etag == stored.etag
    assert (await store.get("big", span=(2 * PART - 1, 2 * PART + 3))).body == b"bthe"


async def test_etag_of_a_part_is_the_md5_of_its_bytes(store: ObjectStore) -> None:
    begun, parts = await upload(store, "a", b"one")
    assert parts == [md5(b"one")]
    await store.abort_upload("a", begun)


async def test_a_part_sent_again_replaces_the_first(store: ObjectStore) -> None:
    begun, _ = await upload(store, "a", b"first")
    part = await store.upload_part("a", begun, 1, b"second")
    await store.complete_upload("a", begun, [part], condition=None)
    assert await body_of(store, "a") == b"second"


async def test_parts_may_arrive_in_any_order(store: ObjectStore) -> None:
    begun = await store.create_upload("a")
    last = await store.upload_part("a", begun, 2, b"last")
    first = await store.upload_part("a", begun, 1, b"x" * PART)
    await store.complete_upload("a", begun, [first, last], condition=None)
    assert await body_of(store, "a") == b"x" * PART + b"last"


async def test_completing_with_a_part_that_was_not_sent_is_refused(store: ObjectStore) -> None:
    begun, parts = await upload(store, "a", b"one")
    with pytest.raises(StoreRefused):
        await store.complete_upload("a", begun, [md5(b"other")], condition=None)
    with pytest.raises(StoreRefused):
        await store.complete_upload("a", begun, [*parts, md5(b"two")], condition=None)
    with pytest.raises(ObjectNotFound):
        await store.head("a")


async def test_a_part_is_filled_from_a_span_of_another_object(store: ObjectStore) -> None:
    source = hashlib.shake_128(b"source").digest(2 * PART)
    await store.put("the source", source, condition=None)
    begun = await store.create_upload("copy")
    parts = [
        await store.copy_part(
            "copy", begun, 1, source="the source", span=(1, PART + 1), if_match=None
        ),
        await store.upload_part("copy", begun, 2, b"edit" * (PART // 4)),
        await store.copy_part(
            "copy", begun, 3, source="the source", span=(PART, PART + 5), if_match=None
        ),
    ]
    await store.complete_upload("copy", begun, parts, condition=None)
    body = await body_of(store, "copy")
    assert body == source[1 : PART + 1] + b"edit" * (PART // 4) + source[PART : PART + 5]


async def test_a_copy_from_what_is_not_there_is_refused(store: ObjectStore) -> None:
    begun = await store.create_upload("copy")
    with pytest.raises(ObjectNotFound):
        await store.copy_part("copy", begun, 1, source="gone", span=(0, 4), if_match=None)
    await store.put("short", b"0123", condition=None)
    with pytest.raises(PreconditionFailed):
        await store.copy_part("copy", begun, 1, source="short", span=(2, 6), if_match=None)
    await store.abort_upload("copy", begun)


async def test_a_copy_from_another_version_is_refused(store: ObjectStore) -> None:
    need(store, "conditional_part_copy")
    old = await store.put("source", b"old", condition=None)
    new = await store.put("source", b"new", condition=None)
    begun = await store.create_upload("copy")
    with pytest.raises(PreconditionFailed):
        await store.copy_part("copy", begun, 1, source="source", span=(0, 3), if_match=old.etag)
    part = await store.copy_part("copy", begun, 1, source="source", span=(0, 3), if_match=new.etag)
    await store.complete_upload("copy", begun, [part], condition=None)
    assert await body_of(store, "copy") == b"new"


async def test_complete_if_absent_never_replaces(store: ObjectStore) -> None:
    need(store, "conditional_complete")
    begun, parts = await upload(store, "a", b"from parts")
    await store.put("a", b"was faster", condition=None)
    with pytest.raises(PreconditionFailed):
        await store.complete_upload("a", begun, parts, condition=IfAbsent())
    assert await body_of(store, "a") == b"was faster"
    begun, parts = await upload(store, "b", b"from parts")
    await store.complete_upload("b", begun, parts, condition=IfAbsent())
    assert await body_of(store, "b") == b"from parts"


async def test_complete_if_match_replaces_only_the_version_named(store: ObjectStore) -> None:
    need(store, "conditional_complete")
    old = await store.put("a", b"old", condition=None)
    begun, parts = await upload(store, "a", b"from parts")
    new = await store.put("a", b"new", condition=None)
    with pytest.raises(PreconditionFailed):
        await store.complete_upload("a", begun, parts, condition=IfMatch(old.etag))
    assert await body_of(store, "a") == b"new"
    begun, parts = await upload(store, "a", b"from parts")
    await store.complete_upload("a", begun, parts, condition=IfMatch(new.etag))
    assert await body_of(store, "a") == b"from parts"


async def test_complete_if_match_never_creates(store: ObjectStore) -> None:
    need(store, "conditional_complete")
    begun, parts = await upload(store, "a", b"from parts")
    with pytest.raises(PreconditionFailed):
        await store.complete_upload("a", begun, parts, condition=IfMatch(NO_SUCH))
    with pytest.raises(ObjectNotFound):
        await store.head("a")


async def test_one_of_many_completes_wins(store: ObjectStore) -> None:
    need(store, "conditional_complete")
    won: list[bytes] = []

    async def contend(body: bytes) -> None:
        begun, parts = await upload(store, "a", body)
        try:
            await store.complete_upload("a", begun, parts, condition=IfAbsent())
        except PreconditionFailed:
            return
        won.append(body)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(contend, f"contender {number}".encode())
    assert len(won) == 1
    assert await body_of(store, "a") == won[0]


async def test_an_aborted_upload_is_gone_and_aborting_again_is_no_error(
    store: ObjectStore,
) -> None:
    begun, parts = await upload(store, "a", b"one")
    await store.abort_upload("a", begun)
    await store.abort_upload("a", begun)
    with pytest.raises(ObjectNotFound):
        await store.upload_part("a", begun, 2, b"two")
    with pytest.raises(ObjectNotFound):
        await store.complete_upload("a", begun, parts, condition=None)
    assert await keys(store) == []


async def test_a_completed_upload_takes_no_more_parts(store: ObjectStore) -> None:
    begun, parts = await upload(store, "a", b"one")
    await store.complete_upload("a", begun, parts, condition=None)
    with pytest.raises(ObjectNotFound):
        await store.upload_part("a", begun, 2, b"two")
    assert await body_of(store, "a") == b"one"


async def test_uploads_under_way_are_listed_below_their_prefix(store: ObjectStore) -> None:
    started = time.time()
    first, _ = await upload(store, "p/a", b"one")
    second, _ = await upload(store, "p/b", b"two")
    other, _ = await upload(store, "q/c", b"three")
    found = [row async for page in store.list_uploads("p/") for row in page]
    assert {(row.key, row.upload) for row in found} == {("p/a", first), ("p/b", second)}
    assert all(abs(row.initiated - started) < 60 for row in found)
    await store.abort_upload("p/a", first)
    found = [row async for page in store.list_uploads("") for row in page]
    assert {(row.key, row.upload) for row in found} == {("p/b", second), ("q/c", other)}
    await store.abort_upload("p/b", second)
    await store.abort_upload("q/c", other)


@pytest.mark.parametrize("number", [0, -1, 10_001])
async def test_a_part_number_out_of_range_is_refused(store: ObjectStore, number: int) -> None:
    begun = await store.create_upload("a")
    with pytest.raises(UsageError):
        await store.upload_part("a", begun, number, b"")
    with pytest.raises(UsageError):
        await store.complete_upload("a", begun, [], condition=None)
    await store.abort_upload("a", begun)


# Deletes


async def test_delete_removes_and_is_no_error_twice(store: ObjectStore) -> None:
    await store.put("a", b"", condition=None)
    await store.delete("a", condition=None)
    await store.delete("a", condition=None)
    with pytest.raises(ObjectNotFound):
        await store.get("a")
    assert await keys(store) == []


async def test_a_delete_with_a_validity_removes_while_it_is_valid(store: ObjectStore) -> None:
    await put_all(store, ["a b+%", "c"])
    await store.sign_delete("a b+%", valid_for=30).send()
    await store.sign_delete("a b+%", valid_for=30).send()
    assert await keys(store) == ["c"]


async def test_delete_if_match_removes_only_the_version_named(store: ObjectStore) -> None:
    need(store, "conditional_delete")
    old = await store.put("a", b"old", condition=None)
    new = await store.put("a", b"new", condition=None)
    with pytest.raises(PreconditionFailed):
        await store.delete("a", condition=IfMatch(old.etag))
    assert await body_of(store, "a") == b"new"
    await store.delete("a", condition=IfMatch(new.etag))
    assert await keys(store) == []
    with pytest.raises(StoreError) as caught:
        await store.delete("a", condition=IfMatch(new.etag))
    assert isinstance(caught.value, ObjectNotFound | PreconditionFailed)


async def test_closing_twice_is_no_error(store: ObjectStore) -> None:
    await store.put("a", b"", condition=None)
    await store.aclose()
    await store.aclose()
