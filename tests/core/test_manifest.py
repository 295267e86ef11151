"""Manifests: what a generation is in bytes, and everything else refused (L4, H7, H8)."""

import gzip
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core import document
from pdfs.core.content import Content, Digest, ETag, Packed, Plain
from pdfs.core.entries import Entry
from pdfs.core.ids import Inode, Path, PublishId
from pdfs.core.manifest import Kept, Manifest, Top, decode, encode, never_published, relinked
from pdfs.core.record import Kind
from pdfs.errors import ObjectDamaged
from tests.core.hostile import (
    FILES,
    HOSTILE_NUMBERS,
    NO_FILES,
    documents_that_are_none,
    fuzzed,
    wrong_fields,
)
from tests.core.test_document import at_most, bomb
from tests.core.values import contents, manifests, named, trees_of_entries

KEY = "p/.pdfs/s/trees/000000000007-x.json.gz"
HASH = Digest(b"\xaa" * 32)
PUMP = Content(
    size=9,
    digest=HASH,
    parts=(Digest(b"\xbb" * 32), Digest(b"\xcc" * 32)),
    packed=(Packed(named("c"), 4),),
)
GOLDEN = Manifest(
    generation=3,
    publish=PublishId("000000000007-p"),
    time=1.5,
    predecessor=named("o"),
    top=Top(mode=0o755, mtime=-5, xattrs={"user.t": b"\xff"}),
    entries=relinked(
        [
            Entry(path=Path("d"), ino=Inode(8), kind=Kind.DIRECTORY, mode=0o2775, mtime=6),
            Entry(
                path=Path("d/ä"),
                ino=Inode(9),
                kind=Kind.FILE,
                mode=0o644,
                mtime=1 << 64,
                xattrs={"user.x": b"\0"},
                content=PUMP,
            ),
            Entry(
                path=Path("d/b\udcff"),
                ino=Inode(9),
                kind=Kind.FILE,
                mode=0o644,
                mtime=1 << 64,
                xattrs={"user.x": b"\0"},
                content=PUMP,
            ),
            Entry(
                path=Path("l"), ino=Inode(10), kind=Kind.SYMLINK, mode=0o777, mtime=0, target="d"
            ),
            Entry(path=Path("n"), ino=Inode(11), kind=Kind.BLOCK, mode=0, mtime=0, rdev=7),
            Entry(
                path=Path("x"),
                ino=Inode(12),
                kind=Kind.FILE,
                mode=0,
                mtime=0,
                content=Content(size=1, digest=None),
                lost=True,
            ),
        ],
        {Path("d/ä"): ETag("e1")},
    ),
    kept={HASH: Kept(content=Content(size=PUMP.size, digest=HASH, packed=PUMP.packed), time=2.0)},
    aside={Path("d/b\udcff"): None, Path("gone"): ETag("e0")},
)
_HASH = "aa" * 32
GOLDEN_TEXT = (
    '{"schema":2,"generation":3,"publish":"000000000007-p","time":1.5,'
    '"predecessor":"000000000007-o","top":{"mode":493,"mtime":-5,"xattrs":{"user.t":"/w=="}},'
    '"entries":[{"path":"d","ino":8,"kind":"directory","mode":1533,"mtime":6},'
    '{"path":"d/\\u00e4","ino":9,"kind":"file","mode":420,"mtime":18446744073709551616,'
    f'"xattrs":{{"user.x":"AA=="}},"size":9,"digest":"{_HASH}",'
    f'"parts":["{"bb" * 32}","{"cc" * 32}"],"packed":[["000000000007-c",4]],"etag":"e1"}},'
    '{"path":"d/b\\udcff","ino":9},'
    '{"path":"l","ino":10,"kind":"symlink","mode":511,"mtime":0,"target":"d"},'
    '{"path":"n","ino":11,"kind":"block","mode":0,"mtime":0,"rdev":7},'
    '{"path":"x","ino":12,"kind":"file","mode":0,"mtime":0,"size":1,"lost":true}],'
    f'"kept":{{"{_HASH}":{{"size":9,"digest":"{_HASH}","packed":[["000000000007-c",4]],'
    '"time":2.0}},"aside":{"d/b\\udcff":"","gone":"e0"}}'
)


def packed(**changes: object) -> bytes:
    """The golden manifest with some of its fields changed."""
    return document.pack({**json.loads(GOLDEN_TEXT), **changes})


def one_file(**changes: object) -> bytes:
    """A manifest of one file with some of its fields changed; `...` leaves one out."""
    fields = {"path": "a", "ino": 9, "kind": "file", "mode": 420, "mtime": 0, "size": 1, **changes}
    return packed(entries=[{name: value for name, value in fields.items() if value is not ...}])


def is_refused(body: bytes) -> bool:
    """Whether these bytes are refused as they should be; any other exception comes through."""
    try:
        decode(KEY, body)
    except ObjectDamaged as error:
        return KEY in str(error)
    return False


# --- what is one ----------------------------------------------------------------------------------


