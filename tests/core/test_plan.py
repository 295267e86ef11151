"""Plans: the order of their steps, names for conflict copies, and their bytes."""

import gzip
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core.content import Content, Digest, ETag, Packed, Plain
from pdfs.core.entries import Entry
from pdfs.core.ids import Inode, Path, PublishId, RunId, SessionId
from pdfs.core.keys import ancestors, parent
from pdfs.core.manifest import relinked
from pdfs.core.plan import ConflictNames, Delete, Plan, Put, decode, encode, plan_steps
from pdfs.core.record import Kind
from pdfs.errors import ObjectDamaged
from tests.core.effort import calls_in
from tests.core.hostile import documents_that_are_none, fuzzed, wrong_fields
from tests.core.values import etags, named, names, paths, plans, trees_of_entries

KEY = "p/.pdfs/s/plans/000000000007-p.json.gz"
HASH = Digest(b"\xaa" * 32)
PUMP = Content(size=9, digest=HASH, packed=(Packed(named("c"), 4),))
NOON = 1_795_356_180.0  # 2026-11-22 14.03 UTC


def put(path: str) -> Put:
    return Put(
        path=Path(path),
        content=PUMP,
        mtime=-1,
        expect=None,
        conflict=Path(f"{path} (conflict)"),
        aside=Path("aside"),
    )


def delete(path: str) -> Delete:
    return Delete(path=Path(path), expect=ETag("e1"))


def plan(*steps: Put | Delete) -> Plan:
    return Plan(
        publish=PublishId("000000000007-p"),
        session=SessionId("5e55"),
        run=RunId("4a"),
        user="änna",
        machine="ws7",
        time=1.5,
        puts=tuple(step for step in steps if isinstance(step, Put)),
        deletes=tuple(step for step in steps if isinstance(step, Delete)),
    )


# --- order ----------------------------------------------------------------------------------------


def test_a_key_that_is_in_the_way_of_a_put_goes_first_and_all_others_last() -> None:
    chosen = plan(
        put("a/b"),  # `a` was a file
        put("d"),  # `d` was a directory
        put("e"),
        delete("a"),
        delete("d/x"),
        delete("d/y/z"),
        delete("old"),
        delete("ab"),
        delete("e.bak"),
    )
    clearing, puts, rest = chosen.rounds()
    assert [step.path for step in clearing] == ["a", "d/x", "d/y/z"]
    assert [step.path for step in puts] == ["a/b", "d", "e"]
    assert [step.path for step in rest] == ["old", "ab", "e.bak"]


short = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda p: Path("/".join(p)))


@given(st.lists(short, unique=True, max_size=8), st.lists(short, unique=True, max_size=8))
def test_every_step_is_in_one_round_and_no_put_finds_a_key_above_or_below_it(
    puts: list[Path], deletes: list[Path]
) -> None:
    possible = [p for p in puts if not any(a in puts for a in ancestors(p))]
    steps = [put(path) for path in possible]
    steps_after = [delete(path) for path in deletes if path not in possible]
    rounds = plan(*steps, *steps_after).rounds()
    flat = [step for one in rounds for step in one]
    assert sorted(s.path for s in flat) == sorted([*possible, *(s.path for s in steps_after)])
    there = {step.path for step in steps_after}
    for step in flat:
        if isinstance(step, Put):
            assert not there & set(ancestors(step.path))
            assert not any(step.path in ancestors(other) for other in there)
        else:
            there.discard(step.path)


def test_a_plan_without_steps_says_so() -> None:
    assert not plan().has_steps
    assert plan(put("a")).has_steps
    assert plan(delete("a")).has_steps
    assert [len(one) for one in plan().rounds()] == [0, 0, 0]


# --- names of conflict copies ---------------------------------------------------------------------


def conflict_names(
    *taken: str, user: str = "anna", machine: str = "ws7", most: int = 1024
) -> ConflictNames:
    return ConflictNames(
        user=user,
        machine=machine,
        time=NOON,
        taken={Path(path) for path in taken},
        is_visible=lambda path: len(path.encode("utf-8", "surrogateescape")) <= most,
    )


@pytest.mark.parametrize(
    ("path", "copy"),
    [
        ("name.dwg", "name (conflict anna ws7 2026-11-22 14.03).dwg"),
        ("dir/name.dwg", "dir/name (conflict anna ws7 2026-11-22 14.03).dwg"),
        ("name", "name (conflict anna ws7 2026-11-22 14.03)"),
        (".bashrc", ".bashrc (conflict anna ws7 2026-11-22 14.03)"),
        ("a.tar.gz", "a.tar (conflict anna ws7 2026-11-22 14.03).gz"),
        ("dot.", "dot (conflict anna ws7 2026-11-22 14.03)."),
        ("a (conflict x y 14.02)", "a (conflict x y 14.02) (conflict anna ws7 2026-11-22 14.03)"),
    ],
)
def test_a_conflict_copy_lies_beside_and_tells_who_where_and_when(path: str, copy: str) -> None:
    assert conflict_names().beside(Path(path)) == copy


