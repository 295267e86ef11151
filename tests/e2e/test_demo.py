"""scripts/demo, as root and as a user without any privilege; it compares, and cleans up."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.machines import ROOT

DEMO = ROOT / "scripts" / "demo"
LAST_WORDS = "Done: mounted, edited, killed, recovered, published, compared"

AS_NOBODY = """
set -eu
mknod "$1/fuse" c 10 229
chmod 666 "$1/fuse"
mount --bind "$1/fuse" /dev/fuse
exec setpriv --reuid 65534 --regid 65534 --clear-groups \
    --inh-caps -all,+dac_read_search --ambient-caps -all,+dac_read_search "$2"
"""
"""/dev/fuse as Debian has it (0666), in a mount name space of its own. The one capability lets the
user read the interpreter, which may lie in a directory that is root's."""


def assert_ran(command: list[str | Path], temporary: Path) -> None:
    """It succeeded, and left nothing."""
    environ = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert LAST_WORDS in done.stdout
    assert list(temporary.iterdir()) == []
    assert str(temporary) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory where everybody may work; nobody else could pass through pytest's."""
    with tempfile.TemporaryDirectory(prefix="pdfs-test-demo-") as name:
        Path(name).chmod(0o755)
        made = Path(name, "t")
        made.mkdir()
        made.chmod(0o1777)
        yield made


def test_the_demo_runs_as_the_user_who_runs_the_tests(temporary: Path) -> None:
    assert_ran([DEMO], temporary)


@pytest.mark.skipif(os.geteuid() != 0, reason="the test before this one ran as such a user")
def test_the_demo_runs_as_an_unprivileged_user(temporary: Path) -> None:
    space = ["unshare", "--mount", "--propagation", "private", "bash", "-c", AS_NOBODY, "demo"]
    assert_ran([*space, temporary.parent, DEMO], temporary)
