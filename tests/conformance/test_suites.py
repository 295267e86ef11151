"""A mount does what a plain directory does, as suites judge that nobody here has written (F1)."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.suites import ALL, SKIPPED, SUITES, Verdict
from tests.conftest import Reached
from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import PROJECT, Bucket, describe
from tests.lengths import Length

pytest_plugins = ["tests.e2e.conftest"]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """One that every user can reach, and short: a socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="f1-") as made:
        os.chmod(made, 0o711)
        yield Path(made)


@pytest.mark.figure(name="F1")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", ALL)
def test_a_mount_fails_nothing_that_a_plain_directory_passes(
    name: str,
    tmp_path: Path,
    bucket: Bucket,
    machine: MakeMachine,
    length: Length,
    seed: int,
    reached: Reached,
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    expected = ALL[name](plain, length, seed)
    here = machine(bucket)
    mounted = here.mount("--create", "--allow-other")
    found = ALL[name](mounted, length, seed)
    note(name, plain=expected, mount=found)
    assert found.passed, found.said
    assert len(expected.failed) < len(expected.passed) / 50, expected.said
    assert found.failed <= expected.failed, _said_of(found.failed - expected.failed, found.said)
    assert found.skipped <= expected.skipped | SKIPPED.keys()
    reached(len(found.passed), f"cases of {name}")

    left = describe(mounted)
    here.kill()
    here.mount("--allow-other")
    assert describe(mounted) == left, "what was there before the kill is not what came back"
    here.pdfs("umount", mounted)
    assert here.pdfs("check", PROJECT, "--read").endswith("no damage\n")
    assert describe(machine(bucket, "ws8").mount()) == left, "another machine sees something else"


def note(name: str, **verdicts: Verdict) -> None:
    """Keep what was found, for the table in the docs."""
    found = {
        place: {each: sorted(getattr(verdict, each)) for each in ("passed", "skipped", "failed")}
        for place, verdict in verdicts.items()
    }
    results = SUITES / "results"
    results.mkdir(exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps(found))


def _said_of(cases: frozenset[str], said: str) -> str:
    """What the suite printed of these cases, and of what follows each."""
    lines = said.splitlines()
    told = [
        "\n".join(lines[number : number + 12])
        for number, line in enumerate(lines)
        if any(case in line for case in cases)
    ]
    return os.linesep.join([f"{len(cases)} cases fail: {sorted(cases)}", *told[:20]])
