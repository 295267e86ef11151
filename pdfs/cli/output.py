"""What several commands print: `--json`, one document on stdout, and lists of paths for people."""

import json
from collections.abc import Iterable, Mapping
from typing import Final

import click

from pdfs.cli.words import printable

SCHEMA: Final = 1
_LISTED: Final = 20


def print_json(fields: Mapping[str, object]) -> None:
    """Print `fields` with the schema in front."""
    click.echo(json.dumps({"schema": SCHEMA, **fields}, indent=2, default=str))


def list_paths(
    title: str,
    paths: Iterable[object],
    total: int | None = None,
    *,
    most: int = _LISTED,
    err: bool = True,
) -> None:
    """A line for each of the first paths; the rest is counted.

    `total` is how many there are, where `paths` are not all.
    """
    found = list(paths)
    shown = found[:most]
    for path in shown:
        click.echo(printable(f"{title}: {path}"), err=err)
    more = (len(found) if total is None else total) - len(shown)
    if more > 0:
        click.echo(f"{title}: {more} more", err=err)
