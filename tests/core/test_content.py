"""Contents: the grid of parts, digests, and when two contents are the same bytes."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core.content import (
    EMPTY,
    MOST_PARTS,
    PART_SIZE,
    Content,
    Digest,
    ETag,
    Packed,
    Plain,
    SameBytes,
    content_of,
    described,
    digest_in,
    digest_of,
    digest_of_parts,
    part_size,
    part_spans,
)
from pdfs.core.ids import Path
from tests.core.values import contents, named


def test_a_part_is_8_mib_until_ten_thousand_of_them_do_not_suffice() -> None:
    most = PART_SIZE * MOST_PARTS
    assert [part_size(size) for size in (0, 1, most)] == [PART_SIZE] * 3
    assert part_size(most + 1) == 2 * PART_SIZE
    assert part_size(2 * most + 1) == 4 * PART_SIZE


@pytest.mark.parametrize("size", [0, 1, PART_SIZE, PART_SIZE + 1, 1 << 40, (1 << 63) - 1])
def test_even_the_largest_size_needs_at_most_ten_thousand_parts(size: int) -> None:
    assert len(part_spans(size)) <= MOST_PARTS


@given(st.integers(0, 5_000), st.integers(1, 700))
def test_the_parts_cover_the_content_without_gap_and_all_but_the_last_are_equal(
    size: int, smallest: int
) -> None:
    spans = part_spans(size, smallest)
    assert [byte for start, stop in spans for byte in range(start, stop)] == list(range(size))
    assert all(stop - start == part_size(size, smallest) for start, stop in spans[:-1])
    assert all(stop > start for start, stop in spans)


@given(st.binary(max_size=300))
def test_a_short_content_is_known_by_the_blake2b_of_its_bytes(data: bytes) -> None:
    content = content_of(data)
    assert content.digest == hashlib.blake2b(data, digest_size=32).digest() == digest_of(data)
    assert (content.size, content.parts, content.packed, content.plain) == (len(data), (), (), ())


@given(st.binary(min_size=65, max_size=300))
def test_a_long_content_is_known_by_the_digests_of_its_parts(data: bytes) -> None:
    content = content_of(data, smallest_part=64)
    assert content.parts == tuple(digest_of(data[a:b]) for a, b in part_spans(len(data), 64))
    assert content.digest == digest_of_parts(content.parts)
    assert content.digest not in {digest_of(data), digest_of(b"".join(content.parts))}
    assert content == described(len(data), content.parts)


def test_a_content_of_one_part_needs_no_list_of_parts() -> None:
    assert content_of(bytes(64), smallest_part=64).parts == ()
    assert len(content_of(bytes(65), smallest_part=64).parts) == 2


def test_golden_digests_of_schema_1() -> None:
    assert EMPTY.digest == digest_in(
        "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"
    )
    assert content_of(b"").digest == EMPTY.digest
    assert content_of(b"pump").digest == digest_in(
        "757c823cdaadfc716e5bab616d3591ce370ebae117b475a21bf29d397483a1e9"
    )
    assert content_of(b"pump", smallest_part=2).digest == digest_in(
        "a0a78eda6d7ffe93423560ac957312fd6d3d4b9342633f89afad939c650eda34"
    )


A, B = Digest(b"\xaa" * 32), Digest(b"\xbb" * 32)
HOME = Plain(Path("x"), ETag("e1"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Content(size=3, digest=A), Content(size=3, digest=A), True),
        (Content(size=3, digest=A), Content(size=3, digest=B), False),
        (Content(size=3, digest=A), Content(size=4, digest=A), False),
        (Content(size=3, digest=A, plain=(HOME,)), Content(size=3, digest=B, plain=(HOME,)), False),
        (
            Content(size=3, digest=None, plain=(HOME,)),
            Content(size=3, digest=A, plain=(HOME,)),
            True,
        ),
        (Content(size=3, digest=None), Content(size=3, digest=None), False),
        (
            Content(size=3, digest=None, plain=(HOME,)),
            Content(size=4, digest=A, plain=(HOME,)),
            False,
        ),
        (
            Content(size=3, digest=None, plain=(HOME,)),
            Content(size=3, digest=None, plain=(Plain(Path("y"), ETag("e1")),)),
            False,
        ),
    ],
)
def test_contents_are_the_same_only_by_digest_or_by_a_home_they_share(
    one: Content, other: Content, same: bool
) -> None:
    assert one.is_same(other) is other.is_same(one) is same


@given(contents())
def test_plain_homes_are_found_by_path_and_replaced_as_a_whole(content: Content) -> None:
    assert content.with_plain().plain == ()
    moved = content.with_plain(HOME)
    assert moved.etag_at(Path("x")) == "e1"
    assert moved.etag_at(Path("y")) is None
    assert moved.with_packed().packed == ()
    assert moved.with_packed().plain == (HOME,)


def test_what_outlives_the_plain_objects_is_packed_or_empty() -> None:
    assert Content(size=0, digest=None).outlives_plain
    assert Content(size=1, digest=A, packed=(Packed(named("x"), 0),)).outlives_plain
    assert not Content(size=1, digest=A, plain=(HOME,)).outlives_plain


_few = st.builds(
    Content,
    size=st.sampled_from([0, 9]),
    digest=st.none() | st.sampled_from([digest_of(b"1"), digest_of(b"2")]),
    plain=st.lists(
        st.builds(Plain, st.sampled_from([Path("a"), Path("b")]), st.just(ETag("e"))), max_size=2
    ).map(tuple),
)


@given(st.lists(_few, max_size=4), _few)
def test_whether_one_of_many_is_the_same_is_told_as_by_asking_each(
    others: list[Content], content: Content
) -> None:
    assert SameBytes(others).has(content) is any(content.is_same(other) for other in others)
