"""The shape of the code: what may import what, and who may touch the machine.

import-linter's contracts stand in pyproject.toml, the rules that it can't express here. A rule that
never fails holds nothing, so each one is also tried on a copy of the source with a violation in it.
"""

import ast
import itertools
import re
import shutil
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pdfs import errors

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "pdfs").rglob("*.py"))
TOOLS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
CONTRACTS = {contract["id"]: contract for contract in TOOLS["importlinter"]["contracts"]}

LAYERS = [
    [module.strip(" ()") for module in layer.split("|")] for layer in CONTRACTS["layers"]["layers"]
]

MEANINGLESS = re.compile(r"utils?|commons?|helpers?|managers?|misc|base")
SUPPRESSION = re.compile(r"#\s*(?:noqa|type:\s*ignore|pragma|fmt:|ruff:|mypy:)", re.IGNORECASE)
WITH_REASON = re.compile(r"#\s*(?:noqa: ?[A-Z0-9, ]+|type: ignore\[[a-z, -]+\])\s*[#-]\s*\S+ \S+")

CHANGES_FILES = re.compile(
    r"""open | io\.(open|FileIO) | mmap | pathlib\.Path | shutil | tempfile | os\.(
        chmod|chown|copy_file_range|fchmod|fchown|fdatasync|fdopen|fsync|ftruncate|lchown|link|
        makedirs|mkdir|mkfifo|mknod|open|posix_fallocate|pwrite|pwritev|remove|removedirs|
        removexattr|rename|renames|replace|rmdir|sendfile|setxattr|splice|symlink|sync|truncate|
        unlink|utime|write|writev
    )""",
    re.VERBOSE,
)
"""Calls that only `pdfs.disk` makes. `PurePath` names a file; nothing but a `Disk` acts on one."""

IMPURE = re.compile(
    r"""open | print | input | gzip\.open | sys\.(argv|stderr|stdin|stdout) | urllib\.request |
        datetime\.date\.today | datetime\.datetime\.(now|today|utcnow) | uuid\.(getnode|uuid1|uuid4)
    """,
    re.VERBOSE,
)
"""What otherwise pure modules have of clock, randomness and I/O."""


def names_used(source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of whatever is imported, or reached through an import, or built in."""
    tree = ast.parse(source)
    full_names = {"open": "open", "print": "print", "input": "input"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name if alias.asname else alias.name.partition(".")[0]
                full_names[alias.asname or top] = top
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full_names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield node.lineno, f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            if first in full_names:
                yield node.lineno, ".".join(filter(None, [full_names[first], rest]))


def uses(source: str, banned: re.Pattern[str]) -> list[str]:
    """Each use of a banned name, or of something below it, as `line 3: os.fsync`."""
    found = {
        f"line {line}: {name}"
        for line, name in names_used(source)
        if re.fullmatch(f"({banned.pattern})(\\..*)?", name, banned.flags)
    }
    return sorted(found)


def lint_imports(project: Path) -> str:
    """What import-linter says of the project there; begins with `OK` if every contract is kept."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache", "--no-logo"], cwd=project, capture_output=True, text=True
    )
    return ("OK\n" if done.returncode == 0 else "BROKEN\n") + done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project's source with an empty package for every layer that it lacks."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "pdfs", tmp_path / "pdfs", ignore=shutil.ignore_patterns("__pycache__"))
    for module in itertools.chain.from_iterable(LAYERS):
        package = tmp_path / "pdfs" / module
        if not package.with_suffix(".py").exists():
            package.mkdir(exist_ok=True)
            (package / "__init__.py").touch()
    return tmp_path


def plant(project: Path, module: str, statement: str) -> None:
    """Put a statement at the end of a module, which is made if there is none."""
    path = project.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    with path.open("a") as file:
        file.write(f"\n{statement}\n")


def test_imports_keep_every_contract() -> None:
    assert lint_imports(ROOT).startswith("OK")


def test_a_copy_without_a_violation_keeps_every_contract(copy: Path) -> None:
    assert lint_imports(copy).startswith("OK")


UPWARD = [
    (low, high) for upper, lower in itertools.pairwise(LAYERS) for high in upper for low in lower
]
SIDEWAYS = [(a, b) for layer in LAYERS for a in layer for b in layer if a != b]


@pytest.mark.parametrize(("importer", "imported"), UPWARD + SIDEWAYS)
def test_a_layer_that_imports_one_above_or_beside_it_is_refused(
    copy: Path, importer: str, imported: str
) -> None:
    plant(copy, f"pdfs.{importer}", f"import pdfs.{imported}")
    verdict = lint_imports(copy)
    assert f"{CONTRACTS['layers']['name']} BROKEN" in verdict
    assert f"pdfs.{importer} is not allowed to import pdfs.{imported}" in verdict


VIOLATIONS = [
    ("layers", "pdfs.newcomer", ""),
    (
        "layers",
        "pdfs.core.newcomer",
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import pdfs.store",
    ),
    ("no-cycles", "pdfs.store.objects", "def late() -> None:\n    import pdfs.store.memory"),
    ("pure-core", "pdfs.core.newcomer", "import trio"),
    ("pure-core", "pdfs.core.newcomer", "from os.path import join"),
    ("pure-core", "pdfs.errors", "import time"),
    ("config-at-the-top", "pdfs.session", "import pdfs.config"),
    ("config-at-the-top", "pdfs.store.newcomer", "import pdfs.config"),
    ("requests-without-bucket", "pdfs.fs", "from pdfs.store import objects"),
    ("requests-without-bucket", "pdfs.fuse", "import pdfs.store.objects"),
    ("pyfuse3-in-fuse", "pdfs.session", "import pyfuse3"),
    ("pyfuse3-in-fuse", "pdfs.fs", "from pyfuse3 import FUSEError"),
    ("s3-in-store", "pdfs.cli", "import boto3"),
    ("s3-in-store", "pdfs.stage.newcomer", "from botocore.exceptions import ClientError"),
    ("s3-in-store", "pdfs.local.newcomer", "import obstore"),
    ("terminal-in-cli", "pdfs.mount", "import rich.progress"),
    ("terminal-in-cli", "pdfs.api", "import click"),
]


