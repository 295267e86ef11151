"""Keys and documents that nobody in his right mind writes, and that are in buckets all the same."""

import gzip
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

LONG = "x" * 255
TOO_LONG = "x" * 256

NO_FILES = [
    "",
    ".",
    "..",
    "../x",
    "../../../../etc/passwd",
    "a/../../x",
    "a/..",
    "a/.",
    "./a",
    "a/./b",
    "/abs",
    "//abs",
    "/",
    "//",
    "a//b",
    "a/",
    "a/b/",
    "a\0",
    "\0",
    "a/\0/b",
    "a\0/../b",
    TOO_LONG,
    f"a/{TOO_LONG}",
    f"{TOO_LONG}/a",
    "ä" * 128,
    "\U0001f600" * 64,
    "\ud800",
    "a/\udbff",
    "\ud83dx",
    "\udcc3\udca9",
    "\udc7f",
    "\udc00",
]
"""No file can have these."""

FILES = [
    "a",
    "a/b",
    LONG,
    f"{LONG}/{LONG}",
    "/".join(["d"] * 500),
    "ä" * 127,
    "\U0001f600" * 63,
    "\n",
    "a\nb",
    "\r\n",
    *(f"c{chr(code)}" for code in range(0x01, 0x20)),
    "\x7f",
    "\x85",
    "\u2028",
    "\u202egnp.exe",
    "caf\u00e9",
    "cafe\u0301",
    "README",
    "readme",
    "ReadMe",
    "dot.",
    "end ",
    " ",
    "...",
    "..a",
    "a..",
    "CON",
    "nul.txt",
    "COM1",
    "a:b",
    "a\\b",
    "C:\\x",
    "*?[]",
    "<&>\"'",
    "]]>",
    "&amp;",
    "%2e%2e%2f",
    "%00",
    "-rf",
    "~",
    "$HOME",
    "`id`",
    ".pdfs",
    ".pdfs/planning/root.json",
    "root.json",
    "planning.lock.json",
    ".__partial__",
    "\udcff",
    "a\udc80b",
    "\ufeff",
    "\ufffe",
    "\U0010ffff",
]
"""A file can have each of these, and no two are the same file."""

HOSTILE_NUMBERS: list[object] = [
    -1,
    1 << 63,
    1 << 64,
    10**400,
    -(1 << 63) - 1,
    1.5,
    0.0,
    -0.0,
    1e300,
    "1",
    "",
    True,
    None,
    [],
    {},
]
"""H7: what stands where a size should."""

WRONG_TYPES: list[object] = [None, True, -1, 1 << 64, 1.5, "", "x", [], [[]], {}, {"x": 1}, [None]]


