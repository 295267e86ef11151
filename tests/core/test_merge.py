"""Foreign changes: what a listing means for a mounted tree, row by row of the design's table."""

import random
from collections.abc import Set

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core.content import Content, ETag, Packed, content_of
from pdfs.core.content import Plain as PlainHome
from pdfs.core.ids import TOP, Inode, Path
from pdfs.core.keys import ancestors
from pdfs.core.merge import Merged, Row, differing, merge_listing
from pdfs.core.record import Create, Echoed, Found, Gone, Kind, Link, Rename, SetAttributes, Write
from tests.core.gardens import Garden, body_of, check, check_counts
from tests.core.hostile import FILES, NO_FILES
from tests.core.values import named


def row(path: str, etag: str = "new", size: int = 5) -> Row:
    return Row(path=path, etag=ETag(etag), size=size, mtime=77)


def garden_of(*files: str) -> Garden:
    """A mounted stage with these plain objects, each at the ETag `e-…`."""
    garden = Garden(random.Random(0))
    for path in files:
        for above in reversed(ancestors(Path(path))):
            if garden.tree.find(above) is None:
                parent, name = garden.holder(above)
                garden.create(parent, name, Kind.DIRECTORY)
        garden.find_foreign(Path(path), b"their", f"e-{path}")
    return garden


def merge(
    garden: Garden,
    *rows: Row,
    busy: Set[Inode] = frozenset(),
    echoes: dict[Path, Content] | None = None,
) -> Merged:
    """Judge a listing and carry out what it means."""
    merged = merge_listing(
        garden.tree,
        rows,
        busy=busy,
        echoes=echoes or {},
        new_inode=garden.new_inode,
        time=99,
    )
    for record in merged.records:
        garden.commit(record)
        if isinstance(record, Found):
            garden.holds[record.ino] = b"new"
            garden.bodies[record.content] = b"new"
    check_counts(garden.tree)
    return merged


def shown(garden: Garden) -> list[str]:
    return [path for path, node in garden.tree.walk() if node.is_file]


def etags_known(garden: Garden) -> dict[str, str | None]:
    return {path: content.etag_at(path) for path, content in garden.tree.known.items()}


# --- the table ------------------------------------------------------------------------------------


def test_an_object_with_the_known_etag_is_ours() -> None:
    garden = garden_of("a", "d/b")
    before = body_of(garden.tree)
    assert merge(garden, row("a", "e-a"), row("d/b", "e-d/b")) == Merged()
    assert body_of(garden.tree) == before


def test_an_object_that_changed_enters_as_a_new_file_which_keeps_what_others_can_not_set() -> None:
    garden = garden_of("a")
    (old,) = garden.files()
    garden.commit(SetAttributes(ino=old, time=5, mode=0o750))
    (found,) = merge(garden, row("a")).records
    assert isinstance(found, Found)
    assert (found.ino != old, found.mode, found.mtime, found.uid) == (True, 0o750, 77, 1000)
    assert found.content == Content(size=5, digest=None, plain=(PlainHome(Path("a"), ETag("new")),))
    assert etags_known(garden) == {"a": "new"}


def test_an_object_that_is_new_enters_with_its_directories() -> None:
    garden = garden_of()
    kinds = [type(record) for record in merge(garden, row("x/y/a"), row("x/b")).records]
    assert kinds == [Create, Create, Found, Found]
    assert shown(garden) == ["x/b", "x/y/a"]
    node = garden.tree.find(Path("x/y/a"))
    assert node is not None
    assert node.mode == 0o644
    directory = garden.tree.find(Path("x/y"))
    assert directory is not None
    assert directory.mode == 0o755


def test_an_object_that_is_gone_takes_its_name_along() -> None:
    garden = garden_of("a", "b")
    (gone,) = merge(garden, row("b", "e-b")).records
    assert gone == Gone(path=Path("a"), time=99, parent=TOP, name="a")
    assert shown(garden) == ["b"]
    assert etags_known(garden) == {"b": "e-b"}


def dirty(garden: Garden) -> None:
    garden.write(garden.files()[0], 0, b"mine")


