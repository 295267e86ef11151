"""Read-only mounts: one generation, whole, whoever has the stage and whatever he does to it."""

import errno
import gzip
import itertools
import json
import os
import stat
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest
import trio

from pdfs.core import manifest as core_manifest
from pdfs.core.ids import Inode, Path
from pdfs.core.moving import Numbers
from pdfs.errors import ContentLost, ObjectDamaged, ProjectNotFound
from pdfs.fs.error import FsError
from pdfs.fs.plan import Change
from pdfs.mount.access import check_exists
from pdfs.stage.present import read_present
from pdfs.stage.root import read_root
from pdfs.store.faulty import Fate, Request
from pdfs.store.memory import ALL_TRAITS, MemoryStore
from pdfs.store.objects import Listed
from tests.conftest import ExpectedWarnings
from tests.core.test_document import at_most
from tests.fs.process import Process
from tests.stage.contexts import Site
from tests.stage.readers import reading
from tests.stage.works import Person, sit_down

PLAN, LIST, MODEL = Path("plan.dwg"), Path("lists/list.csv"), Path("models/model.ifc")
FIRST = {PLAN: b"a plan", LIST: b"1;2;3", MODEL: bytes(1000) + b"a big model"}
"""One content beside others in a pack, one that is sent in parts."""


async def publish(anna: Person) -> None:
    """Publish everything, and go on."""
    await anna.publish()
    await anna.catch_up()


async def drawn(site: Site) -> Person:
    """anna, who has published FIRST."""
    anna = await sit_down(site, site.context())
    for path, data in FIRST.items():
        anna.editor.write(path, data)
    await publish(anna)
    return anna


async def redraw(anna: Person, **files: bytes) -> None:
    """Publish other versions of all files, and these."""
    for path, data in FIRST.items():
        anna.editor.write(path, data + b" redrawn")
    for name, data in files.items():
        anna.editor.write(Path(name), data)
    await publish(anna)


async def test_a_reader_shows_the_generation_that_it_opened_for_as_long_as_it_lives() -> None:
    site = Site()
    anna = await drawn(site)
    async with reading(site.context("bert")) as bert:
        for number in range(5):
            await redraw(anna, new=b"%d" % number)
            anna.editor.delete(PLAN)
            anna.editor.move(LIST, Path("moved.csv"))
            await publish(anna)
            await trio.sleep(86400)
            assert await bert.everything() == FIRST
        assert bert.shown.generation == 1
    async with reading(site.context("bert")) as bert:
        assert bert.shown.generation == 11
        assert set(await bert.everything()) == {"new", "moved.csv", MODEL}


async def test_a_reader_sends_nothing_but_reads_and_waits_for_no_plan() -> None:
    site, asked = Site(), list[Request]()

    def fate_of(request: Request) -> Fate:
        asked.append(request)
        return Fate.FINE

    async with trio.open_nursery() as nursery:
        anna = await drawn(site)
        anna.editor.write(PLAN, b"committed, but not applied")
        await anna.publish()
        before = dict(site.store.objects)
        ctx = site.context("bert", store=site.behind(nursery, fate_of))
        started = trio.current_time()
        async with reading(ctx, follows=True) as bert:
            assert trio.current_time() - started < site.timing.foreign_plan_wait
            assert await bert.everything() == FIRST | {PLAN: b"committed, but not applied"}
            await trio.sleep(10 * site.timing.foreign_plan_wait)
        assert not any(request.is_write for request in asked)
        assert site.store.objects == before
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_locked", [True, False])
async def test_a_bucket_that_nobody_has_published_is_shown_as_it_lies_there(
    is_locked: bool,
) -> None:
    site = Site()
    for path, data in FIRST.items():
        await site.store.put(site.keys.plain(path), data, condition=None)
    await site.store.put(site.keys.plain(Path("bad//name")), b"x", condition=None)
    anna = await sit_down(site, site.context()) if is_locked else None
    async with reading(site.context("bert")) as bert:
        assert bert.shown.generation == 0
        assert await bert.everything() == FIRST
        assert [warned.path for warned in bert.reader.warnings] == ["bad//name"]
    assert (anna is None) == (site.keys.lock not in site.store.objects)


async def test_a_listing_during_which_the_first_publish_came_is_not_shown() -> None:
    site = Site()
    site.store = store = ListedAmidPublish(now=site.now, traits=ALL_TRAITS)
    await site.store.put(site.keys.plain(PLAN), b"by another tool", condition=None)
    anna = await sit_down(site, site.context())
    anna.editor.write(PLAN, b"by anna")
    store.publish = partial(publish, anna)
    async with reading(site.context("bert")) as bert:
        assert bert.shown.generation == 1
        assert await bert.everything() == {PLAN: b"by anna"}


