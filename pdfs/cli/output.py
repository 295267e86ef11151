"""`--json`: one document on stdout, for programs."""

import json
from collections.abc import Mapping
from typing import Final

import click

SCHEMA: Final = 1


def print_json(fields: Mapping[str, object]) -> None:
    """Print `fields` with the schema in front."""
    click.echo(json.dumps({"schema": SCHEMA, **fields}, indent=2, default=str))
