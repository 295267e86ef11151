"""A real process appends until it is killed; what it had been told is there (invariant 2)."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pdfs.disk import OsDisk
from pdfs.local.journal import Journal
from tests.conftest import Reached
from tests.lengths import Length
from tests.local.journals import HEADER, Written, directory_of, replay

ROOT = Path(__file__).parents[2]


def record(number: int) -> Written:
    choice = random.Random(number)
    return 1 + number % 254, b"%d" % number, choice.randbytes(choice.randrange(20_000))


def serve(path: Path) -> None:
    """Append for ever, with syncs and rolls; a line for each record that was taken."""
    with directory_of(path) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        for number in range(1_000_000):
            journal.append(*record(number))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
            if number % 7 == 6:
                journal.sync()
            if number % 10 == 9:
                journal.roll()
                journal.seal()


@pytest.mark.figure(name="C1")
def test_kill_loses_nothing_that_was_acknowledged(
    tmp_path: Path, seed: int, length: Length, reached: Reached
) -> None:
    choice, attempts = random.Random(seed), length.pick(sample=4, full=100, long=1_000)
    reached(attempts, "kills of a journal alone")
    for attempt in range(attempts):
        path = tmp_path / str(attempt)
        path.mkdir()
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.local.test_process_death", str(path)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        with child:
            assert child.stdout is not None
            told = [child.stdout.readline() for _ in range(choice.randrange(1, 300))]
            child.kill()
            told += child.stdout.readlines()
        result = replay(path)
        shutil.rmtree(path)
        assert len(result.records) >= len(told) > 0
        assert result.records == [record(number) for number in range(len(result.records))]
        assert result.end.damage is None


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