def cut(garden: Garden) -> None:
    garden.resize(garden.files()[0], 2)


def replaced(garden: Garden) -> None:
    garden.unlink(Path("a"))
    garden.write(garden.create(TOP, "a"), 0, b"mine")


def moved_over(garden: Garden) -> None:
    garden.create(TOP, "b")
    garden.rename(Path("b"), Path("a"))


def made_a_directory(garden: Garden) -> None:
    garden.unlink(Path("a"))
    garden.create(TOP, "a", Kind.DIRECTORY)


def made_a_symlink(garden: Garden) -> None:
    garden.unlink(Path("a"))
    garden.create(TOP, "a", Kind.SYMLINK, "x")


CHANGES = [dirty, cut, replaced, moved_over, made_a_directory, made_a_symlink]


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_here_is_left_alone_when_theirs_changes(change: object) -> None:
    garden = garden_of("a")
    assert callable(change)
    change(garden)
    before = body_of(garden.tree)
    assert merge(garden, row("a")).records == []
    assert body_of(garden.tree) == before
    assert etags_known(garden) == {"a": "e-a"}, "a publish must find theirs by the condition"


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_here_stays_when_theirs_is_gone(change: object) -> None:
    garden = garden_of("a")
    assert callable(change)
    change(garden)
    node = garden.tree.find(Path("a"))
    assert merge(garden).records == [Gone(path=Path("a"), time=99)]
    assert garden.tree.find(Path("a")) is node
    assert etags_known(garden) == {}, "the next publish puts ours as new"


def test_what_somebody_has_open_is_left_alone() -> None:
    garden = garden_of("a", "b")
    before = body_of(garden.tree)
    assert merge(garden, row("a"), busy=set(garden.files())).records == []
    assert body_of(garden.tree) == before


def test_what_was_changed_and_is_open_is_forgotten_only_once_it_is_closed() -> None:
    garden = garden_of("a")
    dirty(garden)
    assert merge(garden, busy=set(garden.files())).records == []
    assert merge(garden).records == [Gone(path=Path("a"), time=99)]


def test_what_was_deleted_here_does_not_come_back_by_a_change_there() -> None:
    garden = garden_of("a")
    garden.unlink(Path("a"))
    assert merge(garden, row("a")).records == []
    assert etags_known(garden) == {"a": "e-a"}, "the delete's own condition will find theirs"
    assert merge(garden).records == [Gone(path=Path("a"), time=99)]
    assert etags_known(garden) == {}


def test_what_was_moved_here_stays_where_it_is_whatever_comes_to_its_old_name() -> None:
    garden = garden_of("a")
    garden.commit(Rename(parent=TOP, name="a", new_parent=TOP, new_name="b", time=5))
    assert merge(garden, row("a")).records == []
    assert shown(garden) == ["b"]


def test_an_echo_is_known_and_not_shown() -> None:
    garden = garden_of("a")
    echo = content_of(b"late").with_plain(PlainHome(Path("a"), ETag("late")))
    (echoed,) = merge(garden, row("a", "late"), echoes={Path("a"): echo}).records
    assert echoed == Echoed(path=Path("a"), content=echo)
    assert etags_known(garden) == {"a": "late"}
    check(garden)
    assert garden.tree.has_edits, "the next publish puts it right"


def test_a_known_object_that_has_another_name_too_loses_only_the_one() -> None:
    garden = garden_of("a")
    (ino,) = garden.files()
    garden.commit(Link(ino=ino, parent=TOP, name="b", time=5))
    merge(garden)
    assert shown(garden) == ["b"]
    assert garden.tree.nodes[ino].links == 1


# --- names ----------------------------------------------------------------------------------------


def test_an_object_beside_others_below_it_is_skipped_with_a_warning() -> None:
    garden = garden_of()
    merged = merge(garden, row("a"), row("a/b"), row("a/c/d"), row("a/c"))
    assert shown(garden) == ["a/b", "a/c/d"]
    assert [warned.path for warned in merged.warnings] == ["a", "a/c"]
    assert {warned.why for warned in merged.warnings} == {
        "other objects have it as their directory"
    }


