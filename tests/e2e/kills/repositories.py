"""A git repository: edits, commits, packing; checked by git's own fsck and by every blob's hash."""

import hashlib
import os
import random
import subprocess
from pathlib import Path

from tests.e2e.kills.diary import Diary, Operation, Told
from tests.e2e.kills.expected import ExpectedTree
from tests.e2e.kills.hand import Hand

IDENTITY = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "anna",
    "GIT_AUTHOR_EMAIL": "anna@example.org",
    "GIT_COMMITTER_NAME": "anna",
    "GIT_COMMITTER_EMAIL": "anna@example.org",
}
SETTINGS = ("-c", "gc.auto=0", "-c", "maintenance.auto=false")


class GitFailed(Exception):
    """With what it said."""


def git(top: Path, *arguments: str) -> str:
    """What git prints."""
    done = subprocess.run(
        ["git", *SETTINGS, *arguments],
        cwd=top,
        env={**os.environ, **IDENTITY},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise GitFailed(f"git {arguments} ended with {done.returncode}: {done.stderr}")
    return done.stdout


class Repository:
    """Its files are checked like any; its commits by what they must contain."""

    def __init__(self, outside: Path) -> None:
        self._files = ExpectedTree(ignored=".git")
        self._commits: dict[str, dict[str, str]] = {}
        """Subject → path → blob, of those that were acknowledged, or found when in flight."""

    def prepare(self, top: Path) -> None:
        git(top, "init", "-q", "-b", "main")

    @staticmethod
    def work(top: Path, outside: Path, diary: Diary, name: str) -> None:
        """Edit and commit for ever."""
        choice, hand, count = random.Random(name), Hand(top, diary, name), 0

        def run(arguments: list[str]) -> None:
            with diary.noted("git", *arguments):
                git(top, *arguments)

        while True:
            for _ in range(choice.randrange(1, 8)):
                edit(hand, choice)
            count += 1
            run(["add", "-A"])
            run(["commit", "-qm", f"{name} {count}"])
            if choice.random() < 0.15:
                run(["repack", "-adq"])
                run(["pack-refs", "--all"])

    def check(self, top: Path, told: Told) -> None:
        """Files as edited; commits as acknowledged, of which one more may be there."""
        for lock in (top / ".git").rglob("*.lock"):
            lock.unlink()  # as git asks its user to, after a crash
        git(top, "fsck", "--full", "--strict")
        for operation in told.acknowledged:
            self._files.note(operation)
            if subject := committed(operation):
                self._commits[subject] = self._blobs()
        self._files.check(top, Told([], told.in_flight))
        self._check_commits(top, told)

    def _check_commits(self, top: Path, told: Told) -> None:
        begun = [committed(operation) for operation in told.in_flight]
        subjects = self._subjects(top)
        expected = list(self._commits)
        if subjects != expected:
            assert subjects[-1:] == begun, f"{subjects[-3:]}, not {expected[-3:]}"
            assert subjects[:-1] == expected
            self._commits[subjects[-1]] = self._blobs()
        for subject, blobs in list(self._commits.items())[-3:]:
            commit = git(top, "log", "--format=%H", "-F", f"--grep={subject}", "-1").strip()
            lines = git(top, "ls-tree", "-rz", commit).split("\0")
            found = {line.partition("\t")[2]: line.split()[2] for line in lines if line}
            assert found == blobs, subject

    def _subjects(self, top: Path) -> list[str]:
        if not self._commits and not git(top, "for-each-ref"):
            return []
        return git(top, "log", "--reverse", "--format=%s").splitlines()

    def _blobs(self) -> dict[str, str]:
        """What a commit of all files has."""
        return {
            path: hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            for path, content in self._files.contents().items()
        }


def committed(operation: Operation) -> str:
    """The subject of the commit, if it is one."""
    is_one = operation.arguments[:2] == ("commit", "-qm")
    return str(operation.arguments[2]) if is_one else ""


def edit(hand: Hand, choice: random.Random) -> None:
    """Write a file anew, beside or in place."""
    name = f"line-{choice.randrange(40):02}.csv"
    target = name if choice.random() < 0.5 else f"{name}.new"
    handle = hand.open(target, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    hand.pwrite(handle, hand.bytes(choice.randrange(1, 20_000)), 0)
    hand.close(handle)
    if target != name:
        hand.rename(target, name)
