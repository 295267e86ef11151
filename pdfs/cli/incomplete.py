"""Naming what a session that was given up lacks."""

from collections.abc import Mapping, Sequence
from typing import Final

import click

from pdfs.cli.sessions import LocalSession
from pdfs.cli.words import printable
from pdfs.core.amounts import count, size
from pdfs.core.ids import Path
from pdfs.errors import DamageFound

_SHOWN: Final = 20

Incomplete = Mapping[Path, Sequence[Sequence[int]]]
"""Files, and the ranges of bytes that they lack."""


def check_complete(done: str, incomplete: Incomplete, session: LocalSession) -> None:
    """Name what could not be made whole. Raises DamageFound if there is any."""
    tell_incomplete(incomplete)
    if incomplete:
        raise DamageFound(
            f"{done}, but {count(len(incomplete), 'changed file')} could not be made whole",
            remedy=f"the rest is kept: pdfs recover undo {session.short}, then pdfs recover rescue",
        )


def tell_incomplete(incomplete: Incomplete) -> None:
    """Name what could not be made whole."""
    for path, ranges in list(incomplete.items())[:_SHOWN]:
        lacks = sum(stop - start for start, stop in ranges)
        said = f"not made whole: {path} lacks {size(lacks)} of its bytes"
        click.echo(printable(said), err=True)
    if len(incomplete) > _SHOWN:
        click.echo(f"not made whole: {len(incomplete) - _SHOWN} more", err=True)
