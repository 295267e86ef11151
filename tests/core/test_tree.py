"""The tree: what each record does, what it refuses, and that replay makes the same tree again."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core import record as core_record
from pdfs.core.content import Content, ETag, Plain, content_of
from pdfs.core.ids import TOP, Inode, Path, PublishId, Sequence
from pdfs.core.intervals import Position
from pdfs.core.node import Based, Written, Zeros
from pdfs.core.record import (
    Brought,
    Create,
    Drop,
    Echoed,
    Found,
    Gone,
    Kind,
    Link,
    Publishing,
    Record,
    Rename,
    SetAttributes,
    Settled,
    SetXattr,
    Unlink,
    Write,
)
from pdfs.core.tree import Tree, new_tree
from pdfs.errors import JournalDamaged
from tests.core.gardens import Garden, body_of, check, check_counts
from tests.core.values import named

seeds = st.integers(0, 1 << 32)


@pytest.fixture
def garden() -> Garden:
    return Garden(random.Random(0))


# --- against the model ----------------------------------------------------------------------------


@given(seeds, st.integers(1, 60))
def test_every_file_holds_what_was_written_whatever_happens_to_the_tree(
    seed: int, steps: int
) -> None:
    garden = Garden(random.Random(seed))
    for _ in range(steps):
        garden.grow(1)
        check(garden)


@given(seeds, st.integers(1, 60))
def test_the_same_records_make_the_same_tree_again(seed: int, steps: int) -> None:
    garden = Garden(random.Random(seed))
    garden.grow(steps)
    again = new_tree(uid=1000, gid=1000)
    for record, at, length in garden.history:
        again.apply(core_record.decode(*core_record.encode(record)), at, length)
    assert body_of(again) == body_of(garden.tree)


@given(seeds, st.integers(1, 40))
def test_what_a_walk_shows_can_be_found(seed: int, steps: int) -> None:
    garden = Garden(random.Random(seed))
    garden.grow(steps)
    shown = list(garden.tree.walk())
    for path, node in shown:
        assert garden.tree.find(path) is node
    assert [path for path, _ in shown] == sorted((p for p, _ in shown), key=lambda p: p.split("/"))


def test_finding_leads_through_no_file_and_no_missing_name(garden: Garden) -> None:
    garden.create(TOP, "f")
    assert garden.tree.find(Path("")) is garden.tree.nodes[TOP]
    assert garden.tree.find(Path("f/x")) is None
    assert garden.tree.find(Path("g/x")) is None
    assert garden.tree.child(TOP, "g") is None


# --- what each record does ------------------------------------------------------------------------


def test_creating_gives_a_node_its_attributes_and_touches_the_directory(garden: Garden) -> None:
    garden.clock = 40
    ino = garden.create(TOP, "l", Kind.SYMLINK, "ä/b")
    node = garden.tree.nodes[ino]
    assert (node.kind, node.mode, node.uid, node.gid) == (Kind.SYMLINK, 0o644, 1000, 1000)
    assert (node.atime, node.mtime, node.ctime, node.links) == (41, 41, 41, 1)
    assert (node.target, node.size) == ("ä/b", 4)
    assert (garden.tree.nodes[TOP].mtime, garden.tree.nodes[TOP].ctime) == (41, 41)


def test_attributes_that_a_record_lacks_stay(garden: Garden) -> None:
    ino = garden.create(TOP, "f")
    garden.commit(SetAttributes(ino=ino, time=9, uid=5))
    node = garden.tree.nodes[ino]
    assert (node.uid, node.gid, node.mode, node.atime, node.mtime, node.ctime) == (
        5,
        1000,
        0o644,
        1,
        1,
        9,
    )
    garden.commit(SetAttributes(ino=ino, time=10, gid=6, mode=0o600, atime=-7, mtime=-8))
    assert (node.uid, node.gid, node.mode, node.atime, node.mtime, node.ctime) == (
        5,
        6,
        0o600,
        -7,
        -8,
        10,
    )


def test_directories_count_their_subdirectories_through_moves_and_removals(garden: Garden) -> None:
    one, other = (garden.create(TOP, name, Kind.DIRECTORY) for name in "ab")
    garden.create(one, "s", Kind.DIRECTORY)
    links = {ino: garden.tree.nodes[ino].links for ino in (TOP, one, other)}
    assert links == {TOP: 4, one: 3, other: 2}
    garden.rename(Path("a/s"), Path("b/s"))
    assert [garden.tree.nodes[ino].links for ino in (TOP, one, other)] == [4, 2, 3]
    garden.rename(Path("a"), Path("b/t"))
    assert [garden.tree.nodes[ino].links for ino in (TOP, one, other)] == [3, 2, 4]
    garden.unlink(Path("b/t"))
    assert [garden.tree.nodes[ino].links for ino in (TOP, one, other)] == [3, 0, 3]
    check_counts(garden.tree)


def test_a_directory_moved_over_an_empty_one_takes_its_place(garden: Garden) -> None:
    garden.create(TOP, "a", Kind.DIRECTORY)
    gone = garden.create(TOP, "b", Kind.DIRECTORY)
    garden.rename(Path("a"), Path("b"))
    assert garden.tree.orphans == {gone}
    assert garden.tree.nodes[TOP].links == 3
    check_counts(garden.tree)


def test_a_file_and_a_directory_change_places(garden: Garden) -> None:
    file = garden.create(TOP, "f")
    directory = garden.create(TOP, "d", Kind.DIRECTORY)
    below = garden.create(directory, "s", Kind.DIRECTORY)
    garden.rename(Path("f"), Path("d/s"), exchange=True)
    assert garden.tree.nodes[TOP].entries == {"d": directory, "f": below}
    assert garden.tree.nodes[directory].entries == {"s": file}
    assert garden.tree.nodes[below].parent == TOP
    check_counts(garden.tree)


def test_a_rename_onto_another_name_of_the_same_file_does_nothing(garden: Garden) -> None:
    ino = garden.create(TOP, "a")
    garden.link(ino, Path("b"))
    before = dict(garden.tree.nodes[TOP].entries)
    garden.rename(Path("a"), Path("b"))
    assert garden.tree.nodes[TOP].entries == before
    assert garden.tree.nodes[ino].links == 2


def test_a_file_without_a_name_is_an_orphan_until_it_is_linked_or_dropped(garden: Garden) -> None:
    ino = garden.create(TOP, "a")
    garden.write(ino, 0, b"open and unlinked")
    garden.unlink(Path("a"))
    assert garden.tree.orphans == {ino}
    check(garden)
    garden.link(ino, Path("b"))
    assert garden.tree.orphans == set()
    garden.unlink(Path("b"))
    garden.commit(Drop(ino=ino))
    assert ino not in garden.tree.nodes
    assert garden.tree.orphans == set()


def test_an_attribute_can_be_set_replaced_and_removed(garden: Garden) -> None:
    for value, left in [(b"", {"user.x": b""}), (b"2", {"user.x": b"2"}), (None, {})]:
        garden.commit(SetXattr(ino=TOP, name="user.x", time=5, value=value))
        assert garden.tree.nodes[TOP].xattrs == left


def test_bytes_that_were_cut_never_come_back(garden: Garden) -> None:
    ino = garden.find_foreign(Path("f"), b"secret of the base", "e1")
    garden.resize(ino, 6)
    garden.resize(ino, 18)
    assert garden.read(garden.tree.nodes[ino]) == b"secret" + bytes(12)
    garden.write(ino, 10, b"xy")
    garden.resize(ino, 11)
    garden.resize(ino, 14)
    assert garden.read(garden.tree.nodes[ino]) == b"secret" + bytes(4) + b"x" + bytes(3)


def test_layers_name_journal_base_and_zeros_in_order(garden: Garden) -> None:
    ino = garden.find_foreign(Path("f"), b"0123456789", "e1")
    garden.resize(ino, 8)
    garden.resize(ino, 20)
    garden.write(ino, 2, b"ab")
    node = garden.tree.nodes[ino]
    layers = node.layers(1, 100)
    assert [type(layer) for layer in layers] == [Based, Written, Based, Zeros]
    assert [layer for layer in layers if not isinstance(layer, Written)] == [
        Based(1, 2),
        Based(4, 8),
        Zeros(8, 20),
    ]
    assert node.layers(20, 30) == node.layers(500, 600) == []


# --- other tools ----------------------------------------------------------------------------------


def test_a_found_object_is_a_new_file_that_keeps_the_attributes_others_can_not_set(
    garden: Garden,
) -> None:
    old = garden.create(TOP, "f")
    garden.commit(SetXattr(ino=old, name="user.x", time=1, value=b"x"))
    new = garden.find_foreign(Path("f"), b"theirs", "e1")
    assert new != old
    assert garden.tree.orphans == {old}
    assert garden.tree.nodes[new].xattrs == {"user.x": b"x"}
    assert garden.tree.nodes[new].is_clean
    assert garden.tree.known[Path("f")].etag_at(Path("f")) == "e1"
    check(garden)


def test_a_lost_object_takes_its_name_along_or_leaves_what_was_changed_here(garden: Garden) -> None:
    for path in ("a", "b"):
        garden.find_foreign(Path(path), b"theirs", f"e{path}")
    garden.lose_foreign(Path("a"), with_name=True)
    garden.lose_foreign(Path("b"), with_name=False)
    assert list(garden.tree.nodes[TOP].entries) == ["b"]
    assert garden.tree.known == {}
    check(garden)


def test_an_echo_changes_only_what_is_known_of_the_bucket(garden: Garden) -> None:
    ino = garden.find_foreign(Path("a"), b"theirs", "e1")
    edits = garden.tree.edits
    garden.echo(Path("a"), b"late")
    assert garden.tree.known[Path("a")].etag_at(Path("a")) == "late"
    assert garden.read(garden.tree.nodes[ino]) == b"theirs"
    assert garden.tree.edits == edits + 1, "the next publish must put it right"


# --- publishing -----------------------------------------------------------------------------------


def test_only_what_a_user_did_is_an_edit(garden: Garden) -> None:
    assert not garden.tree.has_edits
    ino = garden.find_foreign(Path("a"), b"theirs", "e1")
    garden.lose_foreign(Path("a"), with_name=True)
    garden.commit(Drop(ino=ino))
    garden.begin_publish()
    garden.settle()
    assert garden.tree.edits == 0
    garden.create(TOP, "b")
    assert garden.tree.has_edits


def test_what_was_done_before_a_publish_is_published_by_it_and_the_rest_is_not(
    garden: Garden,
) -> None:
    garden.create(TOP, "a")
    garden.begin_publish()
    garden.create(TOP, "b")
    garden.settle()
    assert (garden.tree.edits, garden.tree.published_edits) == (2, 1)
    garden.begin_publish()
    garden.settle()
    assert (garden.tree.edits, garden.tree.published_edits) == (2, 2)
    assert garden.tree.in_flight is None


def test_what_was_written_after_a_publish_began_stays_over_its_base(garden: Garden) -> None:
    ino = garden.create(TOP, "a")
    garden.write(ino, 0, b"old old old")
    garden.begin_publish()
    garden.write(ino, 4, b"NEW")
    garden.settle()
    node = garden.tree.nodes[ino]
    assert garden.read(node) == b"old NEW old"
    assert [extent.start for extent in node.extents] == [4]
    assert not node.is_clean


def test_what_was_cut_after_a_publish_began_does_not_come_back_with_its_base(
    garden: Garden,
) -> None:
    ino = garden.create(TOP, "a")
    garden.write(ino, 0, b"old old old")
    garden.begin_publish()
    garden.resize(ino, 3)
    garden.resize(ino, 9)
    garden.resize(ino, 5)
    garden.resize(ino, 11)
    garden.settle()
    assert garden.read(garden.tree.nodes[ino]) == b"old" + bytes(8)
    check(garden)


def test_a_cut_before_a_publish_began_does_not_cut_its_base(garden: Garden) -> None:
    ino = garden.create(TOP, "a")
    garden.write(ino, 0, b"old old old")
    garden.resize(ino, 3)
    garden.write(ino, 3, b"er and older")
    garden.begin_publish()
    garden.settle()
    node = garden.tree.nodes[ino]
    assert node.is_clean
    assert garden.read(node) == b"older and older"


def test_a_publish_that_never_committed_leaves_nothing_behind_when_the_next_one_settles(
    garden: Garden,
) -> None:
    ino = garden.create(TOP, "a")
    garden.write(ino, 0, b"first")
    garden.begin_publish()
    garden.resize(ino, 0)
    garden.write(ino, 0, b"second, longer")
    garden.begin_publish()
    garden.settle()
    node = garden.tree.nodes[ino]
    assert garden.read(node) == b"second, longer"
    assert node.is_clean
    assert not garden.tree.has_edits


def test_a_file_that_a_publish_left_out_stays_as_it_is(garden: Garden) -> None:
    ino = garden.create(TOP, "a")
    garden.write(ino, 0, b"could not be made whole")
    garden.begin_publish()
    garden.settle(only=set())
    node = garden.tree.nodes[ino]
    assert not node.is_clean
    check(garden)


@given(seeds)
def test_a_publish_of_everything_leaves_every_file_clean(seed: int) -> None:
    garden = Garden(random.Random(seed))
    garden.grow(25)
    garden.begin_publish()
    garden.settle()
    check(garden)
    assert all(node.is_clean for node in garden.tree.nodes.values() if node.is_file)
    assert not garden.tree.has_edits


def test_what_is_done_while_a_publish_is_under_way_is_still_to_be_published(garden: Garden) -> None:
    garden.write(garden.create(TOP, "a"), 0, b"before")
    garden.begin_publish()
    garden.create(TOP, "b")
    garden.settle()
    assert garden.tree.has_edits
    garden.begin_publish()
    garden.settle()
    assert not garden.tree.has_edits


def test_another_sessions_settle_changes_homes_and_nothing_that_was_written(
    garden: Garden,
) -> None:
    ino = garden.find_foreign(Path("a"), b"theirs, long", "e1")
    garden.resize(ino, 6)
    garden.write(ino, 2, b"XX")
    held = garden.read(garden.tree.nodes[ino])
    same = content_of(b"theirs, long").with_plain(Plain(Path("a"), ETag("e9")))
    garden.bodies[same] = b"theirs, long"
    edits = garden.tree.edits
    garden.commit(
        Settled(
            publish=PublishId("000000000006-x"),
            generation=5,
            tree=named("t"),
            contents=(same,),
            bases=((ino, 0),),
            known=((Path("a"), 0),),
        )
    )
    assert garden.read(garden.tree.nodes[ino]) == held
    assert garden.tree.known[Path("a")].etag_at(Path("a")) == "e9"
    assert (garden.tree.generation, garden.tree.base) == (5, named("t"))
    assert (garden.tree.edits, garden.tree.published_edits) == (edits, 0)


def test_a_conflict_moves_our_file_and_theirs_takes_the_name(garden: Garden) -> None:
    ours = garden.create(TOP, "a")
    garden.write(ours, 0, b"ours")
    garden.begin_publish()
    flight = garden.tree.in_flight
    assert flight is not None
    theirs = Content(size=6, digest=None, plain=(Plain(Path("a"), ETag("e1")),))
    content = content_of(b"ours").with_plain(Plain(Path("a (conflict)"), ETag("e2")))
    garden.bodies |= {theirs: b"theirs", content: b"ours"}
    entering = Inode(99)
    garden.holds[entering] = b"theirs"
    garden.commit(
        Settled(
            publish=flight.record.publish,
            sequence=flight.record.sequence,
            generation=1,
            tree=named("t"),
            contents=(content, theirs),
            bases=((ours, 0),),
            known=((Path("a (conflict)"), 0), (Path("a"), 1)),
            moves=(Rename(parent=TOP, name="a", new_parent=TOP, new_name="a (conflict)", time=5),),
            found=(
                Found(
                    parent=TOP,
                    name="a",
                    path=Path("a"),
                    ino=entering,
                    mode=0o644,
                    uid=1000,
                    gid=1000,
                    mtime=1,
                    time=5,
                    content=theirs,
                ),
            ),
        )
    )
    assert garden.tree.nodes[TOP].entries == {"a (conflict)": ours, "a": entering}
    assert {path: known.etag_at(path) for path, known in garden.tree.known.items()} == {
        "a (conflict)": "e2",
        "a": "e1",
    }
    check(garden)


# --- broken preconditions -------------------------------------------------------------------------

FILE, FULL, EMPTY_DIRECTORY, BELOW, ORPHAN, LINKED = (Inode(number) for number in range(10, 16))
MISSING = Inode(999)


def planted() -> Tree:
    """f, g (two names of one file), full/below, empty, and one orphan of each kind."""
    tree = new_tree(uid=0, gid=0)

    def create(parent: Inode, name: str, ino: Inode, kind: Kind = Kind.FILE) -> None:
        tree.apply(
            Create(parent=parent, name=name, ino=ino, kind=kind, mode=0, uid=0, gid=0, time=1)
        )

    create(TOP, "f", FILE)
    create(TOP, "full", FULL, Kind.DIRECTORY)
    create(FULL, "below", BELOW, Kind.DIRECTORY)
    create(TOP, "empty", EMPTY_DIRECTORY, Kind.DIRECTORY)
    create(TOP, "orphan", ORPHAN, Kind.DIRECTORY)
    create(TOP, "g", LINKED)
    tree.apply(Unlink(parent=TOP, name="orphan", time=1))
    tree.apply(Publishing(publish=PublishId("p"), sequence=Sequence(7)))
    return tree


def _create(**changes: Any) -> Create:
    fields: dict[str, Any] = {
        "parent": TOP,
        "name": "new",
        "ino": Inode(20),
        "kind": Kind.FILE,
        "mode": 0,
        "uid": 0,
        "gid": 0,
        "time": 5,
    }
    return Create(**(fields | changes))


def _rename(name: str, new_name: str, **changes: Any) -> Rename:
    fields: dict[str, Any] = {"parent": TOP, "new_parent": TOP, "time": 5}
    return Rename(**(fields | {"name": name, "new_name": new_name} | changes))


def _found(**changes: Any) -> Found:
    fields: dict[str, Any] = {
        "parent": TOP,
        "name": "new",
        "path": Path("new"),
        "ino": Inode(20),
        "mode": 0,
        "uid": 0,
        "gid": 0,
        "mtime": 0,
        "time": 5,
        "content": content_of(b"x"),
    }
    return Found(**(fields | changes))


def _settled(**changes: Any) -> Settled:
    fields: dict[str, Any] = {
        "publish": PublishId("p"),
        "sequence": Sequence(7),
        "generation": 1,
        "tree": named("t"),
        "contents": (content_of(b"x"),),
        "bases": (),
        "known": (),
    }
    return Settled(**(fields | changes))


BROKEN: dict[str, Record] = {
    "create where a name is": _create(name="f"),
    "create below a file": _create(parent=FILE),
    "create below nothing": _create(parent=MISSING),
    "create in a removed directory": _create(parent=ORPHAN),
    "create with a number that is taken": _create(ino=FILE),
    "create with an orphan's number": _create(ino=ORPHAN),
    "write to nothing": Write(ino=MISSING, offset=0, time=5),
    "write to a directory": Write(ino=FULL, offset=0, time=5),
    "attributes of nothing": SetAttributes(ino=MISSING, time=5),
    "cut a directory": SetAttributes(ino=FULL, time=5, size=0, mode=0o777),
    "cut below zero": SetAttributes(ino=FILE, time=5, size=-1, mode=0o777),
    "rename nothing": _rename("missing", "x"),
    "rename out of nothing": _rename("f", "x", parent=MISSING),
    "rename into nothing": _rename("f", "x", new_parent=MISSING),
    "rename into a file": _rename("full", "x", new_parent=FILE),
    "rename into a removed directory": _rename("f", "x", new_parent=ORPHAN),
    "rename over a full directory": _rename("empty", "full"),
    "rename a directory into itself": _rename("full", "x", new_parent=FULL),
    "rename a directory below itself": _rename("full", "x", new_parent=BELOW),
    "exchange with nothing": _rename("f", "missing", exchange=True),
    "exchange a directory with one in it": _rename("full", "below", new_parent=FULL, exchange=True),
    "exchange one in a directory with it": _rename("below", "full", parent=FULL, exchange=True),
    "link nothing": Link(ino=MISSING, parent=TOP, name="x", time=5),
    "link a directory": Link(ino=FULL, parent=TOP, name="x", time=5),
    "link where a name is": Link(ino=FILE, parent=TOP, name="g", time=5),
    "link below a file": Link(ino=FILE, parent=FILE, name="x", time=5),
    "unlink nothing": Unlink(parent=TOP, name="missing", time=5),
    "unlink below nothing": Unlink(parent=MISSING, name="f", time=5),
    "unlink a full directory": Unlink(parent=TOP, name="full", time=5),
    "attribute of nothing": SetXattr(ino=MISSING, name="x", time=5, value=b""),
    "remove an attribute that is not there": SetXattr(ino=FILE, name="x", time=5),
    "drop nothing": Drop(ino=MISSING),
    "drop what has a name": Drop(ino=FILE),
    "drop the top directory": Drop(ino=TOP),
    "find below nothing": _found(parent=MISSING),
    "find below a file": _found(parent=FILE),
    "find in a removed directory": _found(parent=ORPHAN),
    "find with a number that is taken": _found(ino=FILE),
    "find in place of a full directory": _found(name="full"),
    "lose what was not known": Gone(path=Path("f"), time=5, parent=TOP, name="f"),
    "settle a publish that is not under way": _settled(publish=PublishId("q")),
    "settle a base of nothing": _settled(bases=((MISSING, 0),)),
    "settle a base of a directory": _settled(bases=((FULL, 0),)),
    "settle a base that is not there": _settled(bases=((FILE, 1),)),
    "settle a base before the first": _settled(bases=((FILE, -1),)),
    "settle a known content that is not there": _settled(known=((Path("f"), 1),)),
    "settle a known content before none": _settled(known=((Path("f"), -2),)),
    "settle a move of nothing": _settled(
        bases=((FILE, 0),), known=((Path("f"), 0),), moves=(_rename("missing", "x"),)
    ),
    "settle a second move that can't be": _settled(
        bases=((FILE, 0),), moves=(_rename("f", "x"), _rename("f", "y"))
    ),
    "settle a move and a find with a number that is taken": _settled(
        moves=(_rename("f", "x"),), found=(_found(name="f", ino=FILE),)
    ),
    "settle a move and a find in place of a full directory": _settled(
        moves=(_rename("f", "x"),), found=(_found(name="full"),)
    ),
    "create with a mode of more than permissions": _create(mode=0o100644),
    "set a mode of more than permissions": SetAttributes(ino=FILE, time=5, mode=0o100644),
    "find with a mode of more than permissions": _found(mode=0o100644),
    "carry beyond the end": Brought(ino=FILE, start=0),
    "carry for nothing": Brought(ino=MISSING, start=0),
}


@pytest.mark.parametrize("record", BROKEN.values(), ids=BROKEN)
def test_damage_changes_nothing(record: Record) -> None:
    tree = planted()
    before, orphans = body_of(tree), set(tree.orphans)
    with pytest.raises(JournalDamaged, match="contradicts itself"):
        tree.apply(record, Position(1, 50), 3)
    assert body_of(tree) == before
    assert tree.orphans == orphans


def test_losing_what_has_another_name_by_now_changes_nothing() -> None:
    tree = planted()
    tree.apply(_found())
    before = body_of(tree)
    with pytest.raises(JournalDamaged):
        tree.apply(Gone(path=Path("new"), time=5, parent=TOP, name="renamed"))
    assert body_of(tree) == before


def test_the_planted_tree_takes_every_record_that_is_right() -> None:
    tree = planted()
    right: list[Record] = [
        _create(),
        Write(ino=FILE, offset=0, time=5),
        Brought(ino=FILE, start=0),
        SetAttributes(ino=FILE, time=5, size=9),
        _rename("full", "x", new_parent=EMPTY_DIRECTORY),
        Link(ino=FILE, parent=TOP, name="x", time=5),
        Unlink(parent=TOP, name="f", time=5),
        SetXattr(ino=FILE, name="x", time=5, value=b""),
        Drop(ino=ORPHAN),
        _found(ino=Inode(21), name="found", path=Path("found")),
        Gone(path=Path("found"), time=5, parent=TOP, name="found"),
        Echoed(path=Path("f"), content=content_of(b"")),
        _settled(bases=((FILE, 0),), known=((Path("f"), 0), (Path("new"), -1))),
    ]
    for record in right:
        tree.apply(record, Position(1, 50), 3 if isinstance(record, Write | Brought) else 0)
    check_counts(tree)
