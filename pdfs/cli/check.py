"""`pdfs check`: is what is in the bucket what was published, and putting it right."""

from collections.abc import Sequence
from dataclasses import asdict

import click
import trio

from pdfs.cli.bucket import check_bucket, has_stage, no_such, opened_stage
from pdfs.cli.options import DEFAULT_STAGE, json_option, with_configuration
from pdfs.cli.output import print_json
from pdfs.cli.repairing import repair
from pdfs.cli.words import printable
from pdfs.config import Configuration
from pdfs.core.check import Finding, Level, findings, is_whole
from pdfs.core.ids import Path
from pdfs.core.keys import StageKeys, check_name
from pdfs.errors import ConflictsMade, DamageFound, UsageError
from pdfs.stage.check import look_at

_ROUNDS = 3
"""Repairs after one another: what one has put right can bring more to light."""


@click.command(
    "check",
    epilog="\b\nExamples:\n  pdfs check Kraftwerk_1234567\n"
    "  pdfs check Kraftwerk_1234567/planning --read --repair\n",
)
@click.argument("place", metavar="PROJECT[/STAGE]")
@click.option("--read", "reads", is_flag=True, help="Read every byte, and compare its digest.")
@click.option("--repair", "repairs", is_flag=True, help="Lock the stage, and put it right.")
@json_option
@with_configuration
def check_command(
    configuration: Configuration, place: str, reads: bool, repairs: bool, as_json: bool
) -> None:
    """Check a stage in the bucket: name every deviation from what was published.

    Looks at root, trees, plan, plain objects and leftovers, and without --read believes what the
    store says of their sizes and ETags. Changes nothing and needs no lock, unless it repairs.
    Ends with 11 where there is damage. What other tools changed, work that waits, and leftovers
    are named, too, and are no damage.
    """
    keys = _keys_of(place)
    check_bucket(configuration, keys.project)
    found = trio.run(_check, configuration, keys, reads)
    repaired: list[Finding] = []
    copies: list[Path] = []
    for _ in range(_ROUNDS if repairs else 0):
        if not any(each.is_repairable for each in found):
            break
        copies += repair(configuration, keys, reads=reads)
        left = trio.run(_check, configuration, keys, reads)
        repaired += [each for each in found if each not in left]
        if left == found:
            break
        found = left
    _show(keys, found, repaired, as_json)
    if not is_whole(found):
        raise DamageFound(
            f"{keys.project}/{keys.stage} is damaged: {_counted(found, Level.DAMAGE)}",
            remedy="what to do stands with each",
        )
    if copies:
        raise ConflictsMade(
            f"conflict copies were made: {', '.join(copies)}",
            remedy="compare each with the file beside it",
        )


def _keys_of(place: str) -> StageKeys:
    project, _, rest = place.strip("/").partition("/")
    stage, _, more = rest.partition("/")
    if more:
        raise UsageError(f"{place!r} is no PROJECT[/STAGE]")
    return StageKeys(check_name("project", project), stage or DEFAULT_STAGE)


async def _check(configuration: Configuration, keys: StageKeys, reads: bool) -> list[Finding]:
    async with opened_stage(configuration, keys) as ctx:
        look = await look_at(ctx, reads=reads)
        if look.root is None and not look.broken_root and not await has_stage(ctx):
            raise await no_such(ctx)
        return findings(look)


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
