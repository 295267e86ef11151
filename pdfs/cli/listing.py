"""`pdfs ls`: projects, stages and files of the bucket, without a mount."""

import os
import shlex
import stat
from collections.abc import Iterable
from dataclasses import dataclass

import click
import trio

from pdfs.cli.bucket import (
    check_bucket,
    has_keys,
    has_stage,
    names_below,
    no_project,
    no_such,
    opened_stage,
)
from pdfs.cli.former import has_bucket, tell_former_bucket
from pdfs.cli.options import json_option, with_configuration
from pdfs.cli.output import print_json
from pdfs.cli.words import printable
from pdfs.config import Configuration
from pdfs.core.entries import Entry
from pdfs.core.ids import Path
from pdfs.core.keys import StageKeys, check_name, parent, why_no_file
from pdfs.core.lease import LockState
from pdfs.core.moments import local_moment
from pdfs.core.record import Kind
from pdfs.errors import NotFoundError, PdfsError, UsageError
from pdfs.stage.context import StageContext
from pdfs.stage.load import read_generation
from pdfs.stage.lock import read_lock
from pdfs.stage.root import find_root

_ANY = StageKeys("any", "any")
_INTERNAL = ".pdfs"
_TYPES = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One file or directory."""

    path: str
    kind: Kind
    size: int
    mode: int
    mtime: int
    inode: int = 0
    """Names of one file share it; 0 where PDFS has not published the stage yet."""
    target: str = ""


@click.command(
    "ls",
    epilog="\b\nExamples:\n  pdfs ls\n  pdfs ls Kraftwerk_1234567\n"
    "  pdfs ls Kraftwerk_1234567/planning/drawings --json\n",
)
@click.argument("place", required=False, metavar="[PROJECT[/STAGE[/PATH]]]")
@click.option("-R", "--recursive", is_flag=True, help="Also what is in the directories.")
@json_option
@with_configuration
def ls_command(
    configuration: Configuration, place: str | None, recursive: bool, as_json: bool
) -> None:
    """List projects, the stages of a project, or the files of a stage, as last published."""
    project, _, rest = (place or "").strip("/").partition("/")
    stage, _, path = rest.partition("/")
    if project:
        check_bucket(configuration, check_name("project", project))
    if not project:
        _show_names("projects", trio.run(_projects, configuration), as_json)
    elif not stage:
        _show_stages(trio.run(_stages, configuration, check_name("project", project)), as_json)
    else:
        keys = StageKeys(project, stage)
        rows = trio.run(_files, configuration, keys, Path(path.strip("/")), recursive)
        _show_rows(rows, as_json)


# --- looking ----------------------------------------------------------------------------------


async def _projects(configuration: Configuration) -> list[str]:
    if not has_bucket(configuration):
        tell_former_bucket(configuration)
        return []
    async with opened_stage(configuration, _ANY) as ctx:
        return [name for name in await names_below(ctx, "") if _is_name("project", name)]


def _is_name(what: str, name: str) -> bool:
    try:
        check_name(what, name)
    except UsageError:
        return False
    return True


async def _stages(configuration: Configuration, project: str) -> list[dict[str, object]]:
    async with opened_stage(configuration, StageKeys(project, "any")) as ctx:
        plain = await names_below(ctx, f"{project}/")
        internal = await names_below(ctx, f"{project}/{_INTERNAL}/")
        names = sorted(name for name in {*plain, *internal} if _is_name("stage", name))
        if not names and not await has_keys(ctx, f"{project}/"):
            raise no_project(ctx)
    return [await _stage(configuration, StageKeys(project, name)) for name in names]


async def _stage(configuration: Configuration, keys: StageKeys) -> dict[str, object]:
    async with opened_stage(configuration, keys) as ctx:
        try:
            root, seen = await find_root(ctx), await read_lock(ctx)
        except PdfsError as error:
            return {"stage": keys.stage, "generation": None, "locked": None, "problem": str(error)}
    lock = None if seen is None else seen.lock
    is_locked = lock is not None and lock.state is not LockState.RELEASED
    return {
        "stage": keys.stage,
        "generation": 0 if root is None else root.root.generation,
        "locked": f"{lock.user} on {lock.machine}" if lock is not None and is_locked else None,
        "problem": "" if seen is None or seen.fault is None else str(seen.fault),
    }


async def _files(
    configuration: Configuration, keys: StageKeys, path: Path, recursive: bool
) -> list[_Row]:
    async with opened_stage(configuration, keys) as ctx:
        rows = await _published(ctx)
        if rows is None:
            rows = await _listed(ctx)
        if not rows and not await has_stage(ctx):
            raise await no_such(ctx)
    chosen = [row for row in rows if _is_in(row.path, path, recursive)]
    if path and not any(row.path == path or row.path.startswith(f"{path}/") for row in rows):
        stage = f"{keys.project}/{keys.stage}"
        raise NotFoundError(
            f"there is no {path!r} in {stage}",
            remedy=f"{shlex.join(['pdfs', 'ls', '-R', stage])} lists all that is published",
        )
    return chosen or [row for row in rows if row.path == path and row.kind is not Kind.DIRECTORY]


def _is_in(name: str, path: Path, recursive: bool) -> bool:
    below = f"{path}/" if path else ""
    return name.startswith(below) and (recursive or "/" not in name.removeprefix(below))


async def _published(ctx: StageContext) -> list[_Row] | None:
    """The files of the current generation; None where PDFS has published none."""
    seen = await find_root(ctx)
    if seen is None or seen.root.tree is None:
        return None
    manifest = await read_generation(ctx, seen.root)
    return sorted(map(_row, manifest.entries), key=lambda row: row.path)


def _row(entry: Entry) -> _Row:
    return _Row(
        path=entry.path,
        kind=entry.kind,
        size=len(os.fsencode(entry.target)) if entry.content is None else entry.content.size,
        mode=entry.mode,
        mtime=entry.mtime,
        inode=entry.ino,
        target=entry.target,
    )


async def _listed(ctx: StageContext) -> list[_Row]:
    """The plain objects, with the directories that their keys imply."""

    async def look() -> dict[str, _Row]:
        rows: dict[str, _Row] = {}
        async for page in ctx.store.list(ctx.keys.plain_prefix):
            for listed in page:
                path = ctx.keys.path_of(listed.key)
                if why_no_file(path) is None:
                    mtime = round(listed.last_modified * 1e9)
                    rows[path] = _Row(
                        path=path, kind=Kind.FILE, size=listed.size, mode=0o644, mtime=mtime
                    )
        return rows

    rows = await ctx.patience.ask(look)
    for path in list(rows):
        above = parent(Path(path))
        while above and above not in rows:
            rows[above] = _Row(path=above, kind=Kind.DIRECTORY, size=0, mode=0o755, mtime=0)
            above = parent(above)
    return [rows[path] for path in sorted(rows)]


# --- showing ----------------------------------------------------------------------------------


def _show_names(what: str, names: list[str], as_json: bool) -> None:
    if as_json:
        print_json({what: names})
    elif names:
        click.echo("\n".join(map(printable, names)))
    else:
        click.echo(f"there are no {what} yet; pdfs import DIRECTORY PROJECT makes one", err=True)


def _show_stages(stages: list[dict[str, object]], as_json: bool) -> None:
    if as_json:
        print_json({"stages": stages})
        return
    for stage in stages:
        locked = f"  locked by {stage['locked']}" if stage["locked"] else ""
        problem = f"  {stage['problem']}" if stage["problem"] else ""
        number = stage["generation"]
        generation = "  can't be read:" if number is None else f"  generation {number}"
        said = f"{stage['stage']}{generation}{locked}{problem}"
        click.echo(printable(said))


def _show_rows(rows: Iterable[_Row], as_json: bool) -> None:
    if as_json:
        print_json({"entries": [_out(row) for row in rows]})
        return
    for row in rows:
        mode = stat.filemode(_TYPES[row.kind] | row.mode)
        link = f" -> {row.target}" if row.target else ""
        said = f"{mode} {row.size:>12} {local_moment(row.mtime / 1e9)} {row.path}{link}"
        click.echo(printable(said))


def _out(row: _Row) -> dict[str, object]:
    out: dict[str, object] = {
        "path": row.path,
        "kind": row.kind,
        "size": row.size,
        "mode": f"{row.mode:04o}",
        "mtime_ns": row.mtime,
        "inode": row.inode,
    }
    return {**out, "target": row.target} if row.target else out
