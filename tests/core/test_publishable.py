"""What a publish commits can be read, applied and finished by anybody."""

import random
from dataclasses import replace

import pytest

from pdfs.core import manifest, plan
from pdfs.core.content import EMPTY, ETag
from pdfs.core.generation import draft_of
from pdfs.core.ids import TOP, Inode, Path
from pdfs.core.manifest import never_published
from pdfs.core.plan import ConflictNames
from pdfs.core.record import Create, Kind, Rename, Write
from pdfs.core.settle import Done, Outcome, SourceLost, settle
from pdfs.core.tree import Tree, new_tree
from pdfs.errors import ObjectDamaged
from tests.core.gardens import Garden
from tests.core.test_plan import entry, put
from tests.core.test_plan import plan as plan_of


def tree_with_a_file() -> Tree:
    tree = new_tree(uid=0, gid=0)
    tree.apply(
        Create(parent=TOP, name="a", ino=Inode(9), kind=Kind.FILE, mode=0, uid=0, gid=0, time=0)
    )
    return tree


def test_an_empty_object_of_another_tool_is_known_by_its_digest_when_it_moves() -> None:
    garden = Garden(random.Random(0))
    garden.find_foreign(Path("a"), b"", "e1")
    garden.rename(Path("a"), Path("b"))
    content = draft_of(garden.tree, lambda path: True).entries[0].content
    assert content is not None
    assert content.digest == EMPTY.digest


def test_conflict_copies_are_told_apart_however_long_the_names_of_user_and_machine() -> None:
    names = ConflictNames(
        user="u" * 60, machine="m" * 64, time=0.0, taken=set(), is_visible=lambda path: True
    )
    assert len({names.beside(Path("a")) for _ in range(3)}) == 3


def test_a_file_time_of_a_far_century_comes_back_from_a_plan() -> None:
    planned = plan_of(replace(put("a"), mtime=10_413_792_000 * 10**9))
    assert plan.decode("key", plan.encode(planned)) == planned


def test_a_plan_that_names_a_path_outside_the_stage_is_refused() -> None:
    with pytest.raises(ObjectDamaged, match="can't be a path"):
        plan.decode("key", plan.encode(plan_of(put("../../x"))))


def test_a_write_of_no_bytes_does_not_extend_a_file() -> None:
    tree = tree_with_a_file()
    tree.apply(Write(ino=Inode(9), offset=100, time=1))
    assert tree.nodes[Inode(9)].size == 0


def test_a_name_exchanged_with_itself_stays() -> None:
    tree = tree_with_a_file()
    tree.apply(Rename(parent=TOP, name="a", new_parent=TOP, new_name="a", time=1, exchange=True))
    assert tree.find(Path("a")) is tree.nodes[Inode(9)]


def test_a_file_that_one_of_its_names_still_holds_is_not_lost() -> None:
    committed = replace(never_published(), entries=(entry("a", 9), entry("b", 9)))
    outcomes: dict[Path, Outcome] = {Path("a"): Done(ETag("e")), Path("b"): SourceLost()}
    settled = settle(committed, plan_of(put("a"), put("b")), outcomes, new_inode=lambda: Inode(50))
    assert not any(found.lost for found in settled.entries)
    assert manifest.decode("key", manifest.encode(settled)) == settled
