"""Documents: equal fields give equal bytes, and no document costs more than it may."""

import gzip
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core.document import Malformed, Reader, pack, parse, render, unpack
from pdfs.errors import ObjectDamaged
from tests.core.hostile import HOSTILE_NUMBERS

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), 1 << 64) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=5), values, max_size=5)


@contextmanager
def at_most(*, seconds: float, mebibytes: float) -> Iterator[None]:
    """Fails where the body takes longer, or ever holds more memory."""
    tracemalloc.start()
    began = time.process_time()
    try:
        yield
        spent, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert spent < seconds
    assert peak < mebibytes * (1 << 20)


@given(objects)
def test_a_document_comes_back_and_equal_fields_give_equal_bytes(
    fields: dict[str, object],
) -> None:
    named = {**fields, "schema": 1}
    for reader in (parse(render(named), schema=1), unpack("k", pack(named), schema=1)):
        assert render(reader._fields) == render(named)
    assert pack(named) == pack(dict(named))


def test_a_document_of_another_schema_is_refused_and_says_whose_it_is() -> None:
    with pytest.raises(Malformed, match="schema 2, of a newer PDFS"):
        parse(render({"schema": 2}), schema=1)
    with pytest.raises(Malformed, match="schema 0, of an older PDFS"):
        parse(render({"schema": 0}), schema=1)


def test_a_document_that_is_too_long_is_refused_unread() -> None:
    body = render({"schema": 1, "x": "y" * 100})
    parse(body, schema=1, most=len(body))
    with pytest.raises(Malformed, match="at most"):
        parse(body, schema=1, most=len(body) - 1)


# --- fields ---------------------------------------------------------------------------------------

READS: dict[str, Callable[[Reader, str], object]] = {
    "text": Reader.text,
    "whole": Reader.whole,
    "number": Reader.number,
    "flag": Reader.flag,
    "time": Reader.time,
    "child": Reader.child,
    "items": Reader.items,
    "texts": Reader.texts,
    "pairs": Reader.pairs,
    "mapping": Reader.mapping,
}
RIGHT: dict[str, list[object]] = {
    "text": ["", "x"],
    "whole": [0, 1, (1 << 63) - 1],
    "number": [0, -1, 1.5, 10**14],
    "flag": [True, False],
    "time": [0, -1, (1 << 63) * 10**9 - 1, -(1 << 63) * 10**9],
    "child": [{}, {"x": 1}],
    "items": [[], [None]],
    "texts": [[], ["x"]],
    "pairs": [[], [["x", 1]], [["", 0]]],
    "mapping": [{}, {"x": 1}],
}
WRONG: dict[str, list[object]] = {
    "text": [None, 1, [], {}, True],
    "whole": [-1, 1 << 63, 1.0, "1", True, None, [], {}],
    "number": ["1", True, None, [], 1e15, float("nan"), float("inf"), 10**400],
    "flag": [0, 1, "true", None, []],
    "time": [(1 << 63) * 10**9, -(1 << 63) * 10**9 - 1, 1 << 95, 1.0, "1", True, None, []],
    "child": [None, [], 1, "x"],
    "items": [None, {}, 1, "x"],
    "texts": [None, {}, [1], ["x", None]],
    "pairs": [None, {}, [["x"]], [["x", -1]], [["x", True]], [["x", 1, 1]], [[1, 1]], ["x1"]],
    "mapping": [None, [], 1],
}


@pytest.mark.parametrize("kind", READS)
def test_a_field_is_read_only_as_what_it_must_be(kind: str) -> None:
    for right in RIGHT[kind]:
        READS[kind](Reader({"f": right}), "f")
    for wrong in WRONG[kind]:
        with pytest.raises(Malformed, match=r"'f'|not an object"):
            READS[kind](Reader({"f": wrong}), "f")


@pytest.mark.parametrize("number", HOSTILE_NUMBERS, ids=lambda number: repr(number)[:20])
def test_no_hostile_number_is_taken_for_a_size(number: object) -> None:
    with pytest.raises(Malformed):
        Reader({"size": number}).whole("size")


def test_a_missing_field_is_its_default_or_malformed() -> None:
    reader = Reader({"null": None})
    assert reader.text("f", "x") == "x"
    assert reader.whole("f", 3) == 3
    assert reader.flag("f") is False
    assert reader.items("f") == []
    assert reader.texts("f") == ()
    assert reader.pairs("f") == ()
    assert reader.mapping("f") == {}
    assert not reader.has("f")
    assert not reader.has("null")
    for read in (reader.text, reader.whole, reader.number, reader.time, reader.child):
        with pytest.raises(Malformed):
            read("f")


@pytest.mark.parametrize("value", [1, "x", None, [], [{}]])
def test_what_is_no_object_has_no_fields(value: object) -> None:
    with pytest.raises(Malformed, match="is not an object"):
        Reader(value)


def test_a_message_shows_no_more_of_a_field_than_a_person_reads() -> None:
    with pytest.raises(Malformed) as raised:
        Reader({"f": "x" * (1 << 20)}).whole("f")
    assert len(str(raised.value)) < 150
    with pytest.raises(Malformed) as raised:
        Reader({"f": [["x"] * 1000] * 1000}).whole("f")
    assert len(str(raised.value)) < 150


# --- H8 -------------------------------------------------------------------------------------------


def bomb(packed_size: int, piece: bytes) -> bytes:
    """A pack of about that size whose text is as long as gzip can make it."""
    packer = zlib.compressobj(9, wbits=31)
    out = packer.compress(b'{"schema":1,"x":[') + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(piece * ((4 << 20) // len(piece))) + packer.flush(zlib.Z_FULL_FLUSH)
    return out + block * (packed_size // len(block) + 1) + packer.compress(b"0]}") + packer.flush()


@pytest.mark.figure(name="H8")
@pytest.mark.parametrize("piece", [b" ", b"[],", b"{},", b'"",', b"0,"])
@pytest.mark.parametrize("size", [6 << 10, 1 << 16, 1 << 20])
def test_a_bomb_is_refused_fast_and_with_bounded_memory(size: int, piece: bytes) -> None:
    body = bomb(size, piece)
    with at_most(seconds=1, mebibytes=200), pytest.raises(ObjectDamaged, match="unpacks to more"):
        unpack("k", body, schema=1)


def test_what_may_be_unpacked_without_question_fits_into_memory_as_json() -> None:
    text = b'{"schema":1,"x":[' + b"{}," * ((1 << 20) // 3) + b"0]}"  # a quarter of it
    with at_most(seconds=10, mebibytes=200 / 4):
        unpack("k", gzip.compress(text), schema=1)


@pytest.mark.parametrize("letter", ["a", "\0"])
def test_a_document_that_shrinks_like_a_bomb_can_be_read_again(letter: str) -> None:
    fields: dict[str, object] = {"schema": 1, "x": letter * (6 << 20)}
    assert unpack("k", pack(fields), schema=1).text("x") == fields["x"]
