"""A resumed tree and a later generation: what each side changed survives, and is told.

The rules are stated here once more, over bytes, and judged for every story that chance makes.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from pdfs.core.generation import tree_of
from pdfs.core.ids import TOP, Fence, ObjectName, Path, PublishId, object_name
from pdfs.core.keys import ancestors
from pdfs.core.manifest import Manifest, never_published
from pdfs.core.plan import ConflictNames
from pdfs.core.rebase import rebase, unpublished_copies
from pdfs.core.record import Drop, Kind, Record, SetAttributes, SetXattr
from pdfs.core.settle import settle
from tests.core.buckets import Bucket, is_visible
from tests.core.gardens import Garden, check

Seen = tuple[Kind, object]
"""What somebody sees at a path: the kind, and a file's bytes or a symlink's target."""

Does = Callable[[Garden], object]

BASE, THEIRS = ObjectName("000000000001-base"), ObjectName("000000000009-theirs")


@dataclass
class Stage:
    """A bucket with a base generation; one who went on from it, and others who published."""

    chance: random.Random = field(default_factory=lambda: random.Random(0))
    bucket: Bucket = field(default_factory=Bucket)
    base: Manifest = field(default_factory=never_published)
    theirs: Manifest = field(init=False)

    def garden(self, manifest: Manifest, name: ObjectName | None, fence: int) -> Garden:
        """Somebody who mounts this generation."""
        garden = Garden(self.chance, tree=tree_of(manifest, name, uid=1000, gid=1000))
        garden.last_inode = fence << 32
        for node in garden.tree.nodes.values():
            if node.is_file:
                data = self.bucket.bytes_of(node.base)
                assert data is not None
                garden.bodies[node.base] = garden.holds[node.ino] = data
        return garden

    def publish(self, garden: Garden, before: Manifest, fence: int) -> Manifest:
        publish = PublishId(object_name(Fence(fence), "p"))
        bodies = {ino: garden.read(garden.tree.nodes[ino]) for ino in garden.files()}
        committed = self.bucket.commit(garden.tree, before, publish, bodies)
        outcomes = self.bucket.apply(committed.plan, self.chance)
        return settle(committed.manifest, committed.plan, outcomes, new_inode=garden.new_inode)

    def begin(self, make: Does) -> Garden:
        """The base as `make` leaves it, mounted by us."""
        first = Garden(self.chance)
        make(first)
        self.base = self.publish(first, self.base, 1)
        return self.garden(self.base, BASE, 5)

    def others(self, make: Does) -> None:
        """Somebody else mounts the base, does that, and publishes."""
        garden = self.garden(self.base, BASE, 8)
        make(garden)
        self.theirs = self.publish(garden, self.base, 8)

    def rebase(
        self, ours: Garden, commit: Callable[[Record], object] | None = None
    ) -> tuple[Path, ...]:
        """What is resumed is brought onto theirs; the conflict copies that there are then."""
        for ino in sorted(ours.tree.orphans):  # as every recovery does
            ours.commit(Drop(ino=ino))
        for content in (e.content for e in self.theirs.entries if e.content is not None):
            data = self.bucket.bytes_of(content)
            assert data is not None
            ours.bodies[content] = data
        taken = {*ours.paths(), *(entry.path for entry in self.theirs.entries)}
        rebase(
            ours.tree,
            self.base,
            self.theirs,
            THEIRS,
            commit=commit or ours.commit,
            new_inode=ours.new_inode,
            names=ConflictNames(
                user="anna", machine="ws7", time=0.0, taken=taken, is_visible=is_visible
            ),
            time=99,
        )
        return unpublished_copies(ours.tree, "anna", "ws7")


def seen(garden: Garden) -> dict[Path, Seen]:
    found: dict[Path, Seen] = {}
    for path, node in garden.tree.walk():
        held: object = node.target
        if node.is_file:
            held = garden.read(node)
        found[path] = (node.kind, held)
    return found


def check_rebased(garden: Garden) -> None:
    """Written bytes are still those of the model; what entered clean holds what it claims."""
    for node in garden.tree.nodes.values():
        if node.is_file and node.is_clean:
            garden.holds[node.ino] = garden.body(node.base)
    check(garden)
    assert not garden.tree.orphans, "nobody has a file open when a session is resumed"


def texts(garden: Garden) -> dict[str, object]:
    """The files alone."""
    return {str(p): what for p, (kind, what) in seen(garden).items() if kind is Kind.FILE}


def put(garden: Garden, path: str, data: bytes) -> None:
    """A file with these bytes, in directories that are made where they are missing."""
    for above in ancestors(Path(path))[::-1]:
        if garden.tree.find(above) is None:
            garden.create(*garden.holder(above), Kind.DIRECTORY)
    node = garden.tree.find(Path(path))
    ino = garden.create(*garden.holder(Path(path))) if node is None else node.ino
    garden.resize(ino, 0)
    garden.write(ino, 0, data)


def files(**contents: bytes) -> Callable[[Garden], None]:
    """Writes these files; `d__a` is `d/a`."""

    def make(garden: Garden) -> None:
        for name, data in contents.items():
            put(garden, name.replace("__", "/"), data)

    return make


def removes(*paths: str) -> Callable[[Garden], None]:
    def remove(garden: Garden) -> None:
        for path in paths:
            garden.unlink(Path(path))

    return remove


COPY = "a (conflict anna ws7 1970-01-01 00.00)"

TABLE: list[tuple[str, Does, Does, dict[str, bytes]]] = [
    ("nothing changed", files(), files(), {"a": b"base", "d/b": b"base"}),
    ("changed here", files(a=b"ours"), files(), {"a": b"ours", "d/b": b"base"}),
    ("changed there", files(), files(a=b"their"), {"a": b"their", "d/b": b"base"}),
    (
        "changed in different files",
        files(a=b"ours"),
        files(d__b=b"their"),
        {"a": b"ours", "d/b": b"their"},
    ),
    (
        "changed on both sides",
        files(a=b"ours"),
        files(a=b"their"),
        {"a": b"their", COPY: b"ours", "d/b": b"base"},
    ),
    ("deleted here", removes("a"), files(), {"d/b": b"base"}),
    ("deleted there", files(), removes("a"), {"d/b": b"base"}),
    ("deleted on both sides", removes("a"), removes("a"), {"d/b": b"base"}),
    (
        "deleted here and changed there",
        removes("a"),
        files(a=b"their"),
        {"a": b"their", "d/b": b"base"},
    ),
    (
        "changed here and deleted there",
        files(a=b"ours"),
        removes("a"),
        {"a": b"ours", "d/b": b"base"},
    ),
    (
        "its directory deleted here and it changed there",
        removes("d/b", "d"),
        files(d__b=b"their"),
        {"a": b"base", "d/b": b"their"},
    ),
    (
        "new here in a directory deleted there",
        files(d__c=b"ours"),
        removes("d/b", "d"),
        {"a": b"base", "d/c": b"ours"},
    ),
    (
        "new of one name on both sides",
        files(d__c=b"ours"),
        files(d__c=b"their"),
        {
            "a": b"base",
            "d/b": b"base",
            "d/c": b"their",
            "d/c (conflict anna ws7 1970-01-01 00.00)": b"ours",
        },
    ),
    (
        "renamed here, changed there",
        lambda ours: ours.rename(Path("a"), Path("new")),
        files(a=b"their"),
        {"a": b"their", "new": b"base", "d/b": b"base"},
    ),
    (
        "renamed here, renamed there",
        lambda ours: ours.rename(Path("a"), Path("new")),
        lambda other: other.rename(Path("a"), Path("other")),
        {"new": b"base", "other": b"base", "d/b": b"base"},
    ),
    (
        "a directory renamed there",
        files(),
        lambda other: other.rename(Path("d"), Path("e")),
        {"a": b"base", "e/b": b"base"},
    ),
    (
        "a directory renamed there, changed in here",
        files(d__b=b"ours"),
        lambda other: other.rename(Path("d"), Path("e")),
        {"a": b"base", "d/b": b"ours", "e/b": b"base"},
    ),
]


def plant(garden: Garden) -> None:
    files(a=b"base", d__b=b"base")(garden)


@pytest.mark.parametrize(
    ("ours", "theirs", "after"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_files_merge_as_the_design_says(ours: Does, theirs: Does, after: dict[str, bytes]) -> None:
    stage = Stage()
    garden = stage.begin(plant)
    ours(garden)
    stage.others(theirs)
    copies = stage.rebase(garden)
    assert texts(garden) == after
    assert list(copies) == [path for path in after if "(conflict " in path]
    check_rebased(garden)
    assert (garden.tree.base, garden.tree.generation) == (THEIRS, 2)


def test_a_file_that_another_made_a_directory_is_put_beside_it() -> None:
    stage = Stage()
    garden = stage.begin(plant)
    files(a=b"ours")(garden)

    def replace_by_directory(other: Garden) -> None:
        other.unlink(Path("a"))
        put(other, "a/b", b"their")

    stage.others(replace_by_directory)
    assert [str(path) for path in stage.rebase(garden)] == [COPY]
    assert texts(garden) == {COPY: b"ours", "a/b": b"their", "d/b": b"base"}


def test_a_directory_with_work_in_it_that_another_made_a_file_is_put_beside_it() -> None:
    stage = Stage()
    garden = stage.begin(plant)
    put(garden, "d/new", b"ours")

    def replace_by_file(other: Garden) -> None:
        removes("d/b", "d")(other)
        put(other, "d", b"their")

    stage.others(replace_by_file)
    copy = "d (conflict anna ws7 1970-01-01 00.00)"
    assert [str(path) for path in stage.rebase(garden)] == [copy]
    assert texts(garden) == {"a": b"base", "d": b"their", f"{copy}/new": b"ours"}


def test_a_file_in_the_way_of_anothers_directory_is_put_beside_it() -> None:
    stage = Stage()
    garden = stage.begin(plant)
    removes("d/b", "d")(garden)
    put(garden, "d", b"ours")
    stage.others(files(d__b=b"their"))
    copy = "d (conflict anna ws7 1970-01-01 00.00)"
    assert [str(path) for path in stage.rebase(garden)] == [copy]
    assert texts(garden) == {"a": b"base", copy: b"ours", "d/b": b"their"}


def test_what_is_the_same_on_both_sides_is_no_conflict_and_dirty_bytes_keep_their_base() -> None:
    stage = Stage()
    garden = stage.begin(lambda first: first.create(TOP, "f", Kind.FIFO))
    for side in (garden,):
        side.create(TOP, "link", Kind.SYMLINK, "a")
    stage.others(lambda other: other.create(TOP, "link", Kind.SYMLINK, "a"))
    assert stage.rebase(garden) == ()
    assert seen(garden)[Path("link")] == (Kind.SYMLINK, "a")


def test_attributes_that_were_not_changed_here_are_theirs() -> None:
    stage = Stage()
    garden = stage.begin(plant)
    a, d = garden.tree.find(Path("a")), garden.tree.find(Path("d"))
    assert a is not None
    assert d is not None
    garden.commit(SetAttributes(ino=a.ino, mode=0o600, time=7))

    def change(other: Garden) -> None:
        for ino, mode in ((a.ino, 0o640), (d.ino, 0o700), (TOP, 0o711)):
            other.commit(SetAttributes(ino=ino, mode=mode, mtime=77, time=7))
            other.commit(SetXattr(ino=ino, name="user.x", value=b"theirs", time=7))

    stage.others(change)
    stage.rebase(garden)
    assert (a.mode, a.mtime, a.xattrs) == (0o600, 77, {"user.x": b"theirs"})
    assert (d.mode, d.mtime, d.xattrs) == (0o700, 77, {"user.x": b"theirs"})
    top = garden.tree.nodes[TOP]
    assert (top.mode, top.mtime, top.xattrs) == (0o711, 77, {"user.x": b"theirs"})


def test_a_time_that_was_set_here_stays() -> None:
    stage = Stage()
    garden = stage.begin(plant)
    a = garden.tree.find(Path("a"))
    assert a is not None
    garden.commit(SetAttributes(ino=a.ino, mtime=5, time=7))
    stage.others(lambda other: other.commit(SetAttributes(ino=a.ino, mode=0o640, mtime=77, time=7)))
    stage.rebase(garden)
    assert (a.mode, a.mtime) == (0o640, 5)


def test_what_another_tool_removed_was_not_deleted_by_us() -> None:
    stage = Stage()
    garden = stage.begin(plant)
    garden.lose_foreign(Path("a"), with_name=True)
    stage.others(files(d__b=b"their"))
    stage.rebase(garden)
    assert texts(garden) == {"a": b"base", "d/b": b"their"}


def test_what_another_tool_wrote_was_not_changed_by_us() -> None:
    stage = Stage()
    garden = stage.begin(plant)
    garden.find_foreign(Path("a"), b"foreign", "foreign")
    stage.others(files(a=b"their"))
    assert stage.rebase(garden) == ()
    assert texts(garden) == {"a": b"their", "d/b": b"base"}


def test_a_file_that_both_sides_renamed_is_two_files() -> None:
    stage = Stage()
    garden = stage.begin(plant)
    garden.rename(Path("a"), Path("new"))
    stage.others(lambda other: other.rename(Path("a"), Path("other")))
    stage.rebase(garden)
    new, other = garden.tree.find(Path("new")), garden.tree.find(Path("other"))
    assert new is not None
    assert other is not None
    assert new is not other


def test_hard_links_of_theirs_are_one_file_here() -> None:
    stage = Stage()
    garden = stage.begin(plant)

    def link(other: Garden) -> None:
        put(other, "new", b"their")
        for old, new in (("new", "new2"), ("a", "a2")):
            node = other.tree.find(Path(old))
            assert node is not None
            other.link(node.ino, Path(new))

    stage.others(link)
    stage.rebase(garden)
    tree = garden.tree
    assert tree.find(Path("new")) is tree.find(Path("new2"))
    assert tree.find(Path("a")) is tree.find(Path("a2"))
    check_rebased(garden)


# --- by chance ----------------------------------------------------------------------------------


def story(seed: int) -> tuple[Stage, Garden, tuple[dict[Path, Seen], ...]]:
    """A stage with random work on both sides; what base, ours and theirs see."""
    chance = random.Random(seed)
    stage = Stage(chance)
    size = chance.choice([3, 10, 30])
    garden = stage.begin(lambda first: first.grow(size, foreign=False, publishes=False))
    base = seen(garden)
    garden.grow(chance.choice([0, 3, 20]), foreign=False, publishes=False)
    stage.others(
        lambda other: other.grow(chance.choice([0, 3, 20]), foreign=False, publishes=False)
    )
    theirs = stage.garden(stage.theirs, THEIRS, 20)
    return stage, garden, (base, seen(garden), seen(theirs))


def judge(
    sides: tuple[dict[Path, Seen], ...], after: dict[Path, Seen], copies: tuple[Path, ...]
) -> None:
    """The rules, over what is seen."""
    base, ours, theirs = sides
    held = [what for kind, what in after.values() if kind is Kind.FILE]
    for path in base.keys() | ours.keys() | theirs.keys():
        b, o, t = base.get(path), ours.get(path), theirs.get(path)
        if t not in (None, b):
            assert after[path] == t, f"{path!r}: theirs changed, and is not there"
        if o not in (None, b) and o[0] is Kind.FILE:
            assert o[1] in held, f"{path!r}: ours changed, and is nowhere"
            if t == b and not copies:
                assert after[path] == o, f"{path!r}: changed here alone, and not there"
        if o == b and t is None and b is not None and b[0] is not Kind.DIRECTORY:
            assert path not in after or path in copies, f"{path!r}: removed there, and is there"
        if o is None and t == b and b is not None and b[0] is not Kind.DIRECTORY:
            assert path not in after, f"{path!r}: removed here, and is there"
        if b == o == t and b is not None:
            assert after[path] == b
    assert all(copy in after for copy in copies)


@pytest.mark.parametrize("number", range(60))
def test_whatever_both_sides_did_the_rules_hold_and_the_stage_can_be_published(
    number: int, seed: int
) -> None:
    stage, garden, sides = story(seed * 1000 + number)
    copies = stage.rebase(garden)
    after = seen(garden)
    judge(sides, after, copies)
    check_rebased(garden)
    final = stage.publish(garden, stage.theirs, 30)
    again = stage.garden(final, BASE, 40)
    assert seen(again) == after
    assert final.generation == 3
    plain = {path: there.body for path, there in stage.bucket.objects.items()}
    assert plain == {path: held for path, (kind, held) in after.items() if kind is Kind.FILE}, (
        "what other tools see"
    )


class Died(Exception):
    """The process is gone."""


@pytest.mark.parametrize("number", range(30))
def test_a_rebase_that_died_is_begun_again_and_ends_the_same(number: int, seed: int) -> None:
    stage, garden, _ = story(seed * 1000 + number)
    whole, whole_garden, _ = story(seed * 1000 + number)
    copies = whole.rebase(whole_garden)
    left = stage.chance.randrange(0, 20)

    def commit(record: Record) -> None:
        nonlocal left
        if not left:
            raise Died
        left -= 1
        garden.commit(record)

    try:
        assert stage.rebase(garden, commit) == copies
    except Died:
        garden = replayed(stage, garden)
        assert stage.rebase(garden) == copies
    assert seen(garden) == seen(whole_garden)


def replayed(stage: Stage, garden: Garden) -> Garden:
    """The same records once more, from the start, as a recovery does."""
    tree = tree_of(stage.base, BASE, uid=1000, gid=1000)
    for record, at, length in garden.history:
        tree.apply(record, at, length)
    garden.tree = tree
    return garden


def test_a_tree_that_was_never_mounted_elsewhere_needs_nothing_but_a_new_base(seed: int) -> None:
    stage, garden, _ = story(seed)
    stage.theirs = stage.base
    before = seen(garden)
    stage.rebase(garden)
    assert seen(garden) == before
