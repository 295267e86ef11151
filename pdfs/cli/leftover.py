"""What a crash left of a stage on this machine, and what the next mount does with it."""

import time

import click

from pdfs.cli.crashed import Left, last_words, look_at
from pdfs.cli.discarding import discard_session
from pdfs.cli.incomplete import tell_incomplete
from pdfs.cli.options import is_interactive
from pdfs.cli.sessions import LocalSession
from pdfs.cli.words import printable
from pdfs.config import Configuration
from pdfs.core.amounts import amount, count
from pdfs.core.ids import SessionId
from pdfs.core.moments import span
from pdfs.errors import Stopped, UnpublishedWork


def choose(
    configuration: Configuration,
    found: list[LocalSession],
    *,
    yes: bool,
    resume: bool,
    discard: bool,
) -> SessionId | None:
    """The session to go on with, of these, the newest first; None after all were discarded.

    On a terminal each is shown and asked about, until one is to be resumed; who answers nothing
    leaves it as it is. Raises UnpublishedWork for an import that was cut short: it is no user's
    work.
    """
    for number, each in enumerate(found):
        if not discard and (resume or not _wants_discard(configuration, each, yes=yes)):
            for other in found[number + 1 :]:
                click.echo(
                    f"an older session waits, too: pdfs recover show {other.short}", err=True
                )
            return each.session
        tell_incomplete(discard_session(configuration, each))
        click.echo(f"discarded; pdfs recover undo {each.short} brings it back", err=True)
    return None


def _wants_discard(configuration: Configuration, crashed: LocalSession, *, yes: bool) -> bool:
    """Whether the user says so; without a terminal, or with --yes, what was done is kept."""
    if crashed.reading:
        raise UnpublishedWork(
            f"an import of {crashed.name} was cut short here before it had read all of "
            f"{crashed.reading}, so it is only a part; nothing of it is published",
            remedy="import anew: pdfs import; or mount with --discard, or, to go on with that "
            "part, with --resume",
        )
    left = look_at(configuration, crashed)
    if not (left.edits or left.files or left.damage or left.torn):
        return False  # a mount that was stopped before anybody worked is no question
    _tell(crashed, left)
    if yes or not is_interactive():
        click.echo("it is resumed (--discard would put it into the trash)", err=True)
        return False
    return _asked(crashed) == "discard"


def _asked(crashed: LocalSession) -> str:
    try:
        answer: str = click.prompt(
            "Resume it, or discard it?",
            type=click.Choice(["resume", "discard"]),
            default="resume",
            err=True,
        )
    except click.Abort:
        click.echo(err=True)  # the cursor stands behind the question
        raise Stopped(
            f"not answered, and not mounted: session {crashed.short} stays as it is",
            remedy=f"pdfs recover show {crashed.short} shows what is in it",
        ) from None
    return answer


def _tell(crashed: LocalSession, left: Left) -> None:
    age = span(time.time() - crashed.changed)
    ended = "was cut short" if crashed.why else "crashed"
    click.echo(
        f"a session of {crashed.name} {ended} here {age} ago with "
        f"{amount(left.files, left.bytes)} unpublished, {count(left.edits, 'operation')}",
        err=True,
    )
    if left.last is not None:
        click.echo(f"last operation: {last_words(left)}", err=True)
    if crashed.why:
        click.echo(printable(f"cut short: {crashed.why}"), err=True)
    if left.torn:
        click.echo(f"torn: {left.torn}", err=True)
    if left.damage:
        click.echo(f"its journal is damaged: {left.damage}", err=True)