def test_the_bytes_of_schema_2_stay_as_they_are() -> None:
    assert gzip.decompress(encode(GOLDEN)).decode() == GOLDEN_TEXT
    assert decode(KEY, gzip.compress(GOLDEN_TEXT.encode())) == GOLDEN


@given(manifests())
def test_every_manifest_comes_back_from_its_bytes(manifest: Manifest) -> None:
    body = encode(manifest)
    assert decode(KEY, body) == manifest
    assert encode(decode(KEY, body)) == body


def test_what_was_never_published_comes_back_too() -> None:
    assert decode(KEY, encode(never_published())) == never_published()


@pytest.mark.parametrize("path", FILES, ids=lambda path: ascii(path)[:40])
def test_a_strange_name_that_a_file_can_have_comes_back(path: str) -> None:
    parts = path.split("/")
    above = [
        {
            "path": "/".join(parts[:end]),
            "ino": end + 100,
            "kind": "directory",
            "mode": 0,
            "mtime": 0,
        }
        for end in range(1, len(parts))
    ]
    file = {"path": path, "ino": 9, "kind": "file", "mode": 0, "mtime": 0, "size": 0}
    manifest = decode(KEY, packed(entries=[*above, file]))
    assert manifest.entries[-1].path == path
    assert decode(KEY, encode(manifest)) == manifest


@pytest.mark.parametrize(
    "mtime", [-(1 << 63), -1, 4102444800 * 10**9, 10413792000 * 10**9, (1 << 63) * 10**9 - 1]
)
def test_a_time_before_1970_or_after_2262_is_kept(mtime: int) -> None:
    assert decode(KEY, one_file(mtime=mtime)).entries[0].mtime == mtime


def test_a_file_of_the_largest_size_costs_nothing() -> None:
    with at_most(seconds=1, mebibytes=10):
        assert decode(KEY, one_file(size=(1 << 63) - 1)).entries[0].content == Content(
            size=(1 << 63) - 1, digest=None
        )


# --- what is none ---------------------------------------------------------------------------------

BAD = documents_that_are_none(encode(GOLDEN), is_packed=True)


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_it_is_refused(body: bytes) -> None:
    assert is_refused(body)


def test_a_manifest_cut_at_any_byte_is_refused() -> None:
    body = encode(GOLDEN)
    assert all(is_refused(body[:stop]) for stop in range(len(body)))


def test_a_manifest_whose_text_is_cut_at_any_byte_is_refused() -> None:
    text = GOLDEN_TEXT.encode()
    assert all(is_refused(gzip.compress(text[:stop], 1)) for stop in range(len(text)))


def test_wrong_types_are_refused_or_harmless_everywhere() -> None:
    count = refused = 0
    for body in wrong_fields(encode(GOLDEN), is_packed=True):
        count += 1
        refused += is_refused(body)
    assert count > 600
    assert refused > count * 0.7


def test_no_damage_has_any_other_effect_than_a_refusal(seed: int, is_full: bool) -> None:
    count = 100_000 if is_full else 2_000
    assert sum(map(is_refused, fuzzed(encode(GOLDEN), count, seed, is_packed=True))) > count / 2


@given(st.binary(max_size=100))
def test_random_bytes_are_refused(body: bytes) -> None:
    assert is_refused(body)
    assert is_refused(gzip.compress(body))


# --- H5 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NO_FILES, ids=ascii)
def test_a_path_that_no_file_can_have_is_refused(path: str) -> None:
    assert is_refused(one_file(path=path))


def test_a_symlink_that_no_process_can_read_is_refused() -> None:
    assert is_refused(one_file(kind="symlink", target="\ud800"))
    assert not is_refused(one_file(kind="symlink", target="/etc/passwd\udcff"))


# --- H7 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", HOSTILE_NUMBERS, ids=lambda number: repr(number)[:20])
@pytest.mark.parametrize("field", ["size", "ino", "mode", "rdev"])
def test_a_hostile_number_is_refused(field: str, number: object) -> None:
    assert is_refused(one_file(**{field: number}))


@pytest.mark.parametrize("number", [1.5, "1", True, None, 1 << 95, -(1 << 95) - 1, []])
def test_a_hostile_time_is_refused(number: object) -> None:
    assert is_refused(one_file(mtime=number))
    assert is_refused(packed(top={"mode": 0, "mtime": number, "xattrs": {}}))


@pytest.mark.parametrize("mode", [0o10000, 0o100644, 0o40755])
def test_a_mode_is_permission_bits_alone(mode: int) -> None:
    assert is_refused(one_file(mode=mode))
    assert is_refused(packed(top={"mode": mode, "mtime": 0}))


@pytest.mark.parametrize("packed_home", [["x", -1], ["x", 1.5], ["x"], [1, 1], "x1", ["x", True]])
def test_a_home_that_is_none_is_refused(packed_home: object) -> None:
    assert is_refused(one_file(packed=[packed_home]))


# --- H8 -------------------------------------------------------------------------------------------


