"""Snapshots: a tree comes back from its bytes, and nothing else is taken for one."""

import gzip
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core import document
from pdfs.core.ids import TOP, Path
from pdfs.core.record import Kind, SetXattr
from pdfs.core.snapshot import decode, encode
from pdfs.core.tree import new_tree
from pdfs.errors import JournalDamaged
from tests.core.gardens import Garden
from tests.core.hostile import documents_that_are_none, fuzzed, wrong_fields


def grown(seed: int, steps: int) -> Garden:
    garden = Garden(random.Random(seed))
    garden.grow(steps)
    return garden


def small() -> Garden:
    """A tree with something of everything."""
    garden = Garden(random.Random(0))
    one = garden.create(TOP, "f\udcff")
    garden.write(one, 3, b"x")
    directory = garden.create(TOP, "d", Kind.DIRECTORY)
    garden.create(directory, "l", Kind.SYMLINK, "../f")
    garden.commit(SetXattr(ino=one, name="user.x", time=5, value=b"x"))
    garden.find_foreign(Path("d/found"), b"theirs", "e1")
    garden.begin_publish()
    garden.resize(one, 1)
    return garden


def is_refused(body: bytes) -> bool:
    """Whether these bytes are refused as they should be; any other exception comes through."""
    try:
        decode(body)
    except JournalDamaged:
        return True
    return False


@given(st.integers(0, 1 << 32), st.integers(0, 60))
def test_a_tree_comes_back_from_its_bytes(seed: int, steps: int) -> None:
    tree = grown(seed, steps).tree
    assert decode(encode(tree)) == tree
    assert decode(memoryview(encode(tree))) == tree
    assert encode(decode(encode(tree))) == encode(tree)


@given(st.integers(0, 1 << 32))
def test_a_tree_that_came_back_goes_on_like_the_one_it_was(seed: int) -> None:
    garden = grown(seed, 20)
    copy = decode(encode(garden.tree))
    before = len(garden.history)
    garden.grow(20)
    for record, at, length in garden.history[before:]:
        copy.apply(record, at, length)
    assert encode(copy) == encode(garden.tree)


def test_the_bytes_of_schema_1_stay_as_they_are() -> None:
    garden = Garden(random.Random(0))
    ino = garden.create(TOP, "f\udcff")
    garden.write(ino, 3, b"x")
    garden.begin_publish()
    garden.resize(ino, 1)
    assert gzip.decompress(encode(garden.tree)).decode() == (
        '{"schema":1,"generation":0,"base":null,"edits":3,"published_edits":0,"in_flight":'
        '{"publish":"000000000007-p2","sequence":2,"edits":2,"boundary":[1,3],'
        '"lowest":[[30064771073,1]]},"contents":[{"size":0,'
        '"digest":"0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"}],'
        '"known":{},"nodes":[{"ino":1,"kind":"directory","mode":493,"uid":1000,"gid":1000,'
        '"times":[0,1,1],"links":2,"size":0,"parent":1,"entries":{"f\\udcff":30064771073}},'
        '{"ino":30064771073,"kind":"file","mode":420,"uid":1000,"gid":1000,"times":[1,3,3],'
        '"links":1,"size":1,"base":0,"limit":0}]}'
    )


# --- what is none ---------------------------------------------------------------------------------

BAD = documents_that_are_none(encode(small().tree), is_packed=True)


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_it_is_refused(body: bytes) -> None:
    assert is_refused(body)


def test_a_snapshot_cut_at_any_byte_is_refused() -> None:
    body = encode(small().tree)
    assert all(is_refused(body[:stop]) for stop in range(len(body)))


def test_wrong_types_are_refused_or_harmless_everywhere() -> None:
    count = refused = 0
    for body in wrong_fields(encode(small().tree), is_packed=True):
        count += 1
        refused += is_refused(body)
    assert count > 600
    assert refused > count * 0.6


def test_no_damage_has_any_other_effect_than_a_refusal(seed: int, is_full: bool) -> None:
    body = encode(grown(7, 40).tree)
    count = 50_000 if is_full else 1_000
    assert sum(map(is_refused, fuzzed(body, count, seed, is_packed=True))) > count / 2


def changed(**changes: Any) -> bytes:
    text = document.unpack("snapshot", encode(small().tree), schema=1)
    return document.pack({**text._fields, **changes})


TOP_NODE = {
    "ino": 1,
    "kind": "directory",
    "mode": 0,
    "uid": 0,
    "gid": 0,
    "times": [0, 0, 0],
    "links": 2,
    "size": 0,
    "parent": 1,
    "entries": {},
}


@pytest.mark.parametrize(
    "nodes",
    [
        [],
        [{**TOP_NODE, "ino": 2}],
        [{**TOP_NODE, "kind": "fifo"}],
        [TOP_NODE, TOP_NODE],
        [{**TOP_NODE, "entries": {"a": 9}}],
        [{**TOP_NODE, "entries": {"a": -1}}],
        [{**TOP_NODE, "entries": {"a": True}}],
        [{**TOP_NODE, "times": [0, 0]}],
        [{**TOP_NODE, "times": [0, 0, 0.5]}],
        [{**TOP_NODE, "xattrs": {"a": "!"}}],
        [TOP_NODE, {**TOP_NODE, "ino": 2, "kind": "file", "base": 99}],
        [TOP_NODE, {**TOP_NODE, "ino": 2, "kind": "file", "base": -1}],
    ],
)
def test_a_tree_that_contradicts_itself_is_refused(nodes: list[Any]) -> None:
    assert not is_refused(changed(nodes=[TOP_NODE], known={}))
    assert is_refused(changed(nodes=nodes, known={}))


@pytest.mark.parametrize("index", [-1, 99, True, 0.0, "0", None, []])
def test_a_known_object_has_one_of_the_contents(index: object) -> None:
    assert not is_refused(changed(known={"a": 0}))
    assert is_refused(changed(known={"a": index}))


def test_a_tree_of_many_equal_things_can_be_read_again() -> None:
    tree = new_tree(uid=0, gid=0)
    tree.nodes[TOP].xattrs = {f"user.{number}": bytes(300) for number in range(20_000)}
    assert decode(encode(tree)) == tree
