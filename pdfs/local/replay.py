"""Replay: the same records, applied by the same `Tree.apply`, make the same tree again."""

from collections.abc import Iterable
from typing import Protocol

from pdfs.core.intervals import Position
from pdfs.core.record import decode
from pdfs.core.tree import Tree


class Journaled(Protocol):
    """One record as it lies in a journal."""

    @property
    def kind(self) -> int: ...
    @property
    def body(self) -> bytes: ...
    @property
    def segment(self) -> int: ...
    @property
    def data_offset(self) -> int: ...
    @property
    def data_size(self) -> int: ...


def replay(tree: Tree, records: Iterable[Journaled]) -> None:
    """Apply `records`, which follow the state that `tree` is in.

    Raises JournalDamaged at the first record that is none or contradicts the tree; the tree then
    stands before it.
    """
    for journaled in records:
        replay_one(tree, journaled)


def replay_one(tree: Tree, journaled: Journaled) -> None:
    """Apply one of them. Raises JournalDamaged, and then `tree` was not changed."""
    record = decode(journaled.kind, journaled.body)
    at = Position(journaled.segment, journaled.data_offset)
    tree.apply(record, at, journaled.data_size)
