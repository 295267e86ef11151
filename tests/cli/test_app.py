"""What every command has in common: help, options, errors."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pdfs import __version__
from pdfs.cli.app import pdfs
from tests.cli.conftest import Run


def commands(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        yield (*above, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))


@pytest.mark.parametrize("path", list(commands(pdfs)), ids=" ".join)
def test_the_help_of_each_command_has_an_example(path: tuple[str, ...], run: Run) -> None:
    said = run(*path, "--help")
    assert said.exit_code == 0
    assert "Example" in said.output
    assert f"  pdfs {' '.join(path)}" in said.output


def test_the_version_is_shown(run: Run) -> None:
    assert run("--version").output == f"pdfs {__version__}\n"


def test_a_wrong_argument_is_one_line_with_exit_code_2(run: Run) -> None:
    said = run("umount")
    assert said.exit_code == 2
    assert said.stderr == "pdfs: Missing argument 'TARGET'; see pdfs umount --help\n"


def test_an_error_is_one_line_with_its_own_exit_code(run: Run) -> None:
    said = run("umount", "/nowhere")
    assert said.exit_code == 3
    assert said.stdout == ""
    assert said.stderr.startswith("pdfs: no session on this machine is called '/nowhere'; ")
    assert said.stderr.count("\n") == 1


def test_debug_shows_where_an_error_arose(run: Run) -> None:
    said = run("--debug", "umount", "/nowhere")
    assert type(said.exception).__name__ == "SessionNotFound"
    assert type(run("umount", "/nowhere", "--debug").exception).__name__ == "SessionNotFound"


def test_an_unforeseen_error_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken\nby a test")

    monkeypatch.setattr(importlib.import_module("pdfs.cli.status"), "local_mounts", fail)
    said = run("status")
    assert said.exit_code == 1
    assert said.stderr.startswith("pdfs: internal error: RuntimeError: broken by a test; ")


def test_options_stand_before_or_after_the_command(run: Run, imported: object) -> None:
    elsewhere = "file:///nowhere/at/all"
    for arguments in (("--bucket", elsewhere, "ls"), ("ls", "--bucket", elsewhere)):
        said = run(*arguments)
        assert said.exit_code == 5
        assert "/nowhere/at/all" in said.stderr
    assert run("ls", "--json", "Plant").output == run("ls", "Plant", "--json").output


def test_pdfs_alone_says_what_to_do_first(run: Run) -> None:
    said = run()
    assert said.exit_code == 0
    assert "(only on this machine)" in said.output
    assert "pdfs mount PROJECT MOUNTPOINT" in said.output


@pytest.mark.parametrize(
    "arguments", ["", "status", "ls", "recover list", "lock show Plant", "ls Plant", "ls Plant/x"]
)
def test_who_only_looks_makes_nothing(
    arguments: str, run: Run, environ: dict[str, str], tmp_path: Path
) -> None:
    said = run(*arguments.split())
    assert said.exit_code == (3 if "Plant" in arguments else 0), said.output
    assert list(tmp_path.iterdir()) == []
