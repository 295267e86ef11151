"""Fetching: the right bytes from any home, or an error that names the file (figure S6)."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest
import trio

from pdfs.core import manifest as core_manifest
from pdfs.core import root as core_root
from pdfs.core.content import EMPTY, Content, ETag, Packed, Plain, content_of, digest_of
from pdfs.core.entries import Entry
from pdfs.core.ids import Fence, Inode, ObjectName, Path, object_name
from pdfs.core.manifest import Kept, Manifest, never_published
from pdfs.core.record import Kind
from pdfs.core.root import Root
from pdfs.errors import (
    ContentLost,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from pdfs.stage.context import StageContext, T, at_once
from pdfs.stage.fetch import _homes_in, fetch_parts, fetch_span, fetch_whole
from pdfs.store.faulty import Fate, Request
from pdfs.store.memory import MemoryStore
from pdfs.store.objects import Fetched
from tests.stage.contexts import SIZES, Site, fine

DATA = bytes(range(256)) + b"the rest"
SMALL = b"a pump"
PATH = Path("pumps/P-101.dwg")


def name(number: int) -> ObjectName:
    return object_name(Fence(1), f"{number:x}")


async def packed(site: Site, data: bytes, number: int = 1, before: bytes = b"....") -> Content:
    """A content in a contents object, behind some other bytes."""
    await site.store.put(site.keys.content(name(number)), before + data + b"....", condition=None)
    content = content_of(data, smallest_part=SIZES.part)
    return content.with_packed(Packed(name(number), len(before)))


async def plain(site: Site, data: bytes, *, is_read: bool = False) -> Content:
    """A plain object, with or without a known digest."""
    stored = await site.store.put(site.keys.plain(PATH), data, condition=None)
    home = Plain(PATH, stored.etag)
    if is_read:
        return content_of(data, smallest_part=SIZES.part).with_plain(home)
    return Content(size=len(data), digest=None, plain=(home,))


async def lost(ctx: StageContext, content: Content) -> str:
    """The message with which the content is reported as lost."""
    with pytest.raises(ContentLost) as raised:
        await fetch_whole(ctx, content)
    return str(raised.value)


@pytest.mark.parametrize("data", [DATA, SMALL, b"x"])
@pytest.mark.parametrize("is_read", [True, False])
async def test_a_content_is_the_same_from_each_kind_of_home(data: bytes, is_read: bool) -> None:
    site = Site()
    ctx = site.context()
    for content in (await packed(site, data), await plain(site, data, is_read=is_read)):
        assert await fetch_whole(ctx, content) == data


async def test_an_empty_content_needs_no_request() -> None:
    site = Site()
    assert await fetch_whole(site.context(), EMPTY) == b""
    assert await fetch_whole(site.context(), Content(size=0, digest=None)) == b""


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (0, 128), (127, 129), (128, 256), (5, 250), (200, 264), (263, 264)]
)
async def test_any_span_is_read_in_whole_parts_that_are_checked(start: int, stop: int) -> None:
    site = Site()
    assert (
        await fetch_span(site.context(), await packed(site, DATA), start, stop)
        == (DATA[start:stop])
    )
    assert (
        await fetch_span(site.context(), await plain(site, DATA), start, stop) == (DATA[start:stop])
    )


async def test_parts_come_in_order_and_only_those_that_were_asked_for() -> None:
    site = Site()
    content = await packed(site, DATA)
    assert await fetch_parts(site.context(), content, 1, 3) == [DATA[128:256], DATA[256:]]


# --- S6: what is wrong at one home is taken from another ------------------------------------------


DAMAGES = ["missing", "wrong bytes", "one bit", "short", "empty", "zeros", "shifted"]


async def damage(site: Site, key: str, how: str) -> None:
    body = site.store.objects[key].body
    match how:
        case "missing":
            await site.store.delete(key, condition=None)
            return
        case "wrong bytes":
            body = bytes(reversed(body))
        case "one bit":
            body = body[:7] + bytes([body[7] ^ 1]) + body[8:]
        case "short":
            body = body[:7]
        case "empty":
            body = b""
        case "zeros":
            body = bytes(len(body))
        case _:
            body = b"?" + body
    await site.store.put(key, body, condition=None)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("data", [DATA, SMALL])
async def test_damage_in_a_contents_object_is_found_and_the_file_named(
    data: bytes, how: str
) -> None:
    site = Site()
    content = (await packed(site, data)).with_plain(Plain(PATH, ETag("gone")))
    await damage(site, site.keys.content(name(1)), how)
    assert str(PATH) in await lost(site.context(), content)


@pytest.mark.parametrize("how", DAMAGES)
async def test_a_plain_object_that_is_another_by_now_is_never_read(how: str) -> None:
    site = Site()
    for is_read in (True, False):
        content = await plain(site, DATA, is_read=is_read)
        await damage(site, site.keys.plain(PATH), how)
        assert str(PATH) in await lost(site.context(), content)


@pytest.mark.parametrize("how", DAMAGES)
async def test_what_one_home_lacks_comes_from_the_next(how: str) -> None:
    site = Site()
    one, other = await packed(site, DATA, 1), await packed(site, DATA, 2, b"other")
    both = one.with_packed(*one.packed, *other.packed)
    await damage(site, site.keys.content(name(1)), how)
    assert await fetch_whole(site.context(), both) == DATA
    await damage(site, site.keys.content(name(2)), how)
    await plain(site, DATA)
    etag = site.store.objects[site.keys.plain(PATH)].etag
    assert await fetch_whole(site.context(), both.with_plain(Plain(PATH, etag))) == DATA


async def test_no_content_is_ever_spliced_from_two_versions() -> None:
    site = Site()
    content = await plain(site, DATA)
    (first,) = await fetch_parts(site.context(), content, 0, 1)
    await site.store.put(site.keys.plain(PATH), b"B" * len(DATA), condition=None)
    assert first == DATA[:128]
    with pytest.raises(ContentLost):
        await fetch_parts(site.context(), content, 1, 2)


async def test_other_files_stay_readable() -> None:
    site = Site()
    good, bad = await packed(site, DATA, 1), await packed(site, SMALL, 2)
    await damage(site, site.keys.content(name(2)), "missing")
    await lost(site.context(), bad)
    assert await fetch_whole(site.context(), good) == DATA


@pytest.mark.parametrize(
    "content",
    [
        content_of(SMALL).with_packed(Packed(ObjectName("../../x"), 0)),
        content_of(SMALL).with_packed(Packed(ObjectName("x\0"), 0)),
        content_of(SMALL).with_packed(Packed(ObjectName("\ud800"), 0)),
        content_of(SMALL).with_packed(Packed(ObjectName("x" * 2000), 0)),
        content_of(SMALL).with_packed(Packed(name(1), (1 << 63) - 1)),
        content_of(SMALL).with_plain(Plain(Path("\udcff"), ETag("e"))),
        Content(size=6, digest=digest_of(b"other")),
    ],
)
async def test_a_home_that_can_not_be_is_no_home(content: Content) -> None:
    site = Site()
    await packed(site, SMALL)
    await lost(site.context(), content)


# --- where the content moved to -------------------------------------------------------------------


async def publish(site: Site, manifest: Manifest, tree: ObjectName | None = None) -> None:
    """Make this the stage's current generation."""
    tree = tree or name(9)
    root = Root(
        id="1",
        generation=1,
        fence=Fence(1),
        session=site.context().owner.session,
        run=site.context().owner.run,
        tree=tree,
        plan=None,
        sessions=(),
    )
    store, keys = site.store, site.keys
    await store.put(keys.tree(tree), core_manifest.encode(manifest), condition=None)
    await store.put(keys.root, core_root.encode(root), condition=None)


