"""Entries in columns are those that were put in, one by one, by place, and as a whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core.entries import Entries, Entry
from pdfs.core.ids import Inode, Path
from pdfs.core.record import Kind
from tests.core.values import contents

entries = st.lists(
    st.builds(
        Entry,
        path=st.sampled_from([Path("a"), Path("a/b"), Path("ä")]),
        ino=st.integers(2, 1 << 62).map(Inode),
        kind=st.sampled_from(Kind),
        mode=st.integers(0, 0o7777),
        mtime=st.integers(-(1 << 92), 1 << 92),
        xattrs=st.dictionaries(st.sampled_from(["user.a", "user.b"]), st.binary(max_size=3)),
        target=st.sampled_from(["", "x"]),
        rdev=st.integers(0, 3),
        content=st.none() | contents(),
        lost=st.booleans(),
    ),
    max_size=5,
)


@given(entries, st.integers(-7, 7), st.integers(-7, 7))
def test_what_was_put_in_comes_out(some: list[Entry], first: int, last: int) -> None:
    columns = Entries(some)
    assert list(columns) == some
    assert len(columns) == len(some)
    assert columns == some == columns
    assert columns[first:last] == some[first:last]
    for place in range(-len(some), len(some)):
        assert columns[place] == some[place]
    with pytest.raises(IndexError):
        columns[len(some)]


@given(entries, entries)
def test_they_are_equal_where_lists_are(some: list[Entry], others: list[Entry]) -> None:
    assert (Entries(some) == Entries(others)) == (some == others)
    assert (Entries(some) == others) == (some == others)
    assert Entries(some) != "entries"
