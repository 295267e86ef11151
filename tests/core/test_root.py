"""The root: what it says in bytes, and everything else refused (L4)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core.ids import Fence, PublishId, RunId, Sequence, SessionId
from pdfs.core.lease import Unpublished
from pdfs.core.root import LastPublish, Root, SessionEntry, decode, encode
from pdfs.errors import ObjectDamaged
from tests.core.hostile import documents_that_are_none, fuzzed, wrong_fields
from tests.core.values import named, roots

KEY = "p/.pdfs/s/root.json"
ENTRY = SessionEntry(
    session=SessionId("5e55"),
    user="änna",
    machine="ws7",
    fences=(Fence(5), Fence(7)),
    base=named("b"),
    last=LastPublish(
        generation=3,
        publish=PublishId("000000000007-p"),
        tree=named("p"),
        sequence=Sequence(41),
    ),
    unpublished=Unpublished(files=2, bytes=9),
)
GOLDEN = Root(
    id="1d",
    generation=3,
    fence=Fence(7),
    session=SessionId("5e55"),
    run=RunId("4a"),
    tree=named("p"),
    plan=None,
    sessions=(
        ENTRY,
        SessionEntry(session=SessionId("0"), user="", machine="", fences=(), base=None),
    ),
)
GOLDEN_TEXT = """{
 "schema": 1,
 "id": "1d",
 "generation": 3,
 "fence": 7,
 "session": "5e55",
 "run": "4a",
 "tree": "000000000007-p",
 "plan": null,
 "sessions": [
  {
   "session": "5e55",
   "user": "\\u00e4nna",
   "machine": "ws7",
   "fences": [
    5,
    7
   ],
   "base": "000000000007-b",
   "last": {
    "generation": 3,
    "publish": "000000000007-p",
    "tree": "000000000007-p",
    "sequence": 41
   },
   "unpublished": {
    "files": 2,
    "bytes": 9
   }
  },
  {
   "session": "0",
   "user": "",
   "machine": "",
   "fences": [],
   "base": null,
   "last": null,
   "unpublished": {
    "files": 0,
    "bytes": 0
   }
  }
 ]
}
"""


def is_refused(body: bytes) -> bool:
    """Whether these bytes are refused as they should be; any other exception comes through."""
    try:
        decode(KEY, body)
    except ObjectDamaged as error:
        return KEY in str(error)
    return False


def test_the_bytes_of_schema_1_stay_as_they_are() -> None:
    assert encode(GOLDEN).decode() == GOLDEN_TEXT
    assert decode(KEY, GOLDEN_TEXT.encode()) == GOLDEN


@given(roots)
def test_every_root_comes_back_from_its_bytes(root: Root) -> None:
    assert decode(KEY, encode(root)) == root


@given(roots)
def test_roots_of_two_ids_never_have_equal_bytes(root: Root) -> None:
    assert encode(replace(root, id="x")) != encode(replace(root, id="y"))


BAD = documents_that_are_none(encode(GOLDEN), is_packed=False)


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_it_is_refused(body: bytes) -> None:
    assert is_refused(body)


def test_a_root_cut_at_any_byte_is_refused() -> None:
    text = encode(GOLDEN).rstrip()
    assert all(is_refused(text[:stop]) for stop in range(len(text)))


def test_wrong_types_are_refused_or_harmless_everywhere() -> None:
    count = refused = 0
    for body in wrong_fields(encode(GOLDEN), is_packed=False):
        count += 1
        refused += is_refused(body)
    assert count > 300
    assert refused > count * 0.7


def test_no_damage_has_any_other_effect_than_a_refusal(seed: int, is_full: bool) -> None:
    count = 100_000 if is_full else 3_000
    assert sum(map(is_refused, fuzzed(encode(GOLDEN), count, seed, is_packed=False))) > count / 4


@given(st.binary(max_size=100))
def test_random_bytes_are_refused(body: bytes) -> None:
    assert is_refused(body)


# --- sessions -------------------------------------------------------------------------------------


@given(roots, st.data())
def test_an_entry_replaces_that_of_its_session_and_leaves_the_others(
    root: Root, data: st.DataObject
) -> None:
    known = [entry.session for entry in root.sessions]
    session = data.draw(st.sampled_from([*known, SessionId("new")]))
    entry = replace(ENTRY, session=session)
    after = root.with_entry(entry)
    assert after.entry(session) == entry
    others = [other for other in root.sessions if other.session != session]
    assert [other for other in after.sessions if other.session != session] == others
    ended = after.without_entry(session)
    assert ended.entry(session) is None
    assert list(ended.sessions) == others
    assert replace(after, sessions=()) == replace(root, sessions=())
