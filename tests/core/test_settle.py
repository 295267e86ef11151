"""Settle: what became of each step, and what that means for a tree that went on meanwhile.

The invariant, for every story: applying the record of a settle changes no byte of any file that the
user has, takes no file away, and lets `known` claim only objects that the user was served, that
this session put, or that enter the tree with the same record.
"""

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core import manifest as core_manifest
from pdfs.core import record as core_record
from pdfs.core.content import Content, ETag
from pdfs.core.entries import Entry
from pdfs.core.generation import tree_of
from pdfs.core.ids import TOP, Inode, Path, PublishId
from pdfs.core.manifest import Manifest, never_published, relinked
from pdfs.core.merge import merge_listing
from pdfs.core.plan import Plan
from pdfs.core.record import Found, Kind, Settled
from pdfs.core.settle import (
    Deleted,
    Done,
    Moved,
    Outcome,
    SetAside,
    SourceLost,
    Stays,
    Theirs,
    settle,
    settled_record,
    settlement_of,
)
from tests.core.buckets import Bucket, Committed, Plain
from tests.core.gardens import Garden, check
from tests.core.test_plan import delete, entry, plan, put
from tests.core.values import named

THEIRS = Theirs(etag=ETag("theirs"), size=7, mtime=99)
NUMBERS = [Inode(number) for number in range(500, 520)]


def settled(entries: list[Entry], steps: Plan, outcomes: dict[str, Outcome]) -> dict[Path, Entry]:
    """What becomes of a generation by these outcomes."""
    numbers = iter(NUMBERS)
    manifest = settle(
        replace(never_published(), entries=tuple(entries)),
        steps,
        {Path(path): outcome for path, outcome in outcomes.items()},
        new_inode=lambda: next(numbers),
    )
    again = core_manifest.decode("k", core_manifest.encode(manifest))
    assert again == manifest
    return manifest.by_path()


# --- each outcome ---------------------------------------------------------------------------------


def test_a_put_that_is_done_has_its_etag() -> None:
    after = settled([entry("a", 9)], plan(put("a")), {"a": Done(ETag("new"))})
    assert {path: one.etag for path, one in after.items()} == {"a": "new"}


def test_what_had_no_step_stays_as_it_is() -> None:
    placed = list(relinked([entry("a", 9), entry("d", 8, None)], {Path("a"): ETag("e1")}))
    assert settled(placed, plan(), {}) == {one.path: one for one in placed}


def test_a_put_that_found_anothers_object_is_a_conflict_copy_and_theirs_has_the_name() -> None:
    after = settled(
        [entry("a", 9)],
        plan(put("a")),
        {"a": Moved(Path("a (conflict)"), ETag("copy"), THEIRS)},
    )
    ours, theirs = after[Path("a (conflict)")], after[Path("a")]
    assert (ours.ino, ours.etag) == (9, "copy")
    assert (theirs.ino, theirs.etag, theirs.mtime, theirs.mode) == (500, "theirs", 99, 0o644)
    assert theirs.content == Content(size=7, digest=None).with_plain(
        *(theirs.content.plain if theirs.content else ())
    )


def test_a_conflict_copy_that_could_not_be_put_is_in_the_tree_alone() -> None:
    after = settled(
        [entry("a", 9)], plan(put("a")), {"a": Moved(Path("a (conflict)"), None, THEIRS)}
    )
    assert after[Path("a (conflict)")].etag is None
    assert after[Path("a")].etag == "theirs"


def test_a_put_that_a_key_was_in_the_way_of_lies_aside_and_nothing_enters() -> None:
    after = settled(
        [entry("d", 8, None), entry("d/a", 9)],
        plan(put("d/a")),
        {"d/a": Moved(Path("aside"), ETag("copy"), None)},
    )
    assert {path: one.etag for path, one in after.items()} == {"d": None, "aside": "copy"}


def test_one_name_of_a_file_can_become_a_conflict_copy_while_the_other_stays() -> None:
    after = settled(
        [entry("a", 9), entry("b", 9)],
        plan(put("a"), put("b")),
        {"a": Moved(Path("a (conflict)"), ETag("copy"), THEIRS), "b": Done(ETag("new"))},
    )
    assert (after[Path("a (conflict)")].ino, after[Path("b")].ino) == (9, 9)
    content = after[Path("b")].content
    assert content is not None
    assert {home.path: home.etag for home in content.plain} == {"a (conflict)": "copy", "b": "new"}


