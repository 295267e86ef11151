"""What the documentation says is so: commands, options, settings, exit codes, names of tests."""

import ast
import dataclasses
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pdfs import config, errors
from pdfs.cli.app import pdfs
from pdfs.core import notes
from pdfs.local.session_log_format import LogHeader

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
UNIT = ROOT / "systemd" / "pdfs@.service"


def commands(group: click.Group, above: str = "pdfs") -> Iterator[tuple[str, click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{above} {name}")
        else:
            yield f"{above} {name}", command


def test_each_command_and_option_is_described_and_no_other() -> None:
    text = (DOCS / "reference" / "cli.md").read_text()
    sections = dict(re.findall(r"^## (pdfs .*)\n((?:(?!^## ).*\n)*)", text, re.MULTILINE))
    assert sections.keys() == {name for name, _ in commands(pdfs)}
    for name, command in commands(pdfs):
        options = {opt for p in command.params if isinstance(p, click.Option) for opt in p.opts}
        described = set(re.findall(r"^\| `.*?(--[a-z-]+)", sections[name], re.MULTILINE))
        common = {"--bucket", "--debug"}
        assert described == {opt for opt in options if opt.startswith("--")} - common, name


def test_each_setting_is_described_and_no_other() -> None:
    text = (DOCS / "reference" / "configuration.md").read_text()
    described = set(re.findall(r"^\| `([a-z_]+)` \| `PDFS_", text, re.MULTILINE))
    assert described == set(config.KEYS)


def test_each_event_of_a_log_is_described_with_its_fields_and_no_other() -> None:
    text = (DOCS / "reference" / "session-log.md").read_text()
    rows = re.findall(r"^\| `([a-z_]+)` \| (.*?) \|", text, re.MULTILINE)
    described = {event: set(re.findall(r"`([a-z_]+)`", said)) for event, said in rows}
    told: dict[str, set[str]] = {
        note.event: {field.name for field in dataclasses.fields(note)}
        for note in notes.Note.__args__
    }
    identity = {"schema", *(field.name for field in dataclasses.fields(LogHeader))}
    assert described.pop("begun") == identity
    assert "`cut`" in text
    assert described.pop("ended") == {"records", "lost", "counts", "totals"}
    described.pop("resumed")
    assert described == told


def test_each_exit_code_is_described_and_no_other() -> None:
    text = (DOCS / "reference" / "exit-codes.md").read_text()
    described = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    raised = {kind.exit_code for kind in kinds if issubclass(kind, errors.PdfsError)}
    assert described == raised | {0, 130}


def names_of_tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_each_test_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", page.read_text()))
    assert named <= names_of_tests()


def test_each_claim_on_semantics_names_a_test() -> None:
    text = (DOCS / "reference" / "semantics.md").read_text()
    rows = [row for row in text.splitlines() if row.startswith("| ") and row != "| claim | test |"]
    assert len(rows) > 20
    assert not [row for row in rows if "`test_" not in row.split("|")[2]]


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_no_link_of_a_page_leads_nowhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text())
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", UNIT],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_starts_a_command_that_there_is() -> None:
    """Every option that it gives is one of `pdfs mount`."""
    (line,) = re.findall(
        r"^ExecStart=/usr/bin/env pdfs mount (.*)$", UNIT.read_text(), re.MULTILINE
    )
    mount = dict(commands(pdfs))["pdfs mount"]
    options = {opt for param in mount.params for opt in param.opts}
    assert {word for word in line.split() if word.startswith("-")} <= options