def documents_that_are_none(good: bytes, *, is_packed: bool) -> dict[str, bytes]:
    """L4's kinds of damage to the document `good`, except cuts and wrong fields."""
    wrap: Callable[[bytes], bytes] = gzip.compress if is_packed else lambda text: text
    text = gzip.decompress(good) if is_packed else good
    fields = json.loads(text)
    bad: dict[str, bytes] = {
        "empty": b"",
        "empty text": wrap(b""),
        "one NUL": b"\0",
        "NULs": bytes(len(good)),
        "blanks": wrap(b" " * 300),
        "null": wrap(b"null"),
        "a list": wrap(b"[]"),
        "an empty object": wrap(b"{}"),
        "a number": wrap(b"1"),
        "a string": wrap(b'"free"'),
        "true": wrap(b"true"),
        "HTML": wrap(b"<html><body>404 Not Found</body></html>"),
        "XML": wrap(b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>"),
        "a BOM": wrap(b"\xef\xbb\xbf" + text),
        "UTF-16": wrap(text.decode().encode("utf-16")),
        "UTF-16 without BOM": wrap(text.decode().encode("utf-16-le")),
        "UTF-32": wrap(text.decode().encode("utf-32")),
        "Latin-1": wrap(text[:-2] + b',"\xe4":1}'),
        "NaN": wrap(_first_number(text, b"NaN")),
        "Infinity": wrap(_first_number(text, b"Infinity")),
        "minus Infinity": wrap(_first_number(text, b"-Infinity")),
        "a number beyond floats": wrap(_first_number(text, b"1e999")),
        "a number of 10,000 digits": wrap(_first_number(text, b"9" * 10_000)),
        "a field twice": wrap(b'{"schema":1,' + text.lstrip()[1:]),
        "something behind": wrap(text + b"{}"),
        "twice": wrap(text + text),
        "100,000 lists deep": wrap(b"[" * 100_000 + b"]" * 100_000),
        "100,000 objects deep": wrap(b'{"schema":' * 100_000),
        "single quotes": wrap(repr(fields).encode()),
        "a comment": wrap(b"// lock\n" + text),
        "schema 0": wrap(json.dumps({**fields, "schema": 0}).encode()),
        "another schema": wrap(json.dumps({**fields, "schema": 9}).encode()),
        "another schema and nothing known": wrap(b'{"schema":9,"free":true}'),
        "schema '1'": wrap(json.dumps({**fields, "schema": "1"}).encode()),
        "schema true": wrap(json.dumps({**fields, "schema": True}).encode()),
        "without schema": wrap(
            json.dumps({key: value for key, value in fields.items() if key != "schema"}).encode()
        ),
    }
    if is_packed:
        bad |= {
            "not packed": text,
            "packed twice": gzip.compress(good),
            "another pack behind": good + good,
            "a byte behind": good + b"\0",
            "wrong checksum": good[:-8] + bytes(8),
        }
    for levels in range(900, 1100, 17):
        bad[f"{levels} lists deep in each field"] = wrap(
            json.dumps(dict.fromkeys(fields, 0) | {"schema": 1})
            .replace(": 0", ": " + "[" * levels + "]" * levels)
            .encode()
        )
    return bad


def _first_number(text: bytes, number: bytes) -> bytes:
    """`text` with its second number (the first is the schema) replaced."""
    marks = [at for at in range(len(text)) if text[at : at + 1].isdigit()]
    outside = [at for at in marks if text[:at].count(b'"') % 2 == 0]
    starts = [at for at in outside if at - 1 not in outside]
    start = starts[1]
    stop = start
    while text[stop : stop + 1].isdigit():
        stop += 1
    return text[:start] + number + text[stop:]


def wrong_fields(good: bytes, *, is_packed: bool) -> Iterator[bytes]:
    """`good` with one field, at any depth, replaced by each wrong type or missing."""
    text = gzip.decompress(good) if is_packed else good
    fields = json.loads(text)
    for route in list(_routes(fields)):
        for wrong in [*WRONG_TYPES, ...]:
            yield _out(_with(fields, route, wrong), is_packed=is_packed)


def _routes(value: Any, route: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if route:
        yield route
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _routes(item, (*route, key))


def _with(value: Any, route: tuple[Any, ...], wrong: object) -> Any:
    copy = json.loads(json.dumps(value))
    at = copy
    for key in route[:-1]:
        at = at[key]
    if wrong is ...:
        del at[route[-1]]
    else:
        at[route[-1]] = wrong
    return copy


def _out(fields: Any, *, is_packed: bool) -> bytes:
    text = json.dumps(fields).encode()
    return gzip.compress(text, compresslevel=1) if is_packed else text


def fuzzed(good: bytes, count: int, seed: int, *, is_packed: bool) -> Iterator[bytes]:
    """`good` with random damage: to the text in the pack, mostly, else its checksum finds all."""
    chance = random.Random(seed)
    text = gzip.decompress(good) if is_packed else good
    for _ in range(count):
        damaged = bytearray(text)
        for _ in range(chance.choice([1, 1, 2, 5, 40])):
            at = chance.randrange(len(damaged) + 1)
            match chance.randrange(5):
                case 0 if at < len(damaged):
                    damaged[at] = chance.randrange(256)
                case 1 if at < len(damaged):
                    damaged[at] ^= 1 << chance.randrange(8)
                case 2:
                    damaged[at:at] = chance.choice(_PIECES)
                case 3:
                    del damaged[at : at + chance.randrange(1, 30)]
                case _:
                    other = chance.randrange(len(damaged) + 1)
                    damaged[at:at] = damaged[other : other + chance.randrange(60)]
        yield gzip.compress(bytes(damaged), compresslevel=1) if is_packed else bytes(damaged)


_PIECES = [
    b"\0",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"-",
    b".",
    b"e9",
    b"null",
    b"true",
    b"NaN",
    b"1e999",
    b"9" * 30,
    b"\\ud800",
    b"\\udc80",
    b"\\u0000",
    b"\xff",
    b"..",
    b"/",
    b"0001-01-01T00:00:00+23:59",
    b"9999-12-31T23:59:59-23:59",
]