def test_what_was_set_aside_names_the_object_that_the_next_publish_replaces_or_deletes() -> None:
    committed = replace(never_published(), entries=(entry("a", 9), entry("new", 10)))
    steps = plan(replace(put("a"), expect=ETag("old")), put("new"), delete("gone"))
    aside: dict[Path, Outcome] = {step.path: SetAside() for step in steps.steps}
    after = settle(committed, steps, aside, new_inode=lambda: NUMBERS[0])
    assert after.aside == {"a": "old", "new": None, "gone": delete("gone").expect}
    assert {path: one.etag for path, one in after.by_path().items()} == {"a": None, "new": None}
    assert not any(one.lost for one in after.entries)
    known = tree_of(after, None, uid=0, gid=0).known
    assert {path: content.etag_at(path) for path, content in known.items()} == {
        "a": "old",
        "gone": delete("gone").expect,
    }


def test_a_source_that_was_lost_marks_the_file() -> None:
    after = settled([entry("a", 9)], plan(put("a")), {"a": SourceLost()})
    assert (after[Path("a")].lost, after[Path("a")].etag) == (True, None)


def test_what_was_lost_before_stays_lost() -> None:
    assert settled([entry("a", 9, lost=True)], plan(), {})[Path("a")].lost


def test_a_delete_that_is_done_leaves_nothing() -> None:
    assert settled([], plan(delete("a")), {"a": Deleted()}) == {}


def test_a_delete_that_was_refused_brings_theirs_back_with_its_directories() -> None:
    after = settled([], plan(delete("x/y/a")), {"x/y/a": Stays(THEIRS)})
    assert {path: one.kind for path, one in after.items()} == {
        "x": Kind.DIRECTORY,
        "x/y": Kind.DIRECTORY,
        "x/y/a": Kind.FILE,
    }
    assert after[Path("x/y/a")].etag == "theirs"


@pytest.mark.parametrize(
    ("entries", "path"),
    [([entry("a", 9, None)], "a"), ([entry("a", 9)], "a/b"), ([entry("a", 9)], "a/b/c")],
)
def test_theirs_does_not_enter_where_ours_is_in_the_way(entries: list[Entry], path: str) -> None:
    placed = list(relinked(entries, {Path("a"): ETag("e1")}))
    after = settled(placed, plan(delete(path)), {path: Stays(THEIRS)})
    assert after == {one.path: one for one in placed}


# --- the record -----------------------------------------------------------------------------------


def record_of(garden: Garden, before: list[Entry], after: list[Entry]) -> Settled:
    old = replace(never_published(), entries=tuple(before))
    return settled_record(
        garden.tree,
        settlement_of(old, replace(old, entries=tuple(after), generation=1)),
        named("t"),
        publish=PublishId("p"),
        sequence=None,
        time=5,
    )


def placed_at(path: str, ino: int, etag: str) -> Entry:
    (one,) = relinked([entry(path, ino)], {Path(path): ETag(etag)})
    return one


def test_theirs_enters_only_where_a_name_is_free_by_now() -> None:
    garden = Garden(random.Random(0))
    garden.create(TOP, "a")
    theirs = [placed_at("a", 500, "e1"), placed_at("b", 501, "e2"), placed_at("d/c", 502, "e3")]
    record = record_of(garden, [], theirs)
    assert [(found.path, found.ino) for found in record.found] == [("b", 501)]
    assert [path for path, _ in record.known] == ["b"]


def test_our_file_gives_its_name_away_only_if_it_still_has_it() -> None:
    garden = Garden(random.Random(0))
    ino = garden.create(TOP, "a")
    before, after = [entry("a", ino)], [placed_at("a (conflict)", ino, "e1")]
    (move,) = record_of(garden, before, after).moves
    assert (move.parent, move.name, move.new_parent, move.new_name) == (
        TOP,
        "a",
        TOP,
        "a (conflict)",
    )
    garden.rename(Path("a"), Path("b"))
    assert record_of(garden, before, after).moves == ()


def test_a_file_that_has_the_name_by_now_does_not_become_the_conflict_copy_of_another() -> None:
    garden = Garden(random.Random(0))
    ino = garden.create(TOP, "a")
    garden.rename(Path("a"), Path("b"))
    garden.create(TOP, "a")
    record = record_of(garden, [entry("a", ino)], [placed_at("a (conflict)", ino, "e1")])
    assert record.moves == ()


