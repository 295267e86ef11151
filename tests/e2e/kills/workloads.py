"""The workloads under which the daemon is killed (C1); as a process, one that works until then.

`python -m tests.e2e.kills.workloads WORKLOAD TOP OUTSIDE DIARY NAME` works in the directory TOP of
a mount. It ends with `MOUNT_IS_GONE` when the mount answers no more, else with a traceback.
"""

import errno
import sqlite3
import sys
from pathlib import Path
from typing import Protocol

from tests.e2e.kills.appends import Appends
from tests.e2e.kills.archives import Archive, ToolFailed
from tests.e2e.kills.databases import Database
from tests.e2e.kills.diary import Diary, Told
from tests.e2e.kills.repositories import GitFailed, Repository
from tests.e2e.kills.saves import Saves

MOUNT_IS_GONE = 75


class Workload(Protocol):
    """What somebody does in a directory of a mount, and the oracle of it."""

    def __init__(self, outside: Path) -> None:
        """`outside` is an empty directory outside of the mount, for what it needs to work."""

    def prepare(self, top: Path) -> None:
        """Before the first work, once; no kill comes amid it."""

    @staticmethod
    def work(top: Path, outside: Path, diary: Diary, name: str) -> None:
        """Work until a call fails. In a process of its own; all chance comes from `name`."""

    def check(self, top: Path, told: Told) -> None:
        """Raises AssertionError where the mount is not what was acknowledged; takes in the rest."""


WORKLOADS: dict[str, type[Workload]] = {
    "append": Appends,
    "save": Saves,
    "sqlite": Database,
    "git": Repository,
    "untar": Archive,
}


def main(workload: str, top: str, outside: str, diary: str, name: str) -> None:
    """Work until the mount is gone."""
    try:
        WORKLOADS[workload].work(Path(top), Path(outside), Diary(Path(diary)), name)
    except OSError as error:
        # Those who waited for an answer when the daemon died, and all later ones.
        if error.errno not in (errno.ECONNABORTED, errno.ENOTCONN):
            raise
    except (sqlite3.OperationalError, GitFailed, ToolFailed) as error:
        sys.stderr.write(f"{error}\n")  # they tell no errno
    sys.exit(MOUNT_IS_GONE)


if __name__ == "__main__":
    main(*sys.argv[1:])
