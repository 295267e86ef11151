"""A stage in the bucket, for commands that need no daemon."""

import shlex
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import cast

import click

from pdfs.cli.former import former_words, has_bucket
from pdfs.cli.progress import silent_line
from pdfs.config import Configuration
from pdfs.core.ids import RunId, SessionId
from pdfs.core.keys import StageKeys
from pdfs.errors import ProjectNotFound
from pdfs.mount.access import new_id, opened_store, prove, stage_context
from pdfs.stage.context import StageContext
from pdfs.stage.together import background
from pdfs.store.objects import Listed
from pdfs.store.silence import Silence


@asynccontextmanager
async def opened_stage(
    configuration: Configuration,
    keys: StageKeys,
    *,
    session: SessionId | None = None,
    changes: bool = False,
    makes: bool = False,
) -> AsyncIterator[StageContext]:
    """The stage's context, with a store that was proved if `changes`; that of a new session
    unless one is given. The default bucket is made if `makes`.
    """
    silence = Silence()
    async with (
        opened_store(configuration, makes=makes) as store,
        background(partial(silence.tell, partial(_tell_silent, store.name))),
    ):
        if changes:
            with silence.asking():
                await prove(configuration, store)
        session, run = session or SessionId(new_id()), RunId(new_id())
        yield stage_context(configuration, store, keys, session, run, silence)


def _tell_silent(bucket: str, trouble: str) -> None:
    click.echo(silent_line({"bucket": bucket, "trouble": trouble}), err=True)


async def has_keys(ctx: StageContext, prefix: str) -> bool:
    """Whether any object's key begins so."""

    async def look() -> bool:
        # Every store's `list` is a generator; one that is left early has to be closed.
        pages = cast("AsyncGenerator[Sequence[Listed], None]", ctx.store.list(prefix))
        async with aclosing(pages):
            async for page in pages:
                if page:
                    return True
        return False

    return await ctx.patience.ask(look)


async def names_below(ctx: StageContext, prefix: str) -> list[str]:
    """The directories right below `prefix`, without their slash."""

    async def look() -> list[str]:
        found: list[str] = []
        async for page in ctx.store.list_directories(prefix):
            found += [name.removeprefix(prefix).rstrip("/") for name in page]
        return sorted(found)

    return await ctx.patience.ask(look)


def check_bucket(configuration: Configuration, project: str) -> None:
    """Raises ProjectNotFound where there is no bucket for the project to be in."""
    if not has_bucket(configuration):
        former = former_words(configuration)
        raise ProjectNotFound(
            f"there is no project {project!r}: {configuration.bucket} has not been made yet",
            remedy=former
            or "pdfs import DIRECTORY PROJECT makes it; --bucket names another bucket",
        )


async def has_stage(ctx: StageContext) -> bool:
    """Whether any key lies in the stage, PDFS's own or another tool's."""
    return await has_keys(ctx, ctx.keys.internal_prefix) or await has_keys(
        ctx, ctx.keys.plain_prefix
    )


async def no_such(ctx: StageContext) -> ProjectNotFound:
    """The project is not there; or it is, and has no such stage."""
    if not await has_keys(ctx, f"{ctx.keys.project}/"):
        return no_project(ctx)
    return ProjectNotFound(
        f"project {ctx.keys.project!r} has no stage {ctx.keys.stage!r} in {ctx.store.name}",
        remedy=f"pdfs ls {shlex.quote(ctx.keys.project)} shows its stages",
    )


def no_project(ctx: StageContext) -> ProjectNotFound:
    """There is no such project."""
    return ProjectNotFound(
        f"there is no project {ctx.keys.project!r} in {ctx.store.name}",
        remedy="pdfs ls shows the projects; --bucket names another bucket",
    )
