"""Records: every one comes back from its bytes, and nothing else is taken for one."""

import json
import random
from dataclasses import MISSING, fields
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core.content import Content, Digest, ETag, Packed, Plain
from pdfs.core.ids import Inode, Path, PublishId, Sequence
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
    decode,
    encode,
)
from pdfs.errors import JournalDamaged
from tests.core.hostile import WRONG_TYPES
from tests.core.values import RECORDS, named, records

CODES = {cls: cls.code for cls in RECORDS}


def test_there_is_a_strategy_for_every_record() -> None:
    assert set(RECORDS) == set(get_args(Record))
    assert sorted(CODES.values()) == list(range(1, 15))


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_every_record_comes_back_from_its_bytes(kind: type[Any]) -> None:
    @given(RECORDS[kind])
    def check(record: Record) -> None:
        code, body = encode(record)
        assert code == kind.code
        assert decode(code, body) == record
        assert encode(decode(code, body)) == (code, body)

    check()


@given(records)
def test_a_body_is_ascii_so_that_names_which_are_not_utf_8_survive(record: Record) -> None:
    code, body = encode(record)
    assert code == Write.code or body.isascii()


# --- golden bytes of schema 1 ---------------------------------------------------------------------

CONTENT = Content(
    size=9,
    digest=Digest(b"\xaa" * 32),
    parts=(Digest(b"\xbb" * 32),),
    packed=(Packed(named("c"), 4),),
    plain=(Plain(Path("d/ä"), ETag("e")),),
)
_CONTENT = (
    f'{{"size":9,"digest":"{"aa" * 32}","parts":["{"bb" * 32}"],"packed":[["000000000007-c",4]],'
    '"plain":[["d/\\u00e4","e"]]}'
)
RENAME = Rename(parent=Inode(1), name="a", new_parent=Inode(2), new_name="b", time=5, exchange=True)
_RENAME = '{"parent":1,"name":"a","new_parent":2,"new_name":"b","time":5,"exchange":true}'
FOUND = Found(
    parent=Inode(1),
    name="ä",
    path=Path("d/ä"),
    ino=Inode(9),
    mode=0o644,
    uid=7,
    gid=8,
    mtime=-1,
    time=5,
    content=CONTENT,
)
_FOUND = (
    '{"parent":1,"name":"\\u00e4","path":"d/\\u00e4","ino":9,"mode":420,"uid":7,"gid":8,'
    f'"mtime":-1,"time":5,"content":{_CONTENT}}}'
)
PUBLISH = PublishId("000000000007-p")

GOLDEN: list[tuple[Record, int, bytes]] = [
    (
        Create(
            parent=Inode(1),
            name="b\udcff",
            ino=Inode(1 << 32),
            kind=Kind.SYMLINK,
            mode=0o777,
            uid=7,
            gid=8,
            time=5,
            target="x",
        ),
        1,
        (
            b'{"parent":1,"name":"b\\udcff","ino":4294967296,"kind":"symlink","mode":511,"uid":7,'
            b'"gid":8,"time":5,"rdev":0,"target":"x"}'
        ),
    ),
    (
        Write(ino=Inode(1 << 32), offset=4096, time=-2),
        2,
        bytes.fromhex("00000000010000000010000000000000feffffffffffffff"),
    ),
    (SetAttributes(ino=Inode(9), time=5, size=0), 3, b'{"ino":9,"time":5,"size":0}'),
    (RENAME, 4, _RENAME.encode()),
    (
        Link(ino=Inode(9), parent=Inode(1), name="a", time=5),
        5,
        b'{"ino":9,"parent":1,"name":"a","time":5}',
    ),
    (Unlink(parent=Inode(1), name="a", time=5), 6, b'{"parent":1,"name":"a","time":5}'),
    (
        SetXattr(ino=Inode(9), name="user.x", time=5, value=b"\0\xff"),
        7,
        b'{"ino":9,"name":"user.x","time":5,"value":"AP8="}',
    ),
    (Drop(ino=Inode(9)), 8, b'{"ino":9}'),
    (
        Publishing(publish=PUBLISH, sequence=Sequence(41)),
        9,
        b'{"publish":"000000000007-p","sequence":41}',
    ),
    (FOUND, 10, _FOUND.encode()),
    (
        Gone(path=Path("d/a"), time=5, parent=Inode(2), name="a"),
        11,
        b'{"path":"d/a","time":5,"parent":2,"name":"a"}',
    ),
    (
        Settled(
            publish=PUBLISH,
            generation=3,
            tree=named("t"),
            contents=(CONTENT,),
            bases=((Inode(9), 0),),
            known=((Path("d/a"), -1),),
            sequence=Sequence(41),
            moves=(RENAME,),
            found=(FOUND,),
        ),
        12,
        (
            '{"publish":"000000000007-p","generation":3,"tree":"000000000007-t",'
            f'"contents":[{_CONTENT}],"bases":[[9,0]],"known":[["d/a",-1]],"sequence":41,'
            f'"moves":[{_RENAME}],"found":[{_FOUND}]}}'
        ).encode(),
    ),
    (
        Echoed(path=Path("d/a"), content=CONTENT),
        13,
        f'{{"path":"d/a","content":{_CONTENT}}}'.encode(),
    ),
    (Brought(ino=Inode(9), start=4096), 14, b'{"ino":9,"start":4096}'),
]