def test_an_object_below_a_file_of_ours_is_skipped_with_a_warning() -> None:
    garden = garden_of("a")
    dirty(garden)
    merged = merge(garden, row("a", "e-a"), row("a/b"))
    assert shown(garden) == ["a"]
    assert "a/b" in {warned.path for warned in merged.warnings}


def test_a_file_that_became_a_directory_there_becomes_one_here() -> None:
    garden = garden_of("a")
    merge(garden, row("a/b"))
    assert shown(garden) == ["a/b"]


def test_a_directory_that_became_a_file_there_leaves_its_files_gone() -> None:
    garden = garden_of("a/b")
    merge(garden, row("a"))
    assert shown(garden) == []
    assert etags_known(garden) == {}


@pytest.mark.parametrize("path", ["", "a/", "a/b/", "/"])
def test_the_marker_of_a_directory_is_neither_shown_nor_reported(path: str) -> None:
    garden = garden_of()
    assert merge(garden, row(path, size=0)) == Merged()
    assert shown(garden) == []


@pytest.mark.parametrize("path", [path for path in NO_FILES if path], ids=ascii)
def test_a_key_that_no_file_can_have_is_reported(path: str) -> None:
    garden = garden_of()
    merged = merge(garden, row(path), row("good"))
    assert [warned.path for warned in merged.warnings] == [path]
    assert merged.warnings[0].why
    assert shown(garden) == ["good"]
    assert differing(garden.tree, [row(path)]) == []


def test_every_strange_key_that_a_file_can_have_is_shown() -> None:
    garden = garden_of()
    beside = {directory for path in FILES for directory in ancestors(Path(path))}
    merged = merge(garden, *(row(path) for path in FILES))
    assert {warned.path for warned in merged.warnings} == beside & set(FILES)
    assert set(shown(garden)) == set(FILES) - beside
    assert merge(garden, *(row(path) for path in FILES)).records == []


def test_only_what_differs_and_can_be_a_file_is_looked_at_more_closely() -> None:
    garden = garden_of("a", "b")
    rows = [row("a", "e-a"), row("b"), row("c"), row("../c"), row("d/")]
    assert [one.path for one in differing(garden.tree, rows)] == ["b", "c"]


# --- any listing ----------------------------------------------------------------------------------

names = st.lists(st.sampled_from(["a", "b", "..", "d"]), min_size=1, max_size=3).map("/".join)
listings = st.dictionaries(names, st.sampled_from(["e1", "e2", "e3"]), max_size=8)


@given(st.integers(0, 1 << 32), listings, st.data())
def test_any_listing_can_be_taken_in_and_then_says_nothing_new(
    seed: int, listing: dict[str, str], data: st.DataObject
) -> None:
    garden = Garden(random.Random(seed))
    garden.grow(25)
    held = {ino: garden.read(garden.tree.nodes[ino]) for ino in garden.files()}
    busy = {ino for ino in garden.files() if data.draw(st.booleans())}
    rows = [row(path, etag) for path, etag in listing.items()]
    unsaved = {node.ino for _, node in garden.tree.walk() if node.is_file and not node.is_clean}
    merge(garden, *rows, busy=busy)
    here = {node.ino for _, node in garden.tree.walk()}
    assert unsaved <= here, "only what another tool can bring back may lose its name"
    for ino, was in held.items():
        assert garden.read(garden.tree.nodes[ino]) == was
    again = merge(garden, *rows, busy=busy)
    assert [record for record in again.records if not isinstance(record, Create)] == []


def test_a_lasting_home_makes_no_difference_to_whose_an_object_is() -> None:
    garden = garden_of("a")
    known = garden.tree.known[Path("a")]
    garden.tree.known[Path("a")] = known.with_packed(Packed(named("c"), 0))
    assert merge(garden, row("a", "e-a")).records == []
    garden.commit(Write(ino=garden.files()[0], offset=9, time=5), b"x")
    assert merge(garden, row("a")).records == []
