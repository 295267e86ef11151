"""`pdfs lock`: who has a stage, and taking it away from a machine that is gone."""

import json
import os
import time

import click
import trio

from pdfs.cli.bucket import check_bucket, has_stage, no_such, opened_stage
from pdfs.cli.options import (
    confirm,
    is_interactive,
    json_option,
    keys_of,
    stage_option,
    with_configuration,
    yes_option,
)
from pdfs.cli.output import print_json
from pdfs.cli.sessions import state_of
from pdfs.cli.words import unended
from pdfs.config import Configuration
from pdfs.core import lease
from pdfs.core.amounts import amount
from pdfs.core.keys import StageKeys
from pdfs.core.lease import Claimant, Lock, LockState, Unpublished
from pdfs.core.moments import local_moment, span
from pdfs.core.root import SessionEntry
from pdfs.disk import OsDisk, opened, write_fully
from pdfs.errors import LockUnreadable, UsageError
from pdfs.stage.end import end_session
from pdfs.stage.lock import SeenLock, read_lock
from pdfs.stage.root import read_root
from pdfs.stage.start import start

_LOG = "lock-breaks.log"


@click.group("lock", epilog="\b\nExample:\n  pdfs lock show Kraftwerk_1234567\n")
def lock_command() -> None:
    """Look at the lock of a stage, or break it."""


@lock_command.command(
    "show", epilog="\b\nExample:\n  pdfs lock show Kraftwerk_1234567 --stage planning --json\n"
)
@click.argument("project")
@stage_option
@json_option
@with_configuration
def show_command(configuration: Configuration, project: str, stage: str, as_json: bool) -> None:
    """Show who has a stage of PROJECT, since when, and what is unpublished there."""
    keys = keys_of(project, stage)
    seen = trio.run(_look, configuration, keys)
    if seen is not None and seen.fault is not None:
        raise seen.fault
    lock = None if seen is None else seen.lock
    age = 0.0 if seen is None else seen.age
    if as_json:
        print_json(
            {
                "project": keys.project,
                "stage": keys.stage,
                "lock": None if lock is None else json.loads(lease.encode(lock)),
                "age": None if lock is None else age,
            }
        )
        return
    for line in _lines(keys, lock, age):
        click.echo(line)
    for entry in trio.run(_unended, configuration, keys, lock):
        waiting = entry.unpublished
        said = unended(entry.session, entry.user, entry.machine, waiting.files, waiting.bytes)
        click.echo(f"  also         {said}")


async def _look(configuration: Configuration, keys: StageKeys) -> SeenLock | None:
    check_bucket(configuration, keys.project)
    async with opened_stage(configuration, keys) as ctx:
        seen = await read_lock(ctx)
        if seen is None and not await has_stage(ctx):
            raise await no_such(ctx)
        return seen


async def _unended(
    configuration: Configuration, keys: StageKeys, lock: Lock | None
) -> list[SessionEntry]:
    """Sessions that the root lists and the lock doesn't tell of.

    The lock counts what was unpublished when it was renewed last, so a session that was cut off
    before the next renewal is in none.
    """
    async with opened_stage(configuration, keys) as ctx:
        seen = await read_root(ctx)
    is_told = lock is not None and (lock.state is not LockState.RELEASED or bool(lock.pending))
    told = lock.session if lock is not None and is_told else None
    entries = () if seen is None else seen.root.sessions
    return [entry for entry in entries if entry.session != told]


def _lines(keys: StageKeys, lock: Lock | None, age: float) -> list[str]:
    name = f"{keys.project}/{keys.stage}"
    if lock is None or (lock.state is LockState.RELEASED and not lock.pending):
        return [f"{name} is not locked"]
    waiting = amount(lock.pending.files, lock.pending.bytes) if lock.pending else "nothing"
    if lock.state is LockState.RELEASED:
        return [
            f"{name} is not locked, but {lock.user} left {waiting} unpublished on {lock.machine}"
        ]
    expiry = "anybody may take it" if age > lock.lifetime else f"in {span(lock.lifetime - age)}"
    return [
        f"{name} is locked by {lock.user} on {lock.machine}",
        f"  state        {lock.state}",
        f"  since        {local_moment(lock.since)}",
        f"  last seen    {span(age)} ago",
        f"  expires      {expiry}",
        f"  unpublished  {waiting}, as of then",
        f"  session      {lock.session}, fence {lock.fence}, pdfs {lock.pdfs}",
    ]


@lock_command.command(
    "break",
    epilog="\b\nExample:\n  pdfs lock break Kraftwerk_1234567 --reason 'laptop was stolen' --yes\n",
)
@click.argument("project")
@stage_option
@click.option("--reason", default="", metavar="TEXT", help="Why, for the log of this machine.")
@yes_option
@with_configuration
def break_command(
    configuration: Configuration, project: str, stage: str, reason: str, yes: bool
) -> None:
    """Take the lock of a stage of PROJECT away from its owner, and release it.

    The owner can publish nothing any more; what is unpublished there stays on that machine, where
    `pdfs recover rescue` copies it out. Until it is published or discarded there, whoever mounts
    the stage is told whose it is. For a machine that is gone; if it lives, ask its user.
    """
    keys = keys_of(project, stage)
    seen = trio.run(_look, configuration, keys)
    if seen is None or (seen.lock is not None and seen.lock.state is LockState.RELEASED):
        click.echo(f"{keys.project}/{keys.stage} is not locked")
        return
    whose = _whose(keys, seen)
    if not yes and not is_interactive():
        raise UsageError(whose, remedy="to take it away: --yes")
    if not yes:
        confirm(f"{whose}. Take it away?")
    _log(configuration, keys, seen, reason)
    trio.run(_break, configuration, keys)
    click.echo(f"the lock of {keys.project}/{keys.stage} is broken and released")
    if seen.lock is not None and seen.lock.pending:
        waiting = amount(seen.lock.pending.files, seen.lock.pending.bytes)
        click.echo(f"{waiting} of {seen.lock.user} stay unpublished on {seen.lock.machine}")


def _whose(keys: StageKeys, seen: SeenLock) -> str:
    if seen.lock is None:
        assert isinstance(seen.fault, LockUnreadable)
        return seen.fault.what
    lock = seen.lock
    waiting = f", {amount(lock.pending.files, lock.pending.bytes)} unpublished there"
    return (
        f"{keys.project}/{keys.stage} is locked by {lock.user} on {lock.machine}, "
        f"last seen {span(seen.age)} ago{waiting if lock.pending else ''}"
    )


def _log(configuration: Configuration, keys: StageKeys, seen: SeenLock, reason: str) -> None:
    """One line of JSON in the state directory, before anything is done."""
    line = {
        "time": lease.moment(time.time()),
        "project": keys.project,
        "stage": keys.stage,
        "bucket": configuration.bucket,
        "by": configuration.user,
        "from": None if seen.lock is None else [seen.lock.user, seen.lock.machine],
        "reason": reason,
    }
    disk = OsDisk()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with state_of(configuration) as state, opened(disk, state.logs, _LOG, flags) as descriptor:
        write_fully(disk, descriptor, [json.dumps(line).encode() + b"\n"], 0)


async def _break(configuration: Configuration, keys: StageKeys) -> None:
    async with opened_stage(configuration, keys, changes=True) as ctx:
        claimant = Claimant(
            user=ctx.owner.user,
            session=ctx.owner.session,
            run=ctx.owner.run,
            take_over=True,
        )
        started = await start(ctx, claimant)
        await end_session(ctx, started.root)
        former = started.previous
        pending = Unpublished() if former is None else former.pending
        await started.lock.release(pending, former=former)