async def test_what_no_home_has_is_looked_up_by_its_digest_in_the_current_generation() -> None:
    site = Site()
    old = (await packed(site, DATA, 1)).with_plain(Plain(PATH, ETag("gone")))
    await damage(site, site.keys.content(name(1)), "missing")
    new = await packed(site, DATA, 2)
    assert new.digest is not None
    await publish(site, replace(never_published(), kept={new.digest: Kept(content=new, time=0)}))
    assert await fetch_whole(site.context(), old) == DATA
    with pytest.raises(ContentLost):
        await fetch_parts(site.context(), old, 0, 1, look_up=False)


async def test_a_look_through_a_whole_generation_holds_up_nobody() -> None:
    site, computed = Site(), list[object]()

    async def compute(call: Callable[[], T]) -> T:
        computed.append(getattr(call, "func", call))
        return await at_once(call)

    old = await packed(site, DATA, 1)
    await damage(site, site.keys.content(name(1)), "missing")
    await publish(site, never_published())
    await lost(replace(site.context(), compute=compute), old)
    assert _homes_in in computed


async def test_a_content_without_a_digest_is_looked_up_by_the_plain_home_that_it_had() -> None:
    site = Site()
    content = await plain(site, DATA)
    await damage(site, site.keys.plain(PATH), "missing")
    await publish(site, never_published())
    assert str(PATH) in await lost(site.context(), content)
    kept = await packed(site, DATA, 2)
    assert kept.digest is not None
    other = Kept(content=kept, time=0, was=(Plain(PATH, ETag("another version")),))
    await publish(site, replace(never_published(), kept={kept.digest: other}), name(8))
    assert str(PATH) in await lost(site.context(), content)
    same = replace(other, was=(*other.was, *content.plain))
    await publish(site, replace(never_published(), kept={kept.digest: same}), name(7))
    assert await fetch_whole(site.context(), content) == DATA