def test_our_file_keeps_its_name_where_the_copys_name_is_taken_by_now() -> None:
    garden = Garden(random.Random(0))
    ino = garden.create(TOP, "a")
    garden.create(TOP, "a (conflict)")
    before = [entry("a", ino)]
    after = [placed_at("a (conflict)", ino, "e1"), placed_at("a", 500, "theirs")]
    record = record_of(garden, before, after)
    assert (record.moves, record.found) == ((), ())
    assert [path for path, _ in record.known] == ["a (conflict)"], "theirs was not served"


def test_a_lost_content_is_nobodys_base() -> None:
    garden = Garden(random.Random(0))
    ino = garden.create(TOP, "a")
    garden.write(ino, 0, b"only in the journal")
    lost = replace(entry("a", ino), lost=True)
    assert record_of(garden, [lost], [lost]).bases == ()


def test_what_is_known_no_more_is_forgotten() -> None:
    garden = Garden(random.Random(0))
    garden.find_foreign(Path("a"), b"x", "e1")
    assert record_of(garden, [], []).known == ((Path("a"), -1),)


# --- whole stories --------------------------------------------------------------------------------


@dataclass(slots=True)
class Story:
    """A user, another tool, and a bucket between them; all by chance."""

    chance: random.Random
    garden: Garden
    bucket: Bucket = field(default_factory=Bucket)
    manifest: Manifest = field(default_factory=never_published)
    served: set[tuple[Path, ETag]] = field(default_factory=set)
    """Objects that the user was served, or that a publish of ours put."""
    nested_keys: bool = True

    # --- another tool -----------------------------------------------------------------------------

    def interfere(self, times: int, paths: list[Path] | None = None) -> None:
        for _ in range(times):
            chosen = [Path("a"), Path("b"), Path("d/a"), Path("d/x/b"), *self.bucket.objects]
            path = self.chance.choice([*chosen, *(paths or [])])
            if self.chance.random() < 0.3:
                self.bucket.objects.pop(path, None)
            elif self.nested_keys or path in self.bucket.objects or not self.bucket.is_nested(path):
                data = self.chance.randbytes(self.chance.choice([1, 4, 30]))
                self.bucket.objects[path] = Plain(data)

    def take_in(self) -> None:
        """What a listing shows enters the tree."""
        garden = self.garden
        merged = merge_listing(
            garden.tree,
            self.bucket.rows(),
            busy=frozenset(),
            echoes={},
            new_inode=garden.new_inode,
            time=garden.tick(),
        )
        for record in merged.records:
            garden.commit(record)
            if isinstance(record, Found):
                self.note_found(record)

    def note_found(self, found: Found) -> None:
        plain = self.bucket.objects[found.path]
        etag = found.content.etag_at(found.path)
        assert etag is not None
        self.garden.holds[found.ino] = plain.body
        self.garden.bodies[found.content] = plain.body
        self.served.add((found.path, etag))

    # --- a publish --------------------------------------------------------------------------------

    def commit(self, *, lost: float = 0.0) -> Committed:
        garden = self.garden
        garden.begin_publish()
        flight = garden.tree.in_flight
        assert flight is not None
        bodies = {
            ino: None if self.chance.random() < lost else garden.read(garden.tree.nodes[ino])
            for ino in garden.files()
        }
        return self.bucket.commit(garden.tree, self.manifest, flight.record.publish, bodies)

    def finish(self, committed: Committed, *, own: bool = True, lost: float = 0.0) -> None:
        """Apply and settle; then tell the tree, and judge."""
        before = dict(self.bucket.objects)
        outcomes = self.bucket.apply(
            committed.plan, self.chance, lost=lost, nested_keys=self.nested_keys
        )
        self.judge_bucket(before)
        self.served |= set(_put_by(outcomes))
        manifest = settle(
            committed.manifest, committed.plan, outcomes, new_inode=self.garden.new_inode
        )
        again = core_manifest.decode("k", core_manifest.encode(manifest))
        assert again == manifest or lost
        self.tell(committed, manifest, own=own)
        self.manifest = manifest

    def tell(self, committed: Committed, manifest: Manifest, *, own: bool) -> None:
        garden, tree = self.garden, self.garden.tree
        flight = tree.in_flight
        record = settled_record(
            tree,
            settlement_of(committed.manifest, manifest),
            named(f"settled{self.bucket.count}"),
            publish=committed.plan.publish,
            sequence=flight.record.sequence if own and flight is not None else None,
            time=garden.tick(),
        )
        assert core_record.decode(*core_record.encode(record)) == record
        for content in record.contents:
            data = self.bucket.bytes_of(content)
            if data is not None:
                garden.bodies[content] = data
        named_before = {node.ino for _, node in tree.walk()}
        garden.commit(record)
        for found in record.found:
            self.note_found(found)
        check(garden)
        assert named_before <= {node.ino for _, node in tree.walk()}, "a file lost its name"
        self.judge_known()

    # --- judging ----------------------------------------------------------------------------------

    def judge_bucket(self, before: dict[Path, Plain]) -> None:
        for path, plain in before.items():
            if self.bucket.objects.get(path) != plain:
                assert (path, plain.etag) in self.served, f"{path!r} was overwritten unseen"

    def judge_known(self) -> None:
        for path, content in self.garden.tree.known.items():
            etag = content.etag_at(path)
            assert etag is None or (path, etag) in self.served, f"{path!r} was never served"

    def judge_saved(self) -> None:
        """At rest: every file that a key can hold is in the bucket as the user has it."""
        for path, node in self.garden.tree.walk():
            if node.is_file:
                assert self.bucket.objects[path].body == self.garden.holds[node.ino], path


