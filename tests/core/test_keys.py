"""Keys: where everything lies in the bucket, and names that can't be (figure H5)."""

import os
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core.ids import (
    MOST_FENCE,
    Fence,
    Inode,
    Path,
    fence_of,
    first_inode,
    is_object_name,
    object_name,
)
from pdfs.core.keys import (
    StageKeys,
    ancestors,
    check_name,
    join,
    leaf,
    parent,
    why_no_file,
)
from pdfs.errors import UsageError
from tests.core.hostile import FILES, LONG, NO_FILES
from tests.core.values import names, paths

KEYS = StageKeys("Kraftwerk_1234567", "planning")
NAME = object_name(Fence(7), "abc")


def test_the_keys_of_a_stage_are_those_of_the_design() -> None:
    assert KEYS.lock == "Kraftwerk_1234567/planning.lock.json"
    assert KEYS.root == "Kraftwerk_1234567/.pdfs/planning/root.json"
    assert KEYS.tree(NAME) == "Kraftwerk_1234567/.pdfs/planning/trees/000000000007-abc.json.gz"
    assert KEYS.plan(NAME) == "Kraftwerk_1234567/.pdfs/planning/plans/000000000007-abc.json.gz"
    assert KEYS.content(NAME) == "Kraftwerk_1234567/.pdfs/planning/contents/000000000007-abc"
    assert KEYS.plain(Path("a/b.dwg")) == "Kraftwerk_1234567/planning/a/b.dwg"


def test_names_of_objects_sort_by_fence_and_tell_it() -> None:
    ordered = [object_name(Fence(fence), "x") for fence in (1, 9, 10, 999_999_999_999)]
    assert ordered == sorted(ordered)
    assert [fence_of(name) for name in ordered] == [1, 9, 10, 999_999_999_999]


def test_inode_numbers_of_two_fences_never_meet() -> None:
    assert first_inode(Fence(1)) == Inode(1 << 32)
    assert first_inode(Fence(2)) - first_inode(Fence(1)) == 1 << 32


# --- H5 -------------------------------------------------------------------------------------------


def test_there_are_enough_hostile_keys() -> None:
    assert len(set(NO_FILES + FILES)) == len(NO_FILES + FILES) >= 60


@pytest.mark.parametrize("path", NO_FILES, ids=ascii)
def test_a_key_that_no_file_can_have_is_told_with_a_reason(path: str) -> None:
    reason = why_no_file(path)
    assert reason
    assert reason.isprintable()


@pytest.mark.parametrize("path", FILES, ids=lambda path: ascii(path)[:40])
def test_a_strange_key_that_a_file_can_have_is_taken(path: str) -> None:
    assert why_no_file(path) is None
    assert os.fsdecode(os.fsencode(path)) == path


def test_no_two_hostile_keys_are_the_same_plain_object() -> None:
    assert len({KEYS.plain(Path(path)) for path in NO_FILES + FILES}) == len(NO_FILES + FILES)


@pytest.mark.parametrize("path", NO_FILES + FILES, ids=lambda path: ascii(path)[:40])
def test_no_path_leads_to_a_key_of_the_machinery(path: str) -> None:
    key = KEYS.plain(Path(path))
    assert key.startswith(KEYS.plain_prefix)
    assert not key.startswith(KEYS.internal_prefix)
    assert key != KEYS.lock


@given(st.text(max_size=12) | paths)
def test_judging_any_key_gives_a_reason_or_a_name_that_a_file_system_takes(path: str) -> None:
    if why_no_file(path) is None:
        for part in os.fsencode(path).split(b"/"):
            assert 1 <= len(part) <= 255
            assert part not in {b".", b".."}
            assert b"\0" not in part


@given(st.text(max_size=20) | paths)
def test_path_of_is_the_inverse_of_plain(path: str) -> None:
    assert KEYS.path_of(KEYS.plain(Path(path))) == path


