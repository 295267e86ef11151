"""What a crash left of a stage on this machine, and what the next mount does with it."""

import time

import click

from pdfs.cli.crashed import Left, look_at
from pdfs.cli.discarding import discard_session
from pdfs.cli.incomplete import tell_incomplete
from pdfs.cli.options import is_interactive
from pdfs.cli.sessions import LocalSession
from pdfs.cli.words import amount, span
from pdfs.config import Configuration
from pdfs.core.ids import SessionId
from pdfs.errors import UnpublishedWork


def choose(
    configuration: Configuration,
    found: list[LocalSession],
    *,
    yes: bool,
    resume: bool,
    discard: bool,
) -> SessionId | None:
    """The session to go on with, of these, the newest first; None after all were discarded.

    Raises UnpublishedWork for an import that was cut short: it is no user's work.
    """
    is_question = not resume and not found[0].reading
    if discard or (is_question and _wants_discard(configuration, found[0], yes=yes)):
        for each in found:
            tell_incomplete(discard_session(configuration, each))
            click.echo(f"discarded; pdfs recover undo {each.short} brings it back", err=True)
        return None
    if found[0].reading and not resume:
        raise UnpublishedWork(
            f"an import of {found[0].name} was cut short here before it had read all of "
            f"{found[0].reading}, so it is only a part; nothing of it is published",
            remedy="import anew: pdfs import; or mount with --discard, or, to go on with that "
            "part, with --resume",
        )
    for other in found[1:]:
        click.echo(f"an older session waits, too: pdfs recover show {other.short}", err=True)
    return found[0].session


def _wants_discard(configuration: Configuration, crashed: LocalSession, *, yes: bool) -> bool:
    """Whether the user says so; without a terminal, or with --yes, what was done is kept."""
    _tell(crashed, look_at(configuration, crashed))
    if yes or not is_interactive():
        click.echo("it is resumed (--discard would put it into the trash)", err=True)
        return False
    answer: str = click.prompt(
        "Resume it, or discard it?",
        type=click.Choice(["resume", "discard"]),
        default="resume",
        err=True,
    )
    return answer == "discard"


def _tell(crashed: LocalSession, found: Left) -> None:
    age = span(time.time() - crashed.changed)
    click.echo(
        f"a session of {crashed.name} crashed here {age} ago with "
        f"{amount(found.files, found.bytes)} unpublished",
        err=True,
    )
    if found.damage:
        click.echo(f"its journal is damaged: {found.damage}", err=True)
