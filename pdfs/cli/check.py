"""`pdfs check`: is what is in the bucket what was published, and putting it right."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import click
import trio

from pdfs.cli.bucket import check_bucket, has_stage, no_such, opened_stage
from pdfs.cli.options import DEFAULT_STAGE, json_option, with_configuration
from pdfs.cli.output import print_json
from pdfs.cli.repairing import bring_back, repair
from pdfs.cli.sessions import LocalSession, sessions_of
from pdfs.cli.words import printable
from pdfs.config import Configuration
from pdfs.core.check import findings, is_whole
from pdfs.core.finding import Finding, Level, waiting
from pdfs.core.foundation import lost_with
from pdfs.core.ids import Path
from pdfs.core.keys import StageKeys, check_name
from pdfs.core.look import Look
from pdfs.core.moments import local_moment
from pdfs.errors import ConflictsMade, DamageFound, PdfsError, UsageError
from pdfs.stage.check import look_at

_ROUNDS = 4
"""Repairs after one another: what one has put right can bring more to light."""


@click.command(
    "check",
    epilog="\b\nExamples:\n  pdfs check Kraftwerk_1234567\n"
    "  pdfs check Kraftwerk_1234567/planning --read --repair\n",
)
@click.argument("place", metavar="PROJECT[/STAGE]")
@click.option("--read", "reads", is_flag=True, help="Read every byte, and compare its digest.")
@click.option("--repair", "repairs", is_flag=True, help="Lock the stage, and put it right.")
@click.option(
    "--take-over", is_flag=True, help="With --repair: take the stage from whoever has it."
)
@json_option
@with_configuration
def check_command(
    configuration: Configuration,
    place: str,
    reads: bool,
    repairs: bool,
    take_over: bool,
    as_json: bool,
) -> None:
    """Check a stage in the bucket: name every deviation from what was published.

    Looks at root, trees, plan, plain objects and leftovers, and without --read believes what the
    store says of their sizes and ETags. Changes nothing and needs no lock, unless it repairs.
    Ends with 11 where there is damage. What other tools changed, work that waits, and leftovers
    are named, too, and are no damage.
    """
    if take_over and not repairs:
        raise UsageError("--take-over is for a repair", remedy="a check needs no lock")
    keys = _keys_of(place)
    check_bucket(configuration, keys.project)
    checking = _Checking(configuration, keys, reads)
    checking.look()
    if repairs:
        checking.repair_all(take_over=take_over)
    _show(keys, checking.found, checking.repaired, as_json)
    checking.raise_what_is_left()


@dataclass(slots=True)
class _Checking:
    """One run of the command: what was found, and what was done about it."""

    configuration: Configuration
    keys: StageKeys
    reads: bool
    found: list[Finding] = field(default_factory=list)
    repaired: list[Finding] = field(default_factory=list)
    _copies: list[Path] = field(default_factory=list)
    _lost: str = ""
    """What could not be brought back with an older generation."""
    _stopped: PdfsError | None = None
    """Why the repair went no further."""
    _is_restorable: bool = False

    def look(self) -> None:
        """Look at the stage anew."""
        crashed = [each for each in sessions_of(self.configuration, self.keys) if not each.is_held]
        look = trio.run(_look, self.configuration, self.keys, self.reads, crashed)
        self._is_restorable = look.past is not None
        ids = {each.session for each in crashed}
        told = [each for each in findings(look) if each.kind != "session" or each.path not in ids]
        self.found = [*told, *map(_crashed, crashed)]

    def repair_all(self, *, take_over: bool) -> None:
        """Repair until that changes nothing, or can't be done."""
        for _ in range(_ROUNDS):
            before = self.found
            if not any(each.is_repairable for each in before):
                return
            try:
                self._repair(take_over=take_over)
            except PdfsError as error:
                self._stopped = error
                return
            self.look()
            self.repaired += [each for each in before if each not in self.found]
            if before == self.found:
                return

    def _repair(self, *, take_over: bool) -> None:
        if not self._is_restorable:
            self._copies += repair(
                self.configuration, self.keys, reads=self.reads, take_over=take_over
            )
            return
        past = bring_back(self.configuration, self.keys, take_over=take_over)
        if past is not None and not past.is_whole:
            self._lost = f"generation {past.generation} was brought back: {lost_with(past)}"

    def raise_what_is_left(self) -> None:
        """Raise what the command ends with, if anything."""
        name = f"{self.keys.project}/{self.keys.stage}"
        if self._stopped is not None:
            raise self._stopped
        if self._lost:
            raise DamageFound(f"{name}: {self._lost}", remedy="what is repaired is named above")
        if not is_whole(self.found):
            raise DamageFound(
                f"{name} is damaged: {_counted(self.found, Level.DAMAGE)}",
                remedy="what to do stands with each",
            )
        if self._copies:
            raise ConflictsMade(
                f"conflict copies were made: {', '.join(self._copies)}",
                remedy="compare each with the file beside it",
            )


def _keys_of(place: str) -> StageKeys:
    project, _, rest = place.strip("/").partition("/")
    stage, _, more = rest.partition("/")
    if more:
        raise UsageError(f"{place!r} is no PROJECT[/STAGE]")
    return StageKeys(check_name("project", project), stage or DEFAULT_STAGE)


async def _look(
    configuration: Configuration, keys: StageKeys, reads: bool, crashed: Sequence[LocalSession]
) -> Look:
    async with opened_stage(configuration, keys) as ctx:
        look = await look_at(ctx, reads=reads, crashed={each.session for each in crashed})
        if look.root is None and not look.broken_root and not await has_stage(ctx):
            raise await no_such(ctx)
        return look


def _crashed(session: LocalSession) -> Finding:
    """Of a session that was cut short on this machine."""
    what, means = f"a session of {session.user}", "what it has not published waits here"
    remedy = f"pdfs recover list shows it, pdfs recover resume {session.short} publishes it"
    if session.reading:
        what, means = f"an import by {session.user}", "it has not read all of its directory"
        remedy = "pdfs status says how to begin anew"
    what += f" was cut short here, {local_moment(session.changed)}"
    return waiting("crashed", session.session, what, means, remedy)


def _show(
    keys: StageKeys, found: Sequence[Finding], repaired: Sequence[Finding], as_json: bool
) -> None:
    if as_json:
        print_json(
            {
                "project": keys.project,
                "stage": keys.stage,
                "findings": [asdict(each) for each in found],
                "repaired": [asdict(each) for each in repaired],
            }
        )
        return
    for each in repaired:
        click.echo(printable(f"repaired: {each.path}: {each.what}"))
    for each in found:
        click.echo(_line(each))
    name = f"{keys.project}/{keys.stage}"
    others = [_counted(found, level) for level in Level if level is not Level.DAMAGE]
    also = [words for words in others if words]
    if is_whole(found):
        click.echo(f"{name}: no damage" + (f"; {', '.join(also)}" if also else ""))


def _line(each: Finding) -> str:
    return printable(f"{each.level}: {each.path}: {each.what}; {each.means}; {each.remedy}")


_COUNTED = {
    Level.DAMAGE: ("damaged place", "damaged places"),
    Level.FOREIGN: ("change of another tool", "changes of other tools"),
    Level.WAITING: ("piece of unfinished work", "pieces of unfinished work"),
    Level.LEFTOVER: ("leftover", "leftovers"),
}


def _counted(found: Sequence[Finding], level: Level) -> str:
    number = sum(each.level is level for each in found)
    one, more = _COUNTED[level]
    return f"{number} {one if number == 1 else more}" if number else ""
