"""The lock: its bytes, whatever else may stand there (L4), and who may take it (L3)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core.ids import Fence, RunId, SessionId
from pdfs.core.lease import (
    MOST_BYTES,
    Claimant,
    Lock,
    LockState,
    Refusal,
    Right,
    Unpublished,
    decode,
    encode,
    judge,
    moment,
    seconds_of,
)
from pdfs.core.timing import Timing
from pdfs.errors import LockUnreadable
from tests.conftest import Reached
from tests.core.hostile import documents_that_are_none, fuzzed, wrong_fields
from tests.core.test_document import at_most
from tests.core.values import locks
from tests.lengths import Length

KEY = "p/s.lock.json"
NOON = 1_800_000_000.0
HOUR = 3600.0
TIMING = Timing()

LOCK = Lock(
    id="1d",
    user="anna",
    machine="ws7",
    since=NOON - 60,
    renewed=NOON,
    expires=NOON + 12 * HOUR,
    session=SessionId("5e55"),
    run=RunId("4a"),
    fence=Fence(7),
    state=LockState.ACTIVE,
    pending=Unpublished(files=2, bytes=9),
    pdfs="0.1",
)
GOLDEN_TEXT = """{
 "schema": 1,
 "user": "anna",
 "since": "2027-01-15T07:59:00.000Z",
 "machine": "ws7",
 "expires": "2027-01-15T20:00:00.000Z",
 "session": "5e55",
 "run": "4a",
 "renewed": "2027-01-15T08:00:00.000Z",
 "fence": 7,
 "state": "active",
 "pending": {
  "files": 2,
  "bytes": 9
 },
 "pdfs": "0.1",
 "id": "1d"
}
"""


def is_refused(body: bytes) -> bool:
    """Whether these bytes are refused as they should be; any other exception comes through."""
    try:
        decode(KEY, body)
    except LockUnreadable as error:
        return KEY in str(error) and "--take-over" in str(error)
    return False


def test_the_bytes_of_schema_1_stay_as_they_are() -> None:
    assert encode(LOCK).decode() == GOLDEN_TEXT
    assert decode(KEY, GOLDEN_TEXT.encode()) == LOCK


@given(locks)
def test_every_lock_comes_back_from_its_bytes_with_times_to_the_millisecond(lock: Lock) -> None:
    back = decode(KEY, encode(lock))
    times = [(lock.since, back.since), (lock.renewed, back.renewed), (lock.expires, back.expires)]
    assert all(abs(one - other) < 0.002 for one, other in times)
    assert replace(back, since=0.0, renewed=0.0, expires=0.0) == replace(
        lock, since=0.0, renewed=0.0, expires=0.0
    )


@given(locks)
def test_locks_of_two_ids_never_have_equal_bytes(lock: Lock) -> None:
    assert encode(replace(lock, id="x")) != encode(replace(lock, id="y"))


# --- L4 -------------------------------------------------------------------------------------------

BAD = documents_that_are_none(encode(LOCK), is_packed=False)


@pytest.mark.figure(name="L4")
@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_it_is_refused_in_clear_text(body: bytes) -> None:
    assert is_refused(body)


@pytest.mark.figure(name="L4")
def test_a_lock_cut_at_any_byte_is_refused() -> None:
    text = encode(LOCK).rstrip()
    assert all(is_refused(text[:stop]) for stop in range(len(text)))


def test_there_are_more_than_200_fixed_kinds_of_damage() -> None:
    assert len(BAD) + len(encode(LOCK)) > 200


@pytest.mark.parametrize("filler", [b"x", b" ", b"[", b'{"schema":1,', b"\0"])
def test_a_hundred_megabytes_are_refused_at_once(filler: bytes) -> None:
    body = filler * (100_000_000 // len(filler))
    with at_most(seconds=0.5, mebibytes=5):
        assert is_refused(body)


def test_a_lock_followed_by_too_many_blanks_is_refused() -> None:
    body = encode(LOCK)
    assert not is_refused(body.ljust(MOST_BYTES))
    assert is_refused(body.ljust(MOST_BYTES + 1))


def test_wrong_types_are_refused_everywhere() -> None:
    bodies = list(wrong_fields(encode(LOCK), is_packed=False))
    taken = [decode(KEY, body) for body in bodies if not is_refused(body)]
    assert len(bodies) > 190
    for lock in taken:  # another string where any string is right
        assert lock.state is LOCK.state
        assert (lock.fence, lock.pending) == (LOCK.fence, LOCK.pending)
        assert (lock.since, lock.renewed, lock.expires) == (LOCK.since, LOCK.renewed, LOCK.expires)


@pytest.mark.parametrize("name", ["user", "machine", "id", "session", "run", "pdfs"])
def test_a_name_that_can_not_be_shown_is_refused(name: str) -> None:
    value = {"user": "anna", "machine": "ws7", "id": "1d", "session": "5e55", "run": "4a"}
    old = f'"{name}": "{value.get(name, "0.1")}"'
    assert old in GOLDEN_TEXT
    assert is_refused(GOLDEN_TEXT.replace(old, f'"{name}": "\\ud800"').encode())


@pytest.mark.parametrize(
    "time",
    [
        "",
        "now",
        "2027-01-15",
        "2027-01-15T08:00:00",
        "2027-02-30T08:00:00Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "2027-01-15T25:00:00Z",
        "2027-01-15T08:00:00+99:99",
        "NaN",
        "1800000000",
        "١٢٣٤-01-15T08:00:00Z",
    ],
)
def test_a_time_that_is_none_is_refused(time: str) -> None:
    for name in ("since", "renewed", "expires"):
        fields = encode(LOCK).decode().splitlines()
        changed = [f' "{name}": "{time}",' if f'"{name}"' in line else line for line in fields]
        assert is_refused("\n".join(changed).encode())


@pytest.mark.parametrize("fence", [0, -1, (1 << 31) - 1, 1 << 62, 1 << 63, 1.5, "7"])
def test_a_fence_that_can_not_number_inodes_is_refused(fence: object) -> None:
    shown = f'"{fence}"' if isinstance(fence, str) else f"{fence}"
    assert is_refused(GOLDEN_TEXT.replace('"fence": 7', f'"fence": {shown}').encode())


@pytest.mark.figure(name="L4")
def test_no_damage_makes_a_lock_free(seed: int, length: Length, reached: Reached) -> None:
    count = length.pick(sample=4_000, full=100_000, long=1_000_000)
    reached(count, "damaged locks")
    other = Claimant(user="bert", session=SessionId("0"), run=RunId("0"))
    refused = 0
    for body in fuzzed(encode(LOCK), count, seed, is_packed=False):
        if is_refused(body):
            refused += 1
            continue
        lock = decode(KEY, body)
        times = (lock.renewed, lock.expires)
        if (
            lock.state is LOCK.state
            and times == (LOCK.renewed, LOCK.expires)
            and lock.user == "anna"
        ):
            assert isinstance(judge(lock, 0.0, other, TIMING), Refusal)
    assert refused > count / 4


@given(st.binary(max_size=100))
def test_random_bytes_are_refused(body: bytes) -> None:
    assert is_refused(body)


def test_a_moment_is_read_as_it_was_written() -> None:
    assert moment(NOON + 0.25) == "2027-01-15T08:00:00.250Z"
    assert seconds_of(moment(NOON + 0.25)) == NOON + 0.25
    assert seconds_of("2027-01-15T09:00:00+01:00") == NOON
    assert seconds_of(moment(-NOON)) == -NOON


# --- who may take it ------------------------------------------------------------------------------

LIFE = 12 * HOUR
BERT = Claimant(user="bert", session=SessionId("b"), run=RunId("b"))
ANNA = Claimant(user="anna", session=SessionId("a"), run=RunId("a"))
HERE = replace(ANNA, crashed=frozenset({LOCK.session}))
ALIVE = replace(ANNA, alive=frozenset({LOCK.session}))
SELF = replace(ANNA, session=LOCK.session, run=LOCK.run)
AGAIN = replace(SELF, run=RunId("new"), crashed=frozenset({LOCK.session}))
OFFLINE = replace(LOCK, state=LockState.OFFLINE)
DRAINING = replace(LOCK, state=LockState.DRAINING)
RELEASED = replace(LOCK, state=LockState.RELEASED, expires=NOON - 1)
RELEASED_EMPTY = replace(RELEASED, pending=Unpublished())

TABLE: list[tuple[str, Lock | None, float, Claimant, Right | Refusal]] = [
    ("nobody has it", None, 0, BERT, Right.FREE),
    ("nobody has it, take-over", None, 0, replace(BERT, take_over=True), Right.FREE),
    ("released", RELEASED_EMPTY, 0, BERT, Right.RELEASED),
    ("released, same user", RELEASED_EMPTY, 0, ANNA, Right.RELEASED),
    ("released, work waits", RELEASED, 0, BERT, Refusal.WORK_WAITS),
    ("released, work waits, yes", RELEASED, 0, replace(BERT, agreed=True), Right.RELEASED),
    ("released, work waits, a year ago", RELEASED, 9e7, BERT, Refusal.WORK_WAITS),
    ("released, work waits, same user elsewhere", RELEASED, 0, ANNA, Refusal.WORK_WAITS),
    ("released, work waits here", RELEASED, 0, HERE, Right.RELEASED),
    ("active", LOCK, 0, BERT, Refusal.HELD),
    ("active, said yes", LOCK, 0, replace(BERT, agreed=True), Refusal.HELD),
    ("active, just before it expires", LOCK, LIFE, BERT, Refusal.HELD),
    ("active, expired", LOCK, LIFE + 0.001, BERT, Right.EXPIRED),
    ("draining", DRAINING, LIFE, BERT, Refusal.HELD),
    ("draining, expired", DRAINING, LIFE + 1, BERT, Right.EXPIRED),
    ("offline", OFFLINE, LIFE, BERT, Refusal.HELD),
    ("offline, expired", OFFLINE, LIFE + 1, BERT, Right.EXPIRED),
    ("take-over", LOCK, 0, replace(BERT, take_over=True), Right.TAKEN_OVER),
    ("take-over of offline", OFFLINE, 0, replace(BERT, take_over=True), Right.TAKEN_OVER),
    ("our own", LOCK, 0, SELF, Right.OWN),
    ("our own, with any user's name", LOCK, 0, replace(SELF, user="x"), Right.OWN),
    ("our own, expired", LOCK, LIFE + 1, SELF, Right.OWN),
    ("our session, another process, crashed here", LOCK, 0, AGAIN, Right.SAME_MACHINE),
    ("crashed here", LOCK, 0, HERE, Right.SAME_MACHINE),
    ("crashed here, offline", OFFLINE, 0, HERE, Right.SAME_MACHINE),
    ("crashed here, another user's", LOCK, 0, replace(HERE, user="bert"), Refusal.HELD),
    ("alive here", LOCK, 0, ALIVE, Refusal.ALIVE),
    ("alive here, expired", LOCK, LIFE + 1, ALIVE, Refusal.ALIVE),
    ("alive here, said yes", LOCK, 600, replace(ALIVE, agreed=True), Refusal.ALIVE),
    ("same user elsewhere", LOCK, 0, ANNA, Refusal.RECENT),
    ("same user elsewhere, yes", LOCK, 0, replace(ANNA, agreed=True), Refusal.RECENT),
    ("same user elsewhere, 10 min less", LOCK, 599.9, ANNA, Refusal.RECENT),
    ("same user elsewhere, 10 min", LOCK, 600, ANNA, Refusal.ASK),
    ("same user elsewhere, 10 min, yes", LOCK, 600, replace(ANNA, agreed=True), Right.SAME_USER),
    ("same user offline, yes", OFFLINE, 600, replace(ANNA, agreed=True), Refusal.OFFLINE),
    ("same user elsewhere, expired", LOCK, LIFE + 1, ANNA, Right.EXPIRED),
    ("our session's name alone", LOCK, 0, replace(BERT, session=LOCK.session), Refusal.HELD),
    ("our process's name alone", LOCK, 0, replace(BERT, run=LOCK.run), Refusal.HELD),
]


@pytest.mark.parametrize(
    ("lock", "age", "claimant", "verdict"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_the_lock_may_be_taken_as_the_design_says(
    lock: Lock | None, age: float, claimant: Claimant, verdict: Right | Refusal
) -> None:
    assert judge(lock, age, claimant, TIMING) is verdict


def test_the_table_shows_every_verdict() -> None:
    assert {row[4] for row in TABLE} == {*Right, *Refusal} - {Right.ENDED}


@pytest.mark.parametrize(
    ("claimant", "verdict"),
    [
        (BERT, Right.ENDED),
        (ANNA, Right.ENDED),
        (HERE, Right.SAME_MACHINE),
        (ALIVE, Refusal.ALIVE),
        (replace(BERT, take_over=True), Right.TAKEN_OVER),
    ],
)
@pytest.mark.parametrize("lock", [LOCK, DRAINING, OFFLINE])
def test_a_lock_of_a_session_that_has_ended_is_free_but_for_its_live_process(
    lock: Lock, claimant: Claimant, verdict: Right | Refusal
) -> None:
    assert judge(lock, 0.0, claimant, TIMING, has_ended=True) is verdict


SKEWS = [0.0, 0.1, 1.0, 30.0, 300.0, 86_400.0, 10 * 365.25 * 86_400]
skews = st.sampled_from([*SKEWS, *(-skew for skew in SKEWS)]) | st.floats(-3.2e8, 3.2e8)
claimants = st.builds(
    Claimant,
    user=st.sampled_from(["anna", "bert"]),
    session=st.sampled_from([LOCK.session, SessionId("x")]),
    run=st.sampled_from([LOCK.run, RunId("x")]),
    crashed=st.sampled_from([frozenset[SessionId](), frozenset({LOCK.session})]),
    alive=st.sampled_from([frozenset[SessionId](), frozenset({LOCK.session})]),
    agreed=st.booleans(),
    take_over=st.booleans(),
)


@given(skews, st.floats(0, 2 * LIFE), claimants, st.sampled_from(LockState))
def test_the_writers_clock_changes_nothing(
    skew: float, age: float, claimant: Claimant, state: LockState
) -> None:
    right = replace(LOCK, state=state)
    wrong = replace(right, since=LOCK.since + skew, renewed=NOON + skew, expires=NOON + LIFE + skew)
    if abs(age - LIFE) > 0.01:
        read = decode(KEY, encode(wrong))
        assert judge(read, age, claimant, TIMING) is judge(right, age, claimant, TIMING)


@given(skews, st.floats(0, LIFE - 0.01), st.booleans(), st.sampled_from(list(LockState)[:3]))
def test_before_it_expires_another_user_is_only_ever_refused(
    skew: float, age: float, agreed: bool, state: LockState
) -> None:
    lock = replace(LOCK, renewed=NOON + skew, expires=NOON + LIFE + skew, state=state)
    claimant = replace(BERT, agreed=agreed)
    assert judge(decode(KEY, encode(lock)), age, claimant, TIMING) is Refusal.HELD
