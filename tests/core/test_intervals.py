"""Extents against the obvious model: for each byte of a file, where in the journal it lies."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pdfs.core.intervals import Extent, Extents, Position

REACH = 40
"""Operations touch bytes below this, so that they meet."""

Model = dict[int, Position]
Operation = tuple[str, int, int]

operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, REACH), st.integers(0, 15)),
        st.tuples(st.just("append"), st.just(0), st.integers(1, 9)),
        st.tuples(st.just("cut"), st.integers(0, REACH), st.just(0)),
        st.tuples(st.just("drop"), st.integers(0, 12), st.just(0)),
    ),
    max_size=25,
)


def carry_out(chosen: list[Operation]) -> tuple[Extents, Model]:
    """Both after the same operations; each put's bytes come after those of the one before."""
    extents, model, appended = Extents(), Model(), list[Position]()
    segment, offset = 1, 0
    for number, (operation, at, length) in enumerate(chosen):
        match operation:
            case "put" | "append":
                start = at if operation == "put" else max(model, default=-1) + 1
                extents.put(Extent(start, start + length, Position(segment, offset)))
                for byte in range(length):
                    model[start + byte] = Position(segment, offset + byte)
                appended.append(Position(segment, offset))
                offset += length
                if number % 5 == 4:
                    segment, offset = segment + 1, 0
            case "cut":
                extents.cut(at)
                model = {byte: where for byte, where in model.items() if byte < at}
            case "drop" if at < len(appended):
                extents.drop_until(appended[at])
                model = {byte: where for byte, where in model.items() if where >= appended[at]}
    return extents, model


def spread(extents: list[Extent]) -> Model:
    return {
        extent.start + byte: Position(extent.at.segment, extent.at.offset + byte)
        for extent in extents
        for byte in range(extent.stop - extent.start)
    }


@given(operations)
def test_every_byte_is_found_where_it_was_written_last(chosen: list[Operation]) -> None:
    extents, model = carry_out(chosen)
    assert spread(list(extents)) == model


@given(operations)
def test_extents_never_overlap_never_are_empty_and_stand_in_order(chosen: list[Operation]) -> None:
    extents = list(carry_out(chosen)[0])
    assert all(extent.start < extent.stop for extent in extents)
    assert all(a.stop <= b.start for a, b in pairwise(extents))


@given(operations, st.integers(0, REACH + 15), st.integers(1, REACH + 15))
def test_between_gives_exactly_the_bytes_of_the_range(
    chosen: list[Operation], start: int, length: int
) -> None:
    extents, model = carry_out(chosen)
    found = extents.between(start, start + length)
    expected = {byte: at for byte, at in model.items() if start <= byte < start + length}
    assert spread(found) == expected
    assert found == sorted(found, key=lambda extent: extent.start)


@given(operations)
def test_extents_that_were_laid_one_by_one_equal_those_that_were_made_at_once(
    chosen: list[Operation],
) -> None:
    extents, _ = carry_out(chosen)
    copy = Extents(extents)
    assert copy == extents
    assert len(copy) == len(list(extents))
    copy.put(Extent(500, 501, Position(9, 9)))
    assert copy != extents


def test_a_write_into_the_middle_of_another_leaves_both_its_ends() -> None:
    extents = Extents([Extent(0, 10, Position(1, 100))])
    extents.put(Extent(4, 6, Position(1, 200)))
    assert list(extents) == [
        Extent(0, 4, Position(1, 100)),
        Extent(4, 6, Position(1, 200)),
        Extent(6, 10, Position(1, 106)),
    ]


def test_bytes_written_at_the_boundary_itself_are_not_dropped() -> None:
    extents = Extents([Extent(0, 1, Position(1, 9)), Extent(1, 2, Position(1, 10))])
    extents.drop_until(Position(1, 10))
    assert list(extents) == [Extent(1, 2, Position(1, 10))]


def test_a_write_of_nothing_leaves_no_trace() -> None:
    extents = Extents()
    extents.put(Extent(5, 5, Position(1, 0)))
    assert len(extents) == 0
    assert extents != [5]


def test_many_appends_are_found_in_no_more_than_logarithmic_steps() -> None:
    extents = Extents()
    for number in range(20_000):
        extents.put(Extent(number * 2, number * 2 + 1, Position(1, number)))
    assert extents.between(20_000, 20_003) == [
        Extent(20_000, 20_001, Position(1, 10_000)),
        Extent(20_002, 20_003, Position(1, 10_001)),
    ]
