"""What several commands have in common: options, and the configuration that they make."""

import functools
import os
import re
import shlex
import sys
from collections.abc import Callable
from typing import Any

import click

from pdfs.config import Configuration, configure
from pdfs.core.keys import StageKeys
from pdfs.disk import read_path
from pdfs.errors import Stopped, UsageError

Command = Callable[..., Any]

DEFAULT_STAGE = "planning"
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smh]?)", re.ASCII)
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class _Duration(click.ParamType[float]):
    """Seconds, or a number with `s`, `m` or `h`; the value is in seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found = _DURATION.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no duration: write seconds, or 90s, 15m, 1h", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


DURATION = _Duration()


def with_configuration(command: Command) -> Command:
    """Add `--bucket` and `--debug`, and hand the command its `configuration` instead."""

    @click.option("--bucket", metavar="URL", help="Where the projects are: s3://… or file:///….")
    @click.option("--debug", is_flag=True, help="Show where in the program an error arose.")
    @functools.wraps(command)
    def run(bucket: str | None, debug: bool, **given: Any) -> Any:
        ctx = click.get_current_context()
        return command(configuration=configuration_of(ctx, bucket), **given)

    return run


def configuration_of(ctx: click.Context, bucket: str | None = None) -> Configuration:
    """The configuration, with what stands in front of the command counted in."""
    before = ctx.find_root().params.get("bucket")
    return configure(os.environ, {"bucket": bucket or before}, read_path)


def stage_option(command: Command) -> Command:
    """Add `--stage`."""
    return click.option(
        "--stage", default=DEFAULT_STAGE, show_default=True, help="Which stage of the project."
    )(command)


def json_option(command: Command) -> Command:
    """Add `--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def yes_option(command: Command) -> Command:
    """Add `--yes`."""
    return click.option("--yes", is_flag=True, help="Ask nothing; the answer is yes.")(command)


def keys_of(project: str, stage: str) -> StageKeys:
    """The keys of a stage. Raises UsageError for names that can't be."""
    name = project.rstrip("/")
    before, _, inside = name.partition("/")
    if before and inside and "/" not in inside:
        raise UsageError(
            f"{name!r} can't be the name of a project: it contains '/'",
            remedy=f"for a stage of a project: {shlex.join([before, '--stage', inside])}",
        )
    return StageKeys(name, stage)


def bucket_words(url: str, *, is_default: bool) -> str:
    """A bucket as people read it."""
    if is_default or url.startswith("file:"):
        return f"{url} (only on this machine)"
    return url


def is_interactive() -> bool:
    """Whether somebody sits there who can answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str) -> None:
    """Ask on the terminal. Raises Stopped for a no, which is the default."""
    if not click.confirm(question, default=False, err=True):
        raise Stopped("as you answered, nothing was changed")