@pytest.mark.parametrize(("record", "code", "body"), GOLDEN, ids=lambda part: type(part).__name__)
def test_the_bytes_of_schema_1_stay_as_they_are(record: Record, code: int, body: bytes) -> None:
    assert encode(record) == (code, body)
    assert decode(code, body) == record


def test_the_golden_bytes_show_every_record() -> None:
    assert {code for _, code, _ in GOLDEN} == set(CODES.values())


# --- what is no record ----------------------------------------------------------------------------


def is_refused(code: int, body: bytes) -> bool:
    """Whether these bytes are refused as they should be; any other exception comes through."""
    try:
        decode(code, body)
    except JournalDamaged:
        return True
    return False


@pytest.mark.parametrize("code", [-1, 0, 15, 255, 1 << 40])
def test_an_unknown_code_is_damage(code: int) -> None:
    with pytest.raises(JournalDamaged, match="unknown code"):
        decode(code, b"{}")


@pytest.mark.parametrize(("record", "code", "body"), GOLDEN, ids=lambda part: type(part).__name__)
def test_a_body_cut_at_any_byte_is_damage(record: Record, code: int, body: bytes) -> None:
    assert all(is_refused(code, body[:stop]) for stop in range(len(body)))
    assert is_refused(code, body + b"x")


JSON_RECORDS = [(record, code, body) for record, code, body in GOLDEN if code != Write.code]


@pytest.mark.parametrize(("record", "code", "body"), JSON_RECORDS)
def test_a_field_of_the_wrong_type_is_damage(record: Any, code: int, body: bytes) -> None:
    good = json.loads(body)
    for name, right in good.items():
        for wrong in [*WRONG_TYPES, {"size": -1}, {"size": 1, "parts": 5}, [[1]], [[1, 2, 3]]]:
            if type(wrong) is type(right) and not (isinstance(wrong, list) and wrong):
                continue
            assert is_refused(code, json.dumps({**good, name: wrong}).encode()), (name, wrong)


@pytest.mark.parametrize(("record", "code", "body"), JSON_RECORDS)
def test_a_missing_or_surplus_field_is_damage(record: Any, code: int, body: bytes) -> None:
    good = json.loads(body)
    optional = {field.name for field in fields(record) if field.default is not MISSING}
    for name in good.keys() - optional:
        assert is_refused(code, json.dumps({k: v for k, v in good.items() if k != name}).encode())
    assert is_refused(code, json.dumps({**good, "code": code}).encode())
    assert is_refused(code, json.dumps({**good, "more": 1}).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"1",
        b'"x"',
        b"[]",
        b'[["ino",9]]',
        b'{"ino":9}{"ino":9}',
        b'{"ino":1e3}',
        b'{"ino":NaN}',
        b'{"ino":1e999}',
        b'{"ino":' + b"9" * 5000 + b"}",
        b'{"ino":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 100_000,
        b'\xef\xbb\xbf{"ino":9}',
        '{"ino":9}'.encode("utf-16"),
        '{"ino":9}'.encode("utf-32"),
        b'{"\xff":9}',
    ],
    ids=lambda body: ascii(body)[:30],
)
def test_what_is_not_an_object_in_utf_8_is_damage(body: bytes) -> None:
    assert is_refused(Drop.code, body)


@pytest.mark.parametrize("levels", range(900, 1100, 7))
def test_nesting_as_deep_as_the_stack_is_damage(levels: int) -> None:
    deep = b"[" * levels + b"]" * levels
    assert is_refused(Drop.code, b'{"ino":%s}' % deep)
    assert is_refused(Settled.code, b'{"contents":%s}' % deep)


@pytest.mark.parametrize("name", ["\ud800", "a\udfff"])
def test_a_name_that_no_file_can_have_is_damage(name: str) -> None:
    body = json.dumps({"parent": 1, "name": name, "time": 5}).encode()
    assert is_refused(Unlink.code, body)


@given(st.integers(0, 20), st.binary(max_size=60))
def test_random_bytes_are_never_anything_but_damage_or_a_record(code: int, body: bytes) -> None:
    is_refused(code, body)


def test_damaged_bodies_are_never_anything_but_damage_or_a_record(seed: int, is_full: bool) -> None:
    chance = random.Random(seed)
    refused = 0
    for _ in range(100_000 if is_full else 5_000):
        _, code, body = chance.choice(GOLDEN)
        damaged = bytearray(body)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.choice(b'\0"[]{},:019-.eE\\u\xff tfn')
        refused += is_refused(chance.choice([code, code, chance.randrange(15)]), bytes(damaged))
    assert refused > 1000