class ListedAmidPublish(MemoryStore):
    """A publish comes between a listing and its reader."""

    publish: Callable[[], Awaitable[None]] | None = None

    async def list(self, prefix: str) -> AsyncIterator[Sequence[Listed]]:
        async for page in super().list(prefix):
            if self.publish is not None:
                publish, self.publish = self.publish, None
                await publish()
            yield page


async def test_what_is_not_there_is_no_stage() -> None:
    with pytest.raises(ProjectNotFound, match="no project 'Kraftwerk'"):
        await check_exists(Site().context())


def _open_for_write(bert: Process) -> object:
    return bert.open(PLAN, os.O_WRONLY)


CHANGES: dict[str, Callable[[Process], object]] = {
    "open for write": _open_for_write,
    "truncate by open": lambda bert: bert.open(PLAN, os.O_RDONLY | os.O_TRUNC),
    "create": lambda bert: bert.open("new", os.O_CREAT | os.O_WRONLY),
    "mknod": lambda bert: bert.mknod("new", stat.S_IFIFO | 0o644),
    "mkdir": lambda bert: bert.mkdir("new"),
    "symlink": lambda bert: bert.symlink("to", "new"),
    "link": lambda bert: bert.link(PLAN, "new"),
    "unlink": lambda bert: bert.unlink(PLAN),
    "rmdir": lambda bert: bert.rmdir("models"),
    "rename": lambda bert: bert.rename(PLAN, "new"),
    "chmod": lambda bert: bert.chmod(PLAN, 0o600),
    "truncate": lambda bert: bert.truncate(PLAN, 0),
    "utimens": lambda bert: bert.change(PLAN, Change(mtime=1)),
    "setxattr": lambda bert: bert.setxattr(PLAN, "user.a", b"1"),
    "removexattr": lambda bert: bert.removexattr(PLAN, "user.a"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_every_change_is_refused_as_on_a_read_only_file_system(
    change: Callable[[Process], object],
) -> None:
    site = Site()
    await drawn(site)
    async with reading(site.context("bert")) as bert:
        with pytest.raises(FsError) as refused:
            change(bert)
        assert refused.value.errno == errno.EROFS
        assert await bert.everything() == FIRST
        await bert.fs.fsync(bert.open(PLAN))


# --- bytes that are not what they should be -------------------------------------------------------


def lie(site: Site, key: str, body: bytes) -> None:
    """Other bytes, which the store calls by the ETag of those that were put."""
    site.store._objects[key] = replace(site.store.objects[key], body=body)


async def _remove(site: Site, key: str) -> None:
    await site.store.delete(key, condition=None)


def _replaced(change: Callable[[bytes], bytes]) -> Callable[[Site, str], Awaitable[None]]:
    async def replace_body(site: Site, key: str) -> None:
        await trio.lowlevel.checkpoint()
        lie(site, key, change(site.store.objects[key].body))

    return replace_body


KINDS: dict[str, Callable[[Site, str], Awaitable[None]]] = {
    "missing": _remove,
    "wrong hash": _replaced(lambda body: body[:-1] + bytes([body[-1] ^ 1])),
    "shorter": _replaced(lambda body: body[:-1]),
    "empty": _replaced(lambda body: b""),
    "shifted": _replaced(lambda body: b"x" + body),
    "zeros": _replaced(lambda body: bytes(len(body))),
}


@pytest.mark.figure(name="S6")
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_bytes_that_are_not_those_published_are_an_error_that_names_the_file(
    kind: Callable[[Site, str], Awaitable[None]],
) -> None:
    site = Site()
    await drawn(site)
    async with reading(site.context("bert")) as bert:
        for key, found in [*site.store.objects.items()]:
            if found.body == FIRST[MODEL]:
                await kind(site, key)
        with pytest.raises(ContentLost, match=r"'models/model.ifc' can't be read: .* are nowhere"):
            await bert.read_file(MODEL)
        assert set(bert.fs.unreadable) == {MODEL}
        assert "nowhere in the bucket" in bert.fs.unreadable[MODEL]
        assert await bert.read_file(PLAN) == FIRST[PLAN]
        assert await bert.read_file(LIST) == FIRST[LIST]


@pytest.mark.figure(name="S6")
async def test_an_older_version_in_the_place_of_the_current_one_is_an_error_that_names_it() -> None:
    site = Site()
    anna = await drawn(site)
    anna.editor.write(MODEL, bytes(1000) + b"a NEW model")
    await publish(anna)
    for key, found in [*site.store.objects.items()]:
        if found.body.endswith(b"a NEW model"):
            lie(site, key, FIRST[MODEL])
    async with reading(site.context("bert")) as bert:
        with pytest.raises(ContentLost, match=r"'models/model.ifc' can't be read"):
            await bert.read_file(MODEL)
        assert await bert.read_file(PLAN) == FIRST[PLAN]


@pytest.mark.figure(name="S6")
async def test_an_object_that_another_tool_replaced_is_never_shown_in_place_of_the_published() -> (
    None
):
    """Also where nobody has read it yet, so that no digest is known."""
    site = Site()
    await site.store.put(site.keys.plain(PLAN), b"first", condition=None)
    await site.store.put(site.keys.plain(LIST), b"1;2", condition=None)
    async with reading(site.context("bert")) as bert:
        await site.store.put(site.keys.plain(PLAN), b"other", condition=None)
        with pytest.raises(ContentLost, match=r"'plan.dwg' can't be read"):
            await bert.read_file(PLAN)
        assert await bert.read_file(LIST) == b"1;2"


# --- generations gone by --------------------------------------------------------------------------


async def _overwrite(anna: Person, site: Site) -> None:
    for path in FIRST:
        anna.editor.write(path, b"another " + path.encode())
    await publish(anna)


async def _write_into(anna: Person, site: Site) -> None:
    for path in FIRST:
        anna.editor.write_at(path, 1, b"PATCH")
    await publish(anna)


async def _swap(anna: Person, site: Site) -> None:
    for old, new in ((PLAN, "tmp"), (LIST, PLAN), ("tmp", LIST)):
        anna.editor.move(Path(old), Path(new))
    await publish(anna)


async def _delete(anna: Person, site: Site) -> None:
    for path in FIRST:
        anna.editor.delete(path)
    await publish(anna)


async def _rename_and_overwrite(anna: Person, site: Site) -> None:
    for number, path in enumerate(FIRST):
        anna.editor.move(path, Path(f"old {number}"))
    await publish(anna)
    for number, path in enumerate(FIRST):
        anna.editor.write(path, b"in its place")
        anna.editor.delete(Path(f"old {number}"))
    await publish(anna)


async def _stop_amid_the_plan(anna: Person, site: Site) -> None:
    for path in FIRST:
        anna.editor.write(path, b"half applied " + path.encode())
    await anna.publish()
    before = dict(site.store.objects)
    await anna.catch_up()
    assert before != site.store.objects


WORKS = [_overwrite, _write_into, _swap, _delete, _rename_and_overwrite, _stop_amid_the_plan]


@pytest.mark.parametrize("begins", ["drawn", "found"])
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__.strip("_"))
async def test_every_byte_of_a_generation_can_be_read_for_days_whatever_is_published_since(
    work: Callable[[Person, Site], Awaitable[None]], begins: str
) -> None:
    """Of one that another tool has put there, too: nobody has read that, so no digest is known."""
    site = Site()
    if begins == "drawn":
        anna = await drawn(site)
    else:
        for path, data in FIRST.items():
            await site.store.put(site.keys.plain(path), data, condition=None)
        anna = await sit_down(site, site.context())
    async with reading(site.context("bert")) as bert:
        assert bert.shown.generation == (1 if begins == "drawn" else 0)
        await work(anna, site)
        for day in range(6):
            anna.editor.write(Path("diary"), b"day %d" % day)
            await publish(anna)
            assert await bert.everything() == FIRST
            await trio.sleep(86400)


# --- following ------------------------------------------------------------------------------------


async def test_who_follows_sees_each_generation_and_what_is_open_stays_as_it_was_opened() -> None:
    site = Site()
    anna = await drawn(site)
    async with reading(site.context("bert"), follows=True) as bert:
        plan, lists = bert.open(PLAN), bert.stat(LIST).ino
        since = bert.shown.since
        await trio.sleep(100)
        assert bert.shown.since == since
        anna.editor.write(PLAN, b"another plan, and a longer one")
        anna.editor.delete(MODEL)
        anna.editor.write(Path("models/new.ifc"), b"new")
        await publish(anna)
        await bert.wait_generation(2)
        assert await bert.pread(plan, 1000, 0) == FIRST[PLAN]
        assert await bert.everything() == {
            PLAN: b"another plan, and a longer one",
            LIST: FIRST[LIST],
            "models/new.ifc": b"new",
        }
        assert bert.stat(LIST).ino == lists, "it has not changed"
        assert bert.shown.since == pytest.approx(site.now(), abs=site.timing.follow)
        names = {name for _, name in bert.names}
        assert b"plan.dwg" in names, "the kernel has to forget it"
        assert b"list.csv" not in names
        bert.close(plan)
        assert not bert.fs.tree.orphans, "what nobody uses any more goes"


async def test_a_listing_that_has_begun_ends_in_the_generation_that_it_began_in() -> None:
    site = Site()
    anna = await sit_down(site, site.context())
    old = [f"{number:02}" for number in range(20)]
    for name in old:
        anna.editor.write(Path(name), b"old")
    await publish(anna)
    async with reading(site.context("bert"), follows=True) as bert:
        handle = bert.fs.opendir(Inode(1))
        listed = list(itertools.islice(bert.fs.readdir(handle, 0), 8))
        for number, name in enumerate(old):
            anna.editor.move(Path(name), Path(f"new-{number}"))
        await publish(anna)
        await bert.wait_generation(2)
        rest = list(bert.fs.readdir(handle, listed[-1].next))
        assert sorted(os.fsdecode(each.name) for each in [*listed, *rest] if not each.is_dot) == old
        assert not any(each.is_past for each in listed)
        assert all(each.is_past for each in rest), "the kernel must not keep them"
        again = [os.fsdecode(each.name) for each in bert.fs.readdir(handle, 0) if not each.is_dot]
        assert sorted(again) == sorted(f"new-{number}" for number in range(20))
        bert.fs.releasedir(handle)


async def test_who_follows_shows_the_first_publish_of_a_bucket_that_had_none() -> None:
    site = Site()
    await site.store.put(site.keys.plain(PLAN), b"by another tool", condition=None)
    async with reading(site.context("bert"), follows=True) as bert:
        anna = await sit_down(site, site.context())
        anna.editor.write(LIST, b"1")
        await publish(anna)
        await bert.wait_generation(1)
        assert await bert.everything() == {PLAN: b"by another tool", LIST: b"1"}


async def test_a_root_that_goes_back_or_is_damaged_changes_nothing_and_is_told(
    expected_warnings: ExpectedWarnings,
) -> None:
    site = Site()
    anna = await drawn(site)
    old = site.store.objects[site.keys.root].body
    await redraw(anna)
    async with reading(site.context("bert"), follows=True) as bert:
        before = await bert.everything()
        new = site.store.objects[site.keys.root].body
        for body, words in ((old, "generation 1"), (b"no root", "root.json"), (None, "is gone")):
            if body is None:
                await site.store.delete(site.keys.root, condition=None)
            else:
                await site.store.put(site.keys.root, body, condition=None)
            await trio.sleep(10 * site.timing.follow)
            assert words in str(bert.reader.trouble)
            expected_warnings.take(words)
            assert await bert.everything() == before
        await site.store.put(site.keys.root, new, condition=None)
        await trio.sleep(2 * site.timing.follow)
        assert bert.reader.trouble is None


# --- hostile manifests ----------------------------------------------------------------------------


def _bomb() -> bytes:
    """256 KiB that would be 256 MiB of JSON: gzip can't do more."""
    packer = zlib.compressobj(9, wbits=31)
    begin = f'{{"schema":{core_manifest.SCHEMA},"entries":['.encode()
    head = packer.compress(begin) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(4 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * 64 + packer.flush()


def _entries(*entries: dict[str, object]) -> bytes:
    found = {"kind": "directory", "mode": 0, "mtime": 0}
    made: dict[str, object] = {
        "schema": core_manifest.SCHEMA,
        "generation": 2,
        "publish": "",
        "time": 0,
        "predecessor": None,
    }
    made |= {"top": {"mode": 0, "mtime": 0, "xattrs": {}}, "kept": {}}
    return gzip.compress(
        json.dumps({**made, "entries": [{**found, **e} for e in entries]}).encode()
    )


HOSTILE = {
    "a bomb": (_bomb, "unpacks to more than"),
    "a cycle": (
        lambda: _entries({"path": "a/b", "ino": 8}, {"path": "b/a", "ino": 9}),
        "before its directory",
    ),
    "a missing parent": (lambda: _entries({"path": "d/a", "ino": 9}), "before its directory"),
    "a number twice": (
        lambda: _entries({"path": "a", "ino": 9}, {"path": "b", "ino": 9}),
        "inode 9 stands twice",
    ),
    "a name twice": (
        lambda: _entries({"path": "a", "ino": 8}, {"path": "a", "ino": 9}),
        "stands twice",
    ),
}


@pytest.mark.figure(name="H8")
@pytest.mark.parametrize(("make", "words"), HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_manifest_is_no_generation_and_who_follows_stays_where_he_is(
    make: Callable[[], bytes], words: str, expected_warnings: ExpectedWarnings
) -> None:
    site = Site()
    anna = await drawn(site)
    good = site.store.objects[site.keys.root].body
    async with reading(site.context("bert"), follows=True) as bert:
        await redraw(anna)
        seen = await read_root(site.context())
        assert seen is not None
        assert seen.root.tree is not None
        await site.store.put(site.keys.tree(seen.root.tree), make(), condition=None)
        with at_most(seconds=1, mebibytes=200), pytest.raises(ObjectDamaged, match=words):
            await read_present(site.context(), Numbers().new)
        await trio.sleep(2 * site.timing.follow)
        expected_warnings.take(words)
        assert words in str(bert.reader.trouble)
        assert await bert.everything() == FIRST
    assert good != site.store.objects[site.keys.root].body