def _put_by(outcomes: dict[Path, Outcome]) -> list[tuple[Path, ETag]]:
    found = []
    for path, outcome in outcomes.items():
        match outcome:
            case Done(etag):
                found.append((path, etag))
            case Moved(copy, str() as etag, _):
                found.append((copy, etag))
            case _:
                pass
    return found


def copies_of(committed: Committed) -> list[Path]:
    return [step.conflict for step in committed.plan.puts]


def begin(seed: int, *, nested_keys: bool = True) -> Story:
    chance = random.Random(seed)
    story = Story(chance, Garden(random.Random(seed + 1)), nested_keys=nested_keys)
    story.interfere(chance.randrange(6))
    story.take_in()
    story.judge_known()
    return story


def edit(story: Story) -> None:
    story.garden.grow(story.chance.randrange(15), foreign=False, publishes=False)


seeds = st.integers(0, 1 << 40)


@given(seeds)
def test_a_settle_loses_no_bytes_and_claims_nothing_that_was_not_served(seed: int) -> None:
    story = begin(seed)
    for _ in range(3):
        edit(story)
        story.interfere(story.chance.randrange(3))
        committed = story.commit(lost=0.05)
        edit(story)
        story.interfere(story.chance.randrange(4), copies_of(committed))
        story.finish(committed, lost=0.05)


@given(seeds)
def test_another_sessions_settle_does_neither(seed: int) -> None:
    story = begin(seed)
    edit(story)
    committed = story.commit()
    take_over(story, committed)
    edit(story)
    story.interfere(story.chance.randrange(4), copies_of(committed))
    story.finish(committed, own=False)
    edit(story)
    story.finish(story.commit())


def take_over(story: Story, committed: Committed) -> None:
    """The publisher's machine is gone; another mounts the generation that it committed."""
    old, bodies = story.garden, dict[Inode, bytes]()
    for one in committed.manifest.entries:
        node = old.tree.nodes[one.ino]
        if node.is_file:
            bodies[one.ino] = old.read(node)
    tree = tree_of(committed.manifest, committed.name, uid=1000, gid=1000)
    story.garden = Garden(random.Random(old.clock), tree=tree, holds=bodies)
    story.garden.last_inode = 9 << 32
    for ino, data in bodies.items():
        story.garden.bodies[tree.nodes[ino].base] = data
    story.served |= {
        (path, etag)
        for path, content in tree.known.items()
        if (etag := content.etag_at(path)) is not None
    }


@given(seeds)
def test_once_others_keep_still_everything_comes_to_be_in_the_bucket(seed: int) -> None:
    story = begin(seed, nested_keys=False)
    edit(story)
    committed = story.commit(lost=0.1)
    edit(story)
    story.interfere(story.chance.randrange(4), copies_of(committed))
    story.finish(committed, lost=0.1)
    story.take_in()
    story.judge_known()
    for _ in range(4):
        story.finish(story.commit())
    last = story.commit()
    assert not last.plan.has_steps
    story.judge_saved()


def test_the_stories_show_every_outcome() -> None:
    seen: set[type[Outcome]] = set()
    for seed in range(40):
        story = begin(seed)
        edit(story)
        committed = story.commit()
        story.interfere(4, copies_of(committed))
        seen |= {
            type(o) for o in story.bucket.apply(committed.plan, story.chance, lost=0.1).values()
        }
    assert seen == {Done, Deleted, Moved, Stays, SourceLost, SetAside}