def test_a_name_that_no_key_can_hold_is_still_told_by_its_copy() -> None:
    chosen = replace(conflict_names(), is_visible=str.isascii)
    assert chosen.beside(Path("d/\udcff1.dwg")).startswith("d/\udcff1 (conflict ")
    assert chosen.beside(Path("d/\udcff2.dwg")).endswith("03).dwg")


def test_a_copy_that_can_not_lie_beside_lies_on_top() -> None:
    copy = conflict_names().on_top(Path("dir/sub/name.dwg"))
    assert copy == "name (conflict anna ws7 2026-11-22 14.03).dwg"


def test_a_name_that_is_taken_gets_a_number() -> None:
    chosen = conflict_names("a (conflict anna ws7 2026-11-22 14.03)")
    assert chosen.beside(Path("a")) == "a (conflict anna ws7 2026-11-22 14.03 2)"
    assert chosen.beside(Path("a")) == "a (conflict anna ws7 2026-11-22 14.03 3)"
    assert chosen.on_top(Path("d/a")) == "a (conflict anna ws7 2026-11-22 14.03 4)"


def test_files_of_one_name_in_many_directories_get_their_copies_names_without_a_search() -> None:
    def effort(count: int) -> int:
        chosen = conflict_names()
        return calls_in(lambda: [chosen.on_top(Path(f"{n}/a")) for n in range(count)])

    assert effort(200) < 3 * effort(100)


people = names | st.sampled_from(["anna", "DOMAIN\\anna", "a/b", "anna@example.org", "ä" * 20])


@given(
    st.lists(names | st.sampled_from(["x" * 255, "ä" * 127, "x" * 200 + ".dwg"]), max_size=6),
    people,
    people,
)
def test_conflict_names_are_names_of_files_and_unique(
    chosen: list[str], user: str, machine: str
) -> None:
    namer = conflict_names(*chosen, user=user, machine=machine)
    given_out: set[Path] = set(map(Path, chosen))
    for name in chosen:
        for path in (Path(name), Path(f"dir/{name}")):
            for copy in (namer.beside(path), namer.on_top(path), namer.beside(path)):
                assert copy not in given_out
                given_out.add(copy)
                leaf = copy.rpartition("/")[2]
                assert 1 <= len(leaf.encode("utf-8", "surrogateescape")) <= 255
        assert parent(namer.beside(Path(f"dir/{name}"))) == "dir"
        assert parent(namer.on_top(Path(f"dir/{name}"))) == ""


def test_a_name_whose_key_would_be_too_long_is_cut_to_one_letter() -> None:
    copy = conflict_names(most=60).beside(Path("x" * 60))
    assert copy == "x (conflict anna ws7 2026-11-22 14.03)"


# --- steps ----------------------------------------------------------------------------------------


def entry(path: str, ino: int, content: Content | None = PUMP, *, lost: bool = False) -> Entry:
    kind = Kind.DIRECTORY if content is None else Kind.FILE
    return Entry(
        path=Path(path), ino=Inode(ino), kind=kind, mode=0, mtime=5, content=content, lost=lost
    )


def known(path: str, etag: str) -> tuple[Path, Content]:
    return Path(path), PUMP.with_plain(Plain(Path(path), ETag(etag)))


def steps_of(
    entries: list[Entry], *there: tuple[Path, Content], invisible: str = ""
) -> tuple[tuple[Put, ...], tuple[Delete, ...]]:
    return plan_steps(
        entries,
        dict(there),
        names=conflict_names(*(entry.path for entry in entries)),
        is_visible=lambda path: path != invisible,
    )


def test_a_file_that_is_in_place_needs_no_step() -> None:
    placed = relinked([entry("a", 9)], {Path("a"): ETag("e1")})
    assert steps_of(list(placed), known("a", "e1")) == ((), ())


def test_a_new_file_is_put_where_no_object_is_expected() -> None:
    (step,), deletes = steps_of([entry("a", 9)])
    assert (step.path, step.content, step.mtime, step.expect) == ("a", PUMP, 5, None)
    assert deletes == ()


def test_a_changed_file_is_put_in_place_of_what_the_user_was_served() -> None:
    (step,), _ = steps_of([entry("a", 9)], known("a", "e1"))
    assert step.expect == "e1"


