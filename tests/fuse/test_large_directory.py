"""A large directory is listed whole and stably while it changes (H3), through the kernel."""

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import Reached
from tests.fuse.mounts import Mount
from tests.lengths import Length

OFTEN = 40
"""A change comes after so many names: the kernel asks for a few hundred at a time."""


class Changing:
    """A directory in which files come, change their names, and go."""

    def __init__(self, directory: Path, choice: random.Random) -> None:
        self._directory = directory
        self._choice = choice
        self._here: list[str] = []
        self.changes = 0
        self.ever: set[str] = set()
        """Every name that there was, beside those that stay."""

    def change(self) -> None:
        """Make one, and rename or remove another."""
        self.changes += 1
        self._make(f"new-{self.changes}")
        if len(self._here) > 10:
            name = self._here.pop(self._choice.randrange(len(self._here)))
            if self._choice.random() < 0.5:
                (self._directory / name).unlink()
            else:
                (self._directory / name).rename(self._directory / f"moved-{self.changes}")
                self._note(f"moved-{self.changes}")

    def _make(self, name: str) -> None:
        os.close(os.open(self._directory / name, os.O_CREAT | os.O_WRONLY))
        self._note(name)

    def _note(self, name: str) -> None:
        self._here.append(name)
        self.ever.add(name)


@pytest.mark.figure(name="H3")
def test_a_large_directory_is_listed_whole_and_each_name_once_while_it_changes(
    new_mount: Mount, length: Length, seed: int, reached: Reached
) -> None:
    entries, listings = length.pick(sample=(2_000, 3), full=(10_000, 50), long=(10_000, 1_000))
    directory = new_mount.path / "isometrics"
    directory.mkdir()
    stays = {f"stays-{number:05}" for number in range(entries)}
    choice = random.Random(seed)
    changing = Changing(directory, choice)
    for number, name in enumerate(sorted(stays)):
        os.close(os.open(directory / name, os.O_CREAT | os.O_WRONLY))
        if number % OFTEN == 0:
            changing.change()
    for _ in range(listings):
        for name in choice.sample(sorted(stays), entries // OFTEN):  # behind what is about to go
            (directory / name).rename(directory / "away")
            (directory / "away").rename(directory / name)
        before, found = changing.changes, Counter[str]()
        with os.scandir(directory) as listing:
            for number, entry in enumerate(listing):
                found[entry.name] += 1
                if number % OFTEN == 0:
                    changing.change()
        assert changing.changes - before >= entries // OFTEN
        assert max(found.values()) == 1, "a name stands twice"
        assert stays <= found.keys(), f"{len(stays - found.keys())} names are missing"
        assert found.keys() - stays <= changing.ever, "there is what nobody made"
    reached(entries * listings, "names listed")