def directory(path: str, ino: int) -> dict[str, object]:
    return {"path": path, "ino": ino, "kind": "directory", "mode": 0, "mtime": 0}


def file(path: str, ino: int) -> dict[str, object]:
    return {"path": path, "ino": ino, "kind": "file", "mode": 0, "mtime": 0, "size": 0}


CONTRADICTIONS: dict[str, list[dict[str, object]]] = {
    "a parent that is missing": [file("d/a", 9)],
    "a parent that comes later": [file("d/a", 9), directory("d", 8)],
    "a parent that is a file": [file("d", 8), file("d/a", 9)],
    "a parent that is itself": [directory("d/d", 8)],
    "two names that hold each other": [directory("a/b", 8), directory("b/a", 9)],
    "a name twice": [file("a", 8), file("a", 9)],
    "a name twice, once as a directory": [directory("a", 8), file("a", 9)],
    "a number twice": [file("a", 9), file("b", 9)],
    "a number twice, of directories": [directory("a", 9), directory("b", 9)],
    "a directory with two names": [directory("a", 9), {"path": "b", "ino": 9}],
    "a directory below itself": [directory("a", 9), {"path": "a/b", "ino": 9}],
    "a second name before the first": [{"path": "a", "ino": 9}, file("b", 9)],
    "a second name that has a kind": [file("a", 9), {"path": "b", "ino": 9, "kind": "file"}],
    "the top directory's number": [file("a", 1)],
    "the number 0": [file("a", 0)],
    "the top directory itself": [directory("", 1)],
    "no kind": [{"path": "a", "ino": 9}],
    "an unknown kind": [{**file("a", 9), "kind": "door"}],
    "a file without size": [{"path": "a", "ino": 9, "kind": "file", "mode": 0, "mtime": 0}],
}


@pytest.mark.figure(name="H8")
@pytest.mark.parametrize("entries", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_tree_is_refused_with(entries: list[dict[str, object]]) -> None:
    assert is_refused(packed(entries=entries))


@pytest.mark.figure(name="H8")
def test_a_long_chain_of_directories_without_an_end_is_refused_fast() -> None:
    chain = [directory("/".join(["d"] * depth), depth + 1) for depth in range(2, 1000)]
    body = packed(entries=chain)
    with at_most(seconds=1, mebibytes=50):
        assert is_refused(body)


@pytest.mark.figure(name="H8")
@pytest.mark.parametrize("size", [1 << 10, 1 << 20])
def test_a_bomb_is_refused_fast_and_with_bounded_memory(size: int) -> None:
    body = bomb(size, b"[],")
    with at_most(seconds=1, mebibytes=200):
        assert is_refused(body)


def test_what_is_kept_is_found_under_its_own_digest_alone() -> None:
    assert is_refused(packed(kept={"bb" * 32: {"size": 1, "digest": _HASH, "time": 1}}))
    assert is_refused(packed(kept={_HASH: {"size": 1, "time": 1}}))
    assert is_refused(packed(kept={_HASH: {"size": 1, "digest": _HASH, "time": float(10**16)}}))


# --- looking --------------------------------------------------------------------------------------


@given(manifests(), contents(with_plain=False))
def test_a_content_is_found_by_its_digest_in_the_tree_and_then_among_what_is_kept(
    manifest: Manifest, other: Content
) -> None:
    for entry in manifest.entries:
        if entry.content is not None and entry.content.digest is not None:
            found = manifest.homes_of(entry.content.digest)
            assert found is not None
            assert found.digest == entry.content.digest
    for digest in manifest.kept:
        assert manifest.homes_of(digest) is not None
    if other.digest is not None and manifest.homes_of(other.digest) is not None:
        assert other.digest in {
            *manifest.kept,
            *(entry.content.digest for entry in manifest.entries if entry.content is not None),
        }


@given(trees_of_entries(), st.data())
def test_relinking_changes_the_plain_homes_that_are_named_and_no_others(
    entries: tuple[Entry, ...], data: st.DataObject
) -> None:
    files = [entry.path for entry in entries if entry.content is not None]
    chosen: dict[Path, ETag | None] = {
        path: data.draw(st.sampled_from([None, ETag("new")]))
        for path in files
        if data.draw(st.booleans())
    }
    for before, after in zip(entries, relinked(entries, chosen), strict=True):
        assert after.etag == chosen.get(before.path, before.etag)
        assert replace(after, content=None) == replace(before, content=None)
        if before.content is not None:
            assert after.content is not None
            assert after.content.with_plain() == before.content.with_plain()


def test_names_of_one_file_share_all_their_plain_homes() -> None:
    one, other = (
        Entry(path=Path(path), ino=Inode(9), kind=Kind.FILE, mode=0, mtime=0, content=PUMP)
        for path in "ab"
    )
    both = relinked([one, other], {Path("a"): ETag("e1"), Path("b"): ETag("e2")})
    homes = (Plain(Path("a"), ETag("e1")), Plain(Path("b"), ETag("e2")))
    assert [entry.content and entry.content.plain for entry in both] == [homes, homes]
