"""Outside suites: how to run them in a directory, and what they say of it."""

import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.lengths import Length

SUITES = Path(os.environ.get("PDFS_TEST_SUITES", "/nonexistent"))
"""Where the programs are that `scripts/conformance` brings."""

_PJDFSTEST = """
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}

[settings]
naptime = 0.05

[dummy_auth]
entries = [["daemon", "daemon"], ["bin", "bin"], ["games", "games"]]
"""
"""What it may expect; and it waits longer than a tick of the kernel's clock between two times."""

_CPYTHON = (
    *("test_os", "test_posix", "test_shutil", "test_mmap", "test_tempfile", "test_file"),
    *("test_fileio", "test_io", "test_fcntl", "test_glob", "test_pathlib", "test_largefile"),
    *("test_zipfile", "test_tarfile", "test_dbm_dumb", "test_mailbox", "test_sqlite3"),
    *("test_shelve", "test_fileinput", "test_filecmp", "test_stat", "test_genericpath"),
    *("test_posixpath", "test_bz2", "test_gzip", "test_lzma", "test_linecache", "test_netrc"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a suite says of a directory: the names of its cases by their outcome."""

    passed: frozenset[str]
    failed: frozenset[str]
    skipped: frozenset[str] = frozenset()
    said: str = ""


Suite = Callable[[Path, Length, int], Verdict]
"""Runs in an empty directory, at a length, with a seed; raises what keeps it from running."""


def pjdfstest(place: Path, length: Length, seed: int) -> Verdict:
    """POSIX: what each call does to every kind of file, and which error it gives."""
    configuration = place.parent / "pjdfstest.toml"
    configuration.write_text(_PJDFSTEST)
    said = _said([SUITES / "bin/pjdfstest", "-c", configuration, "-p", place])
    cases = {"ok": set[str](), "FAILED": set[str](), "skipped": set[str]()}
    for line in said.splitlines():
        name, _, outcome = line.rpartition(" ")
        if "::" in name and outcome in cases and not name.startswith("\t"):
            cases[outcome].add(name.strip())
    total = sum(map(len, cases.values()))
    assert f", {total} total\n" in said, f"it ended after {total} cases:\n{said[-4000:]}"
    return Verdict(
        passed=frozenset(cases["ok"]),
        failed=frozenset(cases["FAILED"]),
        skipped=frozenset(cases["skipped"]),
        said=said,
    )


def fsx(place: Path, length: Length, seed: int) -> Verdict:
    """Random reads, writes, truncations and mappings of one file, against a copy in memory."""
    count = length.pick(sample=2, full=10, long=10)
    operations = length.pick(sample=2000, full=20_000, long=1_000_000)
    outcomes: dict[bool, set[str]] = {True: set(), False: set()}
    said = ""
    for number in range(seed, seed + count):
        command = [str(SUITES / "bin/fsx"), "-N", str(operations), "-S", str(number)]
        command.append(str(place / "fsx"))
        ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)
        outcomes[ended.returncode == 0].add(f"{operations} operations with seed {number}")
        said += ended.stdout + ended.stderr
        (place / "fsx").unlink(missing_ok=True)
    return Verdict(passed=frozenset(outcomes[True]), failed=frozenset(outcomes[False]), said=said)


def cpython(place: Path, length: Length, seed: int) -> Verdict:
    """CPython's own tests of files."""
    report = place.parent / "cpython.xml"
    modules = _CPYTHON[seed % len(_CPYTHON) :][:4] if length is Length.SAMPLE else _CPYTHON
    environ = {**os.environ, "TMPDIR": str(place)}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    python = (SUITES / "python").read_text().strip()
    command = [python, "-m", "test", "-j1", "--tempdir", str(place)]
    command += ["--junit-xml", str(report), *modules]
    said = _said(command, environ)
    cases = list(ET.parse(report).iter("testcase"))
    assert cases, said
    return Verdict(
        passed=_named(case for case in cases if not len(case)),
        failed=_named(case for case in cases if any(each.tag in _BAD for each in case)),
        skipped=_named(case for case in cases if any(each.tag == "skipped" for each in case)),
        said=said,
    )


_BAD = ("failure", "error")


def stress_ng(place: Path, length: Length, seed: int) -> Verdict:
    """Every kind of file system call at once, each stressor checking what it reads."""
    seconds = length.pick(sample=1, full=5, long=60)
    outcomes: dict[bool, set[str]] = {True: set(), False: set()}
    said = ""
    for stressor in _STRESSORS:
        command = ["stress-ng", f"--{stressor}", "2", "--verify", "--temp-path", str(place)]
        command += ["--timeout", str(seconds), "--seed", str(seed)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        outcomes[ended.returncode == 0].add(stressor)
        said += ended.stdout + ended.stderr
    return Verdict(passed=frozenset(outcomes[True]), failed=frozenset(outcomes[False]), said=said)


_STRESSORS = (
    *("access", "chdir", "chmod", "chown", "copy-file", "dentry", "dir", "dirdeep", "dirmany"),
    *("dup", "fallocate", "fcntl", "fiemap", "file-ioctl", "filename", "flock", "fpunch", "fstat"),
    *("getdent", "hdd", "io", "iomix", "lease", "link", "locka", "lockf", "lockofd", "mmap"),
    *("mmapfork", "msync", "open", "readahead", "rename", "seek", "sendfile", "splice", "symlink"),
    *("sync-file", "touch", "utime", "xattr"),
)


def dbench(place: Path, length: Length, seed: int) -> Verdict:
    """What a file server's clients do, two at a time."""
    seconds = length.pick(sample=2, full=10, long=300)
    command = ["dbench", "-D", str(place), "-t", str(seconds), "2"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    outcome = frozenset({"2 clients"})
    said = ended.stdout + ended.stderr
    if ended.returncode == 0 and "Throughput" in said:
        return Verdict(passed=outcome, failed=frozenset(), said=said)
    return Verdict(passed=frozenset(), failed=outcome, said=said)


ALL: dict[str, Suite] = {
    "pjdfstest": pjdfstest,
    "fsx": fsx,
    "cpython": cpython,
    "stress-ng": stress_ng,
    "dbench": dbench,
}


_NO_LINK_MAX = "pyfuse3 has no way to say what LINK_MAX is"
_NO_TRUSTED = "attributes that are root's alone (trusted.*) are not kept"
SKIPPED = {
    "link::link_count_max": _NO_LINK_MAX,
    "test.test_shutil.TestCopy.test_copy2_xattr": _NO_TRUSTED,
    "test.test_shutil.TestCopy.test_copyxattr": _NO_TRUSTED,
    "test.test_shutil.TestCopy.test_copyxattr_symlinks": _NO_TRUSTED,
}
"""Cases that find here what they can't run with, and why that is so."""


def _said(command: Iterable[str | Path], environ: dict[str, str] | None = None) -> str:
    """All that it printed, whatever its exit code: that says no more than its cases do."""
    ended = subprocess.run(
        [str(each) for each in command],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return ended.stdout


def _named(cases: Iterator[ET.Element]) -> frozenset[str]:
    names = (f"{case.get('classname', '')}.{case.get('name', '')}" for case in cases)
    return frozenset(name.removeprefix(".") for name in names)