def test_a_path_is_invisible_where_its_key_is_too_long_or_not_utf_8() -> None:
    room = 1024 - len(KEYS.plain_prefix.encode())
    fits = Path("/".join([LONG] * 4)[: room - 2] + "ä")
    assert KEYS.why_invisible(fits, 1024) is None
    assert "1025 bytes" in str(KEYS.why_invisible(Path(f"{fits}x"), 1024))
    assert "UTF-8" in str(KEYS.why_invisible(Path("a\udcff"), 1024))
    assert KEYS.why_invisible(Path("a"), 1024) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "1-a",
        "000000000001-",
        "0000000000001-a",
        "000000000001-A",
        "000000000001-a/..",
        "000000000001-a\n",
        f"000000000001-{'a' * 65}",
        f"{'1' * 1000}-a",
    ],
    ids=lambda name: ascii(name)[:20],
)
def test_what_no_key_could_hold_is_no_name_of_an_object(name: str) -> None:
    assert not is_object_name(name)
    assert KEYS.internal_of(f"{KEYS.internal_prefix}contents/{name}") is None


def test_every_name_that_is_given_is_one_of_an_object() -> None:
    for fence in (1, MOST_FENCE):
        assert is_object_name(object_name(Fence(fence), uuid.uuid4().hex))


# --- paths ----------------------------------------------------------------------------------------


@given(paths)
def test_a_path_is_its_directory_joined_with_its_leaf(path: Path) -> None:
    assert join(parent(path), leaf(path)) == path


@given(paths)
def test_the_ancestors_are_every_directory_above_the_nearest_first(path: Path) -> None:
    above = ancestors(path)
    assert len(above) == path.count("/")
    assert all(path.startswith(f"{directory}/") for directory in above)
    assert above == sorted(above, key=len, reverse=True)


def test_the_top_directory_is_its_own_parent() -> None:
    assert parent(Path("")) == parent(Path("a")) == ""
    assert ancestors(Path("")) == ancestors(Path("a")) == []


# --- names of projects and stages -----------------------------------------------------------------

BAD_NAMES = [
    "",
    ".",
    "..",
    ".pdfs",
    "-rf",
    "--create",
    "a/b",
    "/a",
    "a\0b",
    "a\nb",
    "a\x1f",
    "a\x7f",
    "a\x85",
    "x" * 129,
    "ä" * 65,
    "cafe\u0301",
    "\u212b",
    "a\udcff",
    "\ud800",
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
@pytest.mark.parametrize("what", ["project", "stage"])
def test_a_bad_name_is_refused_in_words(what: str, name: str) -> None:
    with pytest.raises(UsageError, match=f"can't be the name of a {what}"):
        check_name(what, name)
    with pytest.raises(UsageError):
        StageKeys(*(name if what == each else "good" for each in ("project", "stage")))


@pytest.mark.parametrize(
    "name", ["a", "Kraftwerk_1234567", "x" * 128, "ä" * 64, "caf\u00e9", "a b", "a.b", "日本"]
)
def test_a_good_name_is_returned_as_it_is(name: str) -> None:
    assert check_name("project", name) == check_name("stage", name) == name


def test_a_stage_can_not_be_taken_for_a_lock() -> None:
    assert check_name("project", "a.lock.json") == "a.lock.json"
    with pytest.raises(UsageError, match=r"ends in \.lock\.json"):
        check_name("stage", "a.lock.json")


@given(names, names)
def test_keys_of_two_stages_never_meet(one: str, other: str) -> None:
    try:
        first, second = StageKeys("p", one), StageKeys("p", other)
    except UsageError:
        return
    if one != other:
        assert first.lock != second.lock
        assert not first.plain_prefix.startswith(second.plain_prefix)
        assert not first.internal_prefix.startswith(second.internal_prefix)
        assert not first.lock.startswith((second.plain_prefix, second.internal_prefix))