@pytest.mark.parametrize(("contract", "module", "statement"), VIOLATIONS)
def test_a_planted_violation_breaks_its_contract(
    copy: Path, contract: str, module: str, statement: str
) -> None:
    plant(copy, module, statement)
    assert f"{CONTRACTS[contract]['name']} BROKEN" in lint_imports(copy)


ALLOWED = [
    ("pdfs.mount", "import pyfuse3\nimport pdfs.config"),
    ("pdfs.cli", "import rich\nimport pdfs.config\nimport pdfs.store"),
    ("pdfs.store.newcomer", "import boto3\nimport obstore"),
]


@pytest.mark.parametrize(("module", "statement"), ALLOWED)
def test_what_a_contract_allows_passes(copy: Path, module: str, statement: str) -> None:
    plant(copy, module, statement)
    assert lint_imports(copy).startswith("OK")


def test_every_contract_has_a_planted_violation() -> None:
    assert {contract for contract, _, _ in VIOLATIONS} == set(CONTRACTS)


def test_every_folder_of_source_is_a_package() -> None:
    """import-linter sees nothing in a folder without `__init__.py`."""
    assert not [path for path in SOURCES if not path.with_name("__init__.py").exists()]


def test_the_package_itself_imports_nothing() -> None:
    """Else whoever asks for the version imports everything, and no contract sees it."""
    assert not list(names_used((ROOT / "pdfs" / "__init__.py").read_text()))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_disk_changes_files(path: Path) -> None:
    if path != ROOT / "pdfs" / "disk.py":
        assert not uses(path.read_text(), CHANGES_FILES)


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if (ROOT / "pdfs" / "core") in path.parents],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_core_reads_no_clock_draws_no_number_and_prints_nothing(path: Path) -> None:
    assert not uses(path.read_text(), IMPURE)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("import os\nos.fsync(3)", ["line 2: os.fsync"]),
        ("import os as o\nsync = o.fsync", ["line 2: os.fsync"]),
        ("from os import replace as swap", ["line 1: os.replace"]),
        ("import os.path\nos.unlink('a')", ["line 2: os.unlink"]),
        ("open('a')", ["line 1: open"]),
        ("import shutil", ["line 1: shutil"]),
        ("from pathlib import Path", ["line 1: pathlib.Path"]),
        ("def f(path): pass\nimport os\nos.getpid()\nfile.open()", []),
        ("from dataclasses import replace\nreplace(a, b=1)", []),
    ],
)
def test_a_call_that_changes_files_is_found_however_it_is_written(
    statement: str, found: list[str]
) -> None:
    assert uses(statement, CHANGES_FILES) == found


@pytest.mark.parametrize(
    "statement",
    [
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.utcnow()",
        "from uuid import uuid4",
        "print()",
        "from urllib.request import urlopen",
    ],
)
def test_an_impure_call_is_found(statement: str) -> None:
    assert uses(statement, IMPURE)


def test_modules_are_named_for_what_they_hold() -> None:
    named = [path.relative_to(ROOT).with_suffix("") for path in SOURCES]
    assert not [path for path in named if any(map(MEANINGLESS.fullmatch, path.parts))]


def suppressions_without_reason(path: Path) -> list[str]:
    with tokenize.open(path) as file:
        comments = [
            t for t in tokenize.generate_tokens(file.readline) if t.type == tokenize.COMMENT
        ]
    return [
        f"{path}:{comment.start[0]} {comment.string}"
        for comment in comments
        if SUPPRESSION.search(comment.string) and not WITH_REASON.search(comment.string)
    ]


def test_every_suppression_says_why() -> None:
    """`# type: ignore[code]  # the reason`, `# noqa: CODE - the reason`."""
    files = SOURCES + sorted((ROOT / "tests").rglob("*.py"))
    assert not [each for path in files for each in suppressions_without_reason(path)]


@pytest.mark.parametrize(
    ("comment", "passes"),
    [
        ("# noqa: BLE001 - a handler never takes the mount down", True),
        ("# type: ignore[attr-defined]  # the stubs lack it", True),
        ("# noqa", False),
        ("# noqa: BLE001", False),
        ("# type: ignore[attr-defined]", False),
    ],
)
def test_a_bare_suppression_is_found(tmp_path: Path, comment: str, passes: bool) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"x = 1  {comment}\n")
    assert (suppressions_without_reason(path) == []) is passes


def errors_defined(path: Path) -> set[str]:
    """The classes of a module that are errors of the one tree, by the names of their bases."""
    tree = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).rpartition(".")[2] in tree for base in node.bases)
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_error_stands_in_the_one_tree(path: Path) -> None:
    if path != ROOT / "pdfs" / "errors.py":
        assert not errors_defined(path)


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = set(re.findall(r"^    [│├└─ ]*([A-Z][A-Za-z]+)", str(errors.__doc__), re.MULTILINE))
    assert drawn == errors_defined(ROOT / "pdfs" / "errors.py") | {"PdfsError"}