async def test_a_home_that_a_publish_takes_away_while_it_is_asked_for_is_looked_up_again() -> None:
    site = Site()
    site.store = store = ChangesAtRead(now=site.now)
    lost_home = (await packed(site, DATA, 1)).packed
    copy = await plain(site, DATA, is_read=True)
    kept = await packed(site, DATA, 2)
    await damage(site, site.keys.content(name(1)), "missing")
    assert kept.digest is not None
    folder = Entry(path=Path("pumps"), ino=Inode(6), kind=Kind.DIRECTORY, mode=0o755, mtime=0)
    copied = Entry(path=PATH, ino=Inode(7), kind=Kind.FILE, mode=0o644, mtime=0, content=copy)
    await publish(site, replace(never_published(), entries=(folder, copied)))
    after = replace(never_published(), kept={kept.digest: Kept(content=kept, time=0)})
    store.changes[site.keys.plain(PATH)] = partial(publish, site, after, name(8))
    assert await fetch_whole(site.context(), kept.with_packed(*lost_home)) == DATA
    assert not store.changes, "the copy was never asked for"


class ChangesAtRead(MemoryStore):
    """Objects that somebody removes, with what he does then, just before they are read."""

    changes: dict[str, Callable[[], Awaitable[None]]]

    def __init__(self, *, now: Callable[[], float]) -> None:
        super().__init__(now=now)
        self.changes = {}

    async def get(
        self, key: str, *, span: tuple[int, int] | None = None, if_match: ETag | None = None
    ) -> Fetched:
        if key in self.changes:
            await self.changes.pop(key)()
            await self.delete(key, condition=None)
        return await super().get(key, span=span, if_match=if_match)


# --- a store that does not answer -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fate", "error"),
    [
        (Fate.REQUEST_LOST, StoreUnavailable),
        (Fate.UNAVAILABLE, StoreUnavailable),
        (Fate.REFUSED, StoreRefused),
    ],
)
async def test_a_home_that_may_have_the_bytes_is_not_called_lost_while_it_stays_silent(
    fate: Fate, error: type[StoreError]
) -> None:
    site = Site()
    content = await packed(site, DATA)

    def fate_of(request: Request) -> Fate:
        return fate if request.key == site.keys.content(name(1)) else Fate.FINE

    async with trio.open_nursery() as nursery:
        with pytest.raises(error):
            await fetch_whole(site.context(store=site.behind(nursery, fate_of)), content)


async def test_a_home_that_is_refused_does_not_hide_another_that_answers() -> None:
    site = Site()
    one, other = await packed(site, DATA, 1), await packed(site, DATA, 2)
    both = one.with_packed(*one.packed, *other.packed)

    def fate_of(request: Request) -> Fate:
        return Fate.REFUSED if request.key == site.keys.content(name(1)) else Fate.FINE

    async with trio.open_nursery() as nursery:
        assert await fetch_whole(site.context(store=site.behind(nursery, fate_of)), both) == DATA
        assert await fetch_whole(site.context(store=site.behind(nursery, fine)), both) == DATA


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("wrong", [PreconditionFailed("a"), ObjectNotFound("a"), None])
async def test_one_wrong_answer_is_not_believed(wrong: StoreError | None, is_read: bool) -> None:
    """What counts as lost is published as lost, and its object deleted."""

    class Lying(MemoryStore):
        is_honest = False

        async def get(
            self, key: str, *, span: tuple[int, int] | None = None, if_match: ETag | None = None
        ) -> Fetched:
            fetched = await super().get(key, span=span, if_match=if_match)
            was_honest, self.is_honest = self.is_honest or key == site.keys.root, True
            if was_honest:
                return fetched
            if wrong is not None:
                raise wrong
            return replace(fetched, body=bytes(len(fetched.body)))

    site = Site()
    site.store = Lying(now=site.now)
    content = await plain(site, SMALL, is_read=is_read)
    assert await fetch_whole(site.context(), content) == SMALL


async def test_where_an_etag_is_no_md5_two_looks_that_agree_have_to_do() -> None:
    class Sealed(MemoryStore):
        looks = 0

        async def get(
            self, key: str, *, span: tuple[int, int] | None = None, if_match: ETag | None = None
        ) -> Fetched:
            self.looks += 1
            return await super().get(key, span=span)

    site = Site()
    site.store = store = Sealed(now=site.now)
    await plain(site, SMALL)
    sealed = Content(size=len(SMALL), digest=None, plain=(Plain(PATH, ETag("0" * 32)),))
    assert await fetch_whole(site.context(), sealed) == SMALL
    assert store.looks == 2