def test_what_has_no_name_any_more_is_deleted_if_it_is_still_what_the_user_was_served() -> None:
    assert steps_of([], known("b", "e2"), known("a", "e1")) == (
        (),
        (Delete(path=Path("a"), expect=ETag("e1")), Delete(path=Path("b"), expect=ETag("e2"))),
    )


def test_a_file_in_whose_place_a_directory_is_now_is_deleted() -> None:
    _, deletes = steps_of([entry("a", 9, None)], known("a", "e1"))
    assert [step.path for step in deletes] == ["a"]


def test_a_file_that_could_not_be_made_whole_is_neither_put_nor_deleted() -> None:
    assert steps_of([entry("a", 9, lost=True)], known("a", "e1")) == ((), ())


def test_an_object_that_may_be_all_that_is_left_of_a_moved_file_is_not_deleted() -> None:
    moved = entry("b", 9, known("a", "e1")[1], lost=True)
    assert steps_of([moved], known("a", "e1")) == ((), ())
    _, deletes = steps_of([moved], known("a", "e2"))
    assert [step.path for step in deletes] == ["a"]


def test_a_name_that_no_key_can_hold_has_no_step() -> None:
    assert steps_of([entry("a", 9)], invisible="a") == ((), ())


@given(trees_of_entries(), st.dictionaries(paths, etags, max_size=3))
def test_after_the_steps_of_a_plan_the_bucket_holds_the_tree(
    entries: tuple[Entry, ...], there: dict[Path, ETag]
) -> None:
    placed = {entry.path: entry.etag for entry in entries if entry.etag is not None}
    before = {**there, **placed}
    puts, deletes = plan_steps(
        entries,
        dict(known(path, etag) for path, etag in before.items()),
        names=conflict_names(*(entry.path for entry in entries), *before),
        is_visible=lambda path: True,
    )
    after = dict(before)
    for step in deletes:
        assert after.pop(step.path) == step.expect
    for one in puts:
        assert after.get(one.path) == one.expect
        after[one.path] = ETag("ours")
    wanted = {e.path for e in entries if e.content is not None and not e.lost}
    left = {e.path for e in entries if e.lost and e.path in before}
    assert after.keys() == wanted | left
    copies = [path for one in puts for path in (one.conflict, one.aside)]
    assert len(set(copies)) == len(copies)
    assert not set(copies) & (after.keys() | {entry.path for entry in entries})


# --- bytes ----------------------------------------------------------------------------------------

GOLDEN = plan(put("d/ä"), delete("b\udcff"))
GOLDEN_TEXT = (
    '{"schema":1,"publish":"000000000007-p","session":"5e55","run":"4a","user":"\\u00e4nna",'
    '"machine":"ws7","time":1.5,"puts":[{"path":"d/\\u00e4","size":9,'
    f'"digest":"{"aa" * 32}","packed":[["000000000007-c",4]],"mtime":-1,"expect":null,'
    '"conflict":"d/\\u00e4 (conflict)","aside":"aside"}],'
    '"deletes":[{"path":"b\\udcff","expect":"e1"}]}'
)


def is_refused(body: bytes) -> bool:
    """Whether these bytes are refused as they should be; any other exception comes through."""
    try:
        decode(KEY, body)
    except ObjectDamaged as error:
        return KEY in str(error)
    return False


def test_the_bytes_of_schema_1_stay_as_they_are() -> None:
    assert gzip.decompress(encode(GOLDEN)).decode() == GOLDEN_TEXT
    assert decode(KEY, gzip.compress(GOLDEN_TEXT.encode())) == GOLDEN


@given(plans)
def test_every_plan_comes_back_from_its_bytes(one: Plan) -> None:
    assert decode(KEY, encode(one)) == one


BAD = documents_that_are_none(encode(GOLDEN), is_packed=True)


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_it_is_refused(body: bytes) -> None:
    assert is_refused(body)


def test_a_plan_cut_at_any_byte_is_refused() -> None:
    body, text = encode(GOLDEN), GOLDEN_TEXT.encode()
    assert all(is_refused(body[:stop]) for stop in range(len(body)))
    assert all(is_refused(gzip.compress(text[:stop], 1)) for stop in range(len(text)))


def test_wrong_types_are_refused_or_harmless_everywhere() -> None:
    count = refused = 0
    for body in wrong_fields(encode(GOLDEN), is_packed=True):
        count += 1
        refused += is_refused(body)
    assert count > 250
    assert refused > count * 0.7


def test_no_damage_has_any_other_effect_than_a_refusal(seed: int, is_full: bool) -> None:
    count = 100_000 if is_full else 2_000
    assert sum(map(is_refused, fuzzed(encode(GOLDEN), count, seed, is_packed=True))) > count / 3
