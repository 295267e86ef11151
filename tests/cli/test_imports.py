"""A command loads what it needs: nobody waits for an S3 client to read a help page."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from pdfs.cli.app import pdfs
from tests.cli.conftest import Run

S3 = {"boto3", "botocore", "obstore"}
HEAVY = {*S3, "pyfuse3", "rich", "trio", "cachetools"}
SCRIPT = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
from pdfs.cli import main
main()
"""


def modules_of(*arguments: str | Path) -> set[str]:
    """The modules that `pdfs` with these arguments has loaded when it ends well."""
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    return set(json.loads(done.stderr))


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize("arguments", ["--help", "status", "mount --help", "umount --help", ""])
def test_help_and_status_load_neither_fuse_nor_a_store(arguments: str) -> None:
    assert modules_of(*arguments.split()) & HEAVY == set()


@pytest.mark.usefixtures("imported")
def test_a_directory_that_plays_the_bucket_is_listed_without_an_s3_client() -> None:
    assert modules_of("ls", "Plant/planning") & {*S3, "pyfuse3", "rich"} == set()


def test_the_list_of_commands_says_what_the_commands_say_of_themselves(run: Run) -> None:
    ctx = click.Context(pdfs)
    listed = " ".join(run("--help").output.split())
    for name in pdfs.list_commands(ctx):
        command = pdfs.get_command(ctx, name)
        assert command is not None
        assert f" {name} {command.get_short_help_str(limit=200)}" in listed
