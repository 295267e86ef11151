"""A real mount: its daemon's process, what it logs, and a look into its journal."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from pdfs.core.tree import Tree
from tests.fs.sessions import replayed

REPOSITORY = Path(__file__).resolve().parents[2]


class Mount:
    """A stage on a journal in `root/state`, at `root/mnt`. Always unmounted at the end."""

    def __init__(self, root: Path, *options: str) -> None:
        self.state, self.path, self._log = root / "state", root / "mnt", root / "log"
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        for directory in (self.state, self.path):
            directory.mkdir()
        root.chmod(0o755)

    def start(self) -> None:
        """Mount; returns when requests are answered."""
        where = str(self.state), str(self.path)
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-X", "dev", "-m", "tests.fuse.daemon", *self._options, *where],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._hear("ready")

    def order(self, *words: str) -> None:
        """Have the daemon do something; returns when it is done."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()
        self._hear("done")

    def _hear(self, word: str) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        assert said == word, f"the daemon said {said!r}: {self._log.read_text()}"

    def unmount(self) -> None:
        """As a user does; returns when the daemon has ended, which it must well."""
        subprocess.run(["fusermount3", "-u", self.path], check=True)
        assert self._end() == 0, self._log.read_text()

    def wait_end(self) -> None:
        """The daemon ends by itself, and well."""
        assert self._end() == 0, self._log.read_text()

    def kill(self) -> None:
        """kill -9 of the daemon, and what is left of the mount removed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._end()
        self._detach()

    def _end(self) -> int:
        """Wait for the daemon, and close what leads to it."""
        assert self._process is not None
        process, self._process = self._process, None
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        return process.wait()

    def _detach(self) -> None:
        subprocess.run(["fusermount3", "-u", "-z", self.path], check=False, capture_output=True)

    def replayed(self) -> Tree:
        """What the journal says, the daemon being gone."""
        return replayed(self.state)

    def wait_logged(self, pattern: str) -> str:
        """Wait until the log has such a line, and take it out."""
        return self._wait(lambda: self._take(pattern), f"no line with {pattern!r}")

    def _take(self, pattern: str) -> str:
        log = self._log.read_text()
        found = re.search(f"^.*{pattern}.*(\n(?!INFO|WARNING|ERROR).*)*\n", log, re.MULTILINE)
        if found is None:
            return ""
        # Written in place: the daemon has it open for appending.
        self._log.write_text(log.replace(found[0], "", 1))
        return found[0]

    def _wait(self, look: Callable[[], str], otherwise: str) -> str:
        for _ in range(10_000):
            if found := look():
                return found
            time.sleep(0.025)
        raise AssertionError(f"{otherwise} in: {self._log.read_text()}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Unmount; if the test went well, nothing that it did not take may be in the log."""
        try:
            if self._process is not None and error[0] is None:
                self.unmount()
        finally:
            self._detach()
            if self._process is not None:
                self._process.kill()
                self._end()
        if error[0] is None:
            assert self._log.read_text() == ""


@contextmanager
def refused(code: int) -> Iterator[None]:
    """The block is a system call that fails with this errno."""
    with pytest.raises(OSError, check=lambda error: error.errno == code):
        yield


def run(*command: str | os.PathLike[str], cwd: Path, **variables: str) -> str:
    """A native tool: its output; a failure is one of the test."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stderr}"
    return done.stdout
