"""From a generation to a tree and back: what is mounted is what is published."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core.content import Content, ETag, Packed, Plain, content_of
from pdfs.core.entries import Entry
from pdfs.core.generation import (
    changed_files,
    draft_of,
    invisible_files,
    manifest_of,
    tree_of,
    unpublished_of,
)
from pdfs.core.ids import TOP, Inode, Path, PublishId
from pdfs.core.lease import Unpublished
from pdfs.core.manifest import Kept, Manifest, Top, never_published
from pdfs.core.record import Kind, Link, SetAttributes, Write
from pdfs.core.snapshot import encode
from pdfs.core.tree import Tree
from tests.core.buckets import Bucket, is_visible
from tests.core.effort import calls_in
from tests.core.gardens import Garden, check_counts
from tests.core.test_manifest import GOLDEN
from tests.core.values import manifests, named


def mounted(manifest: Manifest) -> Tree:
    return tree_of(manifest, named("t"), uid=1000, gid=1000)


def garden_of(*files: str) -> Garden:
    """A mounted stage whose plain objects have these paths, and are known by no digest."""
    garden = Garden(random.Random(0))
    for path in files:
        garden.find_foreign(Path(path), path.encode() * 3, f"e-{path}")
    return garden


# --- mounting -------------------------------------------------------------------------------------


def in_place(manifest: Manifest) -> Manifest:
    """The same where nothing is left to do: every file is whole, and has its plain object."""
    entries = tuple(
        entry if entry.content is None else _placed(entry, number)
        for number, entry in enumerate(manifest.entries)
    )
    by_ino: dict[int, list[Plain]] = {}
    for entry in entries:
        if entry.content is not None:
            by_ino.setdefault(entry.ino, []).extend(entry.content.plain)
    return replace(
        manifest,
        entries=tuple(
            entry
            if entry.content is None
            else replace(entry, content=entry.content.with_plain(*by_ino[entry.ino]))
            for entry in entries
        ),
    )


def _placed(entry: Entry, number: int) -> Entry:
    assert entry.content is not None
    content = Content(
        size=max(1, entry.content.size),
        digest=entry.content.digest,
        parts=entry.content.parts,
        packed=entry.content.packed,
        plain=(Plain(entry.path, ETag(f"e{number}")),),
    )
    return replace(entry, content=content, lost=False)


def ordered(entries: Sequence[Entry]) -> dict[Path, Entry]:
    """Entries by path, with the homes of each content in the order of their paths."""
    return {
        entry.path: entry
        if entry.content is None
        else replace(
            entry, content=entry.content.with_plain(*sorted(entry.content.plain, key=_path_of))
        )
        for entry in entries
    }


def _path_of(home: Plain) -> Path:
    return home.path


@given(manifests())
def test_what_was_mounted_and_not_changed_leaves_nothing_to_do(manifest: Manifest) -> None:
    manifest = replace(in_place(manifest), aside={})
    tree = mounted(manifest)
    draft = draft_of(tree, lambda path: True)
    assert (draft.changed, draft.displaced) == ((), ())
    assert ordered(draft.entries) == ordered(manifest.entries)
    assert draft.top == manifest.top
    assert unpublished_of(tree, lambda path: True) == Unpublished()
    assert changed_files(tree) == []
    assert not tree.has_edits


@given(manifests())
def test_a_mounted_tree_counts_its_names_as_if_it_had_been_made_by_records(
    manifest: Manifest,
) -> None:
    tree = mounted(manifest)
    check_counts(tree)
    assert (tree.generation, tree.base) == (manifest.generation, named("t"))
    assert [path for path, _ in tree.walk()] == sorted(
        (entry.path for entry in manifest.entries), key=lambda path: path.split("/")
    )


def test_a_mount_shows_its_user_as_the_owner_and_all_else_as_it_was_published() -> None:
    tree = tree_of(GOLDEN, None, uid=5, gid=6)
    assert {(node.uid, node.gid) for node in tree.nodes.values()} == {(5, 6)}
    top = tree.nodes[TOP]
    assert (top.mode, top.mtime, top.xattrs) == (0o755, -5, {"user.t": b"\xff"})
    link = tree.find(Path("l"))
    assert link is not None
    assert (link.kind, link.target, link.size) == (Kind.SYMLINK, "d", 1)
    one, other = tree.find(Path("d/ä")), tree.find(Path("d/b\udcff"))
    assert one is other
    assert one is not None
    assert (one.links, one.size, one.xattrs) == (2, 9, {"user.x": b"\0"})


def test_what_is_known_of_the_bucket_are_the_objects_with_an_etag() -> None:
    assert list(mounted(GOLDEN).known) == ["d/ä", "gone"]


# --- drafting -------------------------------------------------------------------------------------


def drafted(garden: Garden) -> tuple[list[str], list[str], dict[str, ETag | None]]:
    """Changed names, displaced plain paths, and the ETag that each file has in place."""
    draft = draft_of(garden.tree, is_visible)
    return (
        [entry.path for entry in draft.entries if entry.ino in draft.changed],
        [content.plain[0].path for content in draft.displaced],
        {entry.path: entry.etag for entry in draft.entries if entry.kind is Kind.FILE},
    )


def test_a_new_file_is_changed() -> None:
    garden = garden_of("a")
    garden.create(TOP, "b")
    garden.write(garden.create(TOP, "c"), 0, b"x")
    assert drafted(garden) == (["c"], [], {"a": "e-a", "b": None, "c": None})


def test_a_file_that_is_written_displaces_what_it_was() -> None:
    garden = garden_of("a")
    garden.write(garden.files()[0], 0, b"x")
    assert drafted(garden) == (["a"], ["a"], {"a": None})


def test_a_deleted_file_is_displaced_unless_its_content_has_a_lasting_home() -> None:
    garden = garden_of("a", "b")
    lasting = garden.tree.known[Path("b")].with_packed(Packed(named("c"), 0))
    garden.tree.known[Path("b")] = lasting
    garden.unlink(Path("a"))
    garden.unlink(Path("b"))
    assert drafted(garden) == ([], ["a"], {})


def test_a_moved_file_gets_a_lasting_home_before_its_plain_object_goes() -> None:
    garden = garden_of("a")
    garden.rename(Path("a"), Path("b"))
    assert drafted(garden) == (["b"], [], {"b": None})


def test_a_moved_file_that_has_a_lasting_home_is_not_sent_again() -> None:
    garden = garden_of("a")
    node = garden.tree.nodes[garden.files()[0]]
    node.base = node.base.with_packed(Packed(named("c"), 0))
    garden.tree.known[Path("a")] = node.base
    garden.rename(Path("a"), Path("b"))
    assert drafted(garden) == ([], [], {"b": None})


def test_two_files_that_changed_places_are_both_out_of_place() -> None:
    garden = garden_of("a", "b")
    garden.rename(Path("a"), Path("b"), exchange=True)
    assert drafted(garden) == (["a", "b"], [], {"a": None, "b": None})


@pytest.mark.parametrize("is_removed", [False, True], ids=["renamed", "removed"])
def test_foreign_files_that_go_cost_no_more_for_each_of_many(
    is_removed: bool,
) -> None:
    """Compared each with each, 20,000 of them would take an hour."""

    def effort(count: int) -> int:
        names = [f"{number:03}" for number in range(count)]  # all as long, as in bytes
        garden = garden_of(*names)
        for name in names:
            if is_removed:
                garden.unlink(Path(name))
            else:
                garden.rename(Path(name), Path(f"new-{name}"))
        return calls_in(lambda: draft_of(garden.tree, is_visible))

    assert effort(200) < 3 * effort(100)


def test_a_file_moved_over_another_displaces_that_one_alone() -> None:
    garden = garden_of("a", "b")
    garden.rename(Path("a"), Path("b"))
    assert drafted(garden) == (["b"], ["b"], {"b": None})


def test_files_that_were_moved_there_and_back_are_in_place() -> None:
    garden = garden_of("a", "b")
    for old, new in (("a", "x"), ("b", "a"), ("a", "b"), ("x", "a")):
        garden.rename(Path(old), Path(new))
    assert drafted(garden) == ([], [], {"a": "e-a", "b": "e-b"})


def test_names_of_one_file_share_its_content() -> None:
    garden = garden_of("a")
    garden.commit(Link(ino=garden.files()[0], parent=TOP, name="b", time=5))
    draft = draft_of(garden.tree, is_visible)
    one, other = draft.entries
    assert one.content == other.content
    assert (one.etag, other.etag) == ("e-a", None)
    assert draft.changed == (one.ino,), "the second name's put needs a lasting home"


def test_a_chmod_alone_changes_no_object() -> None:
    garden = garden_of("a")
    garden.commit(SetAttributes(ino=garden.files()[0], time=5, mode=0o600, mtime=7))
    assert drafted(garden) == ([], [], {"a": "e-a"})
    assert garden.tree.has_edits
    (entry,) = draft_of(garden.tree, is_visible).entries
    assert (entry.mode, entry.mtime) == (0o600, 7)


def test_a_name_that_no_key_can_hold_is_in_the_tree_alone() -> None:
    garden = garden_of("a")
    garden.rename(Path("a"), Path("a\udcff"))
    assert drafted(garden) == (["a\udcff"], [], {"a\udcff": None})
    assert unpublished_of(garden.tree, is_visible) == Unpublished(files=1)
    garden.create(TOP, "d\udcff", Kind.DIRECTORY)
    garden.create(TOP, "b")
    assert invisible_files(garden.tree, is_visible) == ["a\udcff"]


def test_what_is_not_a_file_is_published_in_the_manifest_alone() -> None:
    garden = garden_of()
    for number, kind in enumerate(kind for kind in Kind if kind is not Kind.FILE):
        garden.create(TOP, f"n{number}", kind)
    draft = draft_of(garden.tree, is_visible)
    assert {entry.kind for entry in draft.entries} == set(Kind) - {Kind.FILE}
    assert (draft.changed, draft.displaced) == ((), ())
    assert unpublished_of(garden.tree, is_visible) == Unpublished()


@pytest.mark.parametrize(
    ("change", "files", "size"),
    [
        (lambda g: None, 0, 0),
        (lambda g: g.write(g.files()[0], 0, b"xyz"), 1, 3),
        (lambda g: g.unlink(Path("a")), 1, 0),
        (lambda g: g.rename(Path("a"), Path("b")), 2, 0),
        (lambda g: g.write(g.create(TOP, "b"), 7, b"xyz"), 1, 10),
        (lambda g: g.create(TOP, "b", Kind.DIRECTORY), 0, 0),
    ],
)
def test_what_is_unpublished_is_counted_in_files_and_bytes(
    change: object, files: int, size: int
) -> None:
    garden = garden_of("a")
    assert callable(change)
    change(garden)
    assert unpublished_of(garden.tree, is_visible) == Unpublished(files=files, bytes=size)


def test_files_that_only_the_journal_holds_are_listed() -> None:
    garden = garden_of("a", "b")
    garden.commit(Write(ino=garden.files()[0], offset=0, time=5), b"x")
    garden.rename(Path("b"), Path("c"))
    assert changed_files(garden.tree) == ["a"]


# --- the generation that follows ------------------------------------------------------------------


def next_manifest(
    garden: Garden, staged: dict[Inode, Content], before: Manifest, *, time: float = 100.0
) -> Manifest:
    draft = draft_of(garden.tree, is_visible)
    return manifest_of(
        draft,
        {ino: staged[ino] for ino in draft.changed if ino in staged},
        (),
        before=before,
        predecessor=named("t"),
        publish=PublishId("p"),
        time=time,
        kept_for=50.0,
    )


def test_the_next_generation_follows_the_one_before() -> None:
    garden = garden_of("a")
    manifest = next_manifest(garden, {}, replace(never_published(), generation=4))
    assert (manifest.generation, manifest.predecessor) == (5, named("t"))
    assert (manifest.publish, manifest.time, manifest.top) == ("p", 100.0, Top(mtime=1))


def test_a_file_that_could_not_be_made_whole_is_marked_lost_with_what_it_was() -> None:
    garden = garden_of("a", "b")
    one, other = garden.files()
    garden.write(one, 0, b"x")
    garden.write(other, 0, b"y")
    data = Bucket().stage(garden.holds[one])
    a, b = next_manifest(garden, {one: data}, never_published()).entries
    assert (a.lost, a.content) == (False, data)
    assert (b.lost, b.content and b.content.size) == (True, 3)


def test_what_was_replaced_is_kept_for_a_while_and_what_lives_is_not() -> None:
    garden = garden_of("a")
    packed = {name: Bucket().stage(name.encode()) for name in ("gone", "old", "older", "living")}
    one = Entry(
        path=Path("x"),
        ino=garden.new_inode(),
        kind=Kind.FILE,
        mode=0,
        mtime=0,
        content=packed["gone"],
    )
    kept = {
        content.digest: Kept(content=content, time=time)
        for content, time in (
            (packed["old"], 50.0),
            (packed["older"], 49.9),
            (packed["living"], 90.0),
        )
        if content.digest is not None
    }
    garden.write(garden.files()[0], 0, b"x")
    manifest = next_manifest(
        garden,
        {garden.files()[0]: packed["living"]},
        replace(never_published(), entries=(one,), kept=kept),
    )
    assert set(manifest.kept) == {packed["gone"].digest, packed["old"].digest}
    assert {k.time for k in manifest.kept.values()} == {100.0, 50.0}


@given(st.integers(0, 1 << 32))
def test_mounting_what_was_published_shows_the_tree_that_was_published(seed: int) -> None:
    garden = Garden(random.Random(seed))
    garden.grow(40)
    bodies = {ino: garden.read(garden.tree.nodes[ino]) for ino in garden.files()}
    draft = draft_of(garden.tree, is_visible)
    bucket = Bucket()
    staged = {ino: bucket.stage(bodies[ino]) for ino in draft.changed}
    manifest = next_manifest(garden, staged, never_published())
    tree = mounted(manifest)
    assert [path for path, _ in tree.walk()] == garden.paths()
    for path, node in tree.walk():
        old = garden.tree.find(path)
        assert old is not None
        assert (node.ino, node.kind, node.mode, node.mtime, node.xattrs, node.target) == (
            old.ino,
            old.kind,
            old.mode,
            old.mtime,
            old.xattrs,
            old.target,
        )
        if node.is_file:
            data = bucket.packed.get(node.base.packed[0]) if node.base.packed else None
            held = garden.body(node.base) if data is None and node.base.size else data or b""
            assert held == bodies[node.ino]
    assert encode(tree) == encode(mounted(manifest))


def test_a_content_that_comes_back_is_kept_no_more() -> None:
    garden = garden_of()
    content = content_of(b"x").with_packed(Packed(named("c"), 0))
    assert content.digest is not None
    before = replace(never_published(), kept={content.digest: Kept(content=content, time=99.0)})
    ino = garden.create(TOP, "f")
    garden.write(ino, 0, b"x")
    assert next_manifest(garden, {ino: content}, before).kept == {}
