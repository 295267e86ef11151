"""From a configuration to a stage that can be worked on: store, probe, context."""

import hashlib
import json
import os
import random
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import fields
from pathlib import PurePath
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

import trio
from cachetools import LRUCache

from pdfs import __version__
from pdfs.config import Configuration
from pdfs.core.ids import ObjectName, RunId, SessionId
from pdfs.core.keys import StageKeys
from pdfs.core.lease import Claimant
from pdfs.core.manifest import Manifest
from pdfs.core.plan import Plan
from pdfs.disk import OsDisk, make_below, opened, read_fully, replace_file
from pdfs.errors import DiskError, ProjectNotFound
from pdfs.stage.context import InThread, Owner, Sizes, StageContext
from pdfs.stage.uploads import Uploads
from pdfs.stage.wake import Wake
from pdfs.store.directory import DirectoryStore
from pdfs.store.objects import ObjectStore, Traits
from pdfs.store.open import StoreOptions, open_store
from pdfs.store.probe import probe
from pdfs.store.retry import Patience
from pdfs.store.silence import Silence

if TYPE_CHECKING:
    from pdfs.store.s3 import S3Store

PROBE = 3
"""Raised whenever the probe asks more: what an older one proved is proved anew."""
MOST_ENTRIES = 1_000_000
"""Of all manifests together that are kept in memory; of larger ones, one: 50 bytes for each."""
PROBED_FOR = 7 * 86400.0
"""Seconds for which a probe of a bucket is believed."""


def new_id() -> str:
    """A fresh UUID4 in hex."""
    return uuid.uuid4().hex


@asynccontextmanager
async def opened_store(
    configuration: Configuration, *, makes: bool
) -> "AsyncIterator[S3Store | DirectoryStore]":
    """The configured store, not yet probed; the default bucket is made if `makes`.

    Raises UsageError, StoreError.
    """
    store = await open_store(
        configuration.bucket,
        StoreOptions(
            endpoint=configuration.endpoint,
            region=configuration.region,
            profile=configuration.profile,
            makes_directory=makes and configuration.is_default_bucket,
            answer=configuration.timing.answer,
        ),
    )
    try:
        yield store
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5.0):
            await store.aclose()


async def prove(configuration: Configuration, store: "S3Store | DirectoryStore") -> None:
    """Make the store known for what it really does; raises StoreUnsuitable where that won't do.

    A proof is kept in the cache for a week, per bucket.
    """
    name = hashlib.sha256(store.name.encode()).hexdigest()[:32] + ".json"
    traits = await trio.to_thread.run_sync(_remembered, configuration.cache / "probes", name)
    if traits is None:
        traits = await probe(store, prefix="", ids=new_id)
        await trio.to_thread.run_sync(_remember, configuration.cache / "probes", name, traits)
    store.believe(traits)


_TRAITS = tuple(field.name for field in fields(Traits))


def _remembered(directory: PurePath, name: str) -> Traits | None:
    disk = OsDisk()
    try:
        folder = make_below(disk, directory, "XDG_CACHE_HOME")
        try:
            with opened(disk, folder, name) as file:
                found = json.loads(read_fully(file, os.fstat(file).st_size, 0))
        finally:
            disk.close(folder)
        if found["probe"] != PROBE or not 0 <= time.time() - found["time"] < PROBED_FOR:
            return None
        return Traits(**{trait: bool(found[trait]) for trait in _TRAITS})
    except (OSError, DiskError, ValueError, KeyError, TypeError):
        return None


def _remember(directory: PurePath, name: str, traits: Traits) -> None:
    disk = OsDisk()
    proved = {trait: getattr(traits, trait) for trait in _TRAITS}
    found = {**proved, "probe": PROBE, "time": time.time()}
    try:
        folder = make_below(disk, directory, "XDG_CACHE_HOME")
        try:
            replace_file(disk, folder, name, json.dumps(found).encode())
        finally:
            disk.close(folder)
    except (OSError, DiskError):
        return  # it is probed again then


def stage_context(
    configuration: Configuration,
    store: ObjectStore,
    keys: StageKeys,
    session: SessionId,
    run: RunId,
    silence: Silence | None = None,
) -> StageContext:
    """Everything that the protocols need, for one process of one session."""
    timing = configuration.timing
    trees: LRUCache[ObjectName, Manifest] = LRUCache(MOST_ENTRIES, getsizeof=_weight)
    plans: LRUCache[ObjectName, Plan] = LRUCache(4)
    uploads = Uploads()
    return StageContext(
        store=store,
        keys=keys,
        owner=Owner(
            user=configuration.user, machine=configuration.machine, session=session, run=run
        ),
        timing=timing,
        sizes=Sizes(),
        now=time.time,
        new_id=new_id,
        patience=Patience(timing, random.random, uploads.failed, silence or Silence()),
        uid=os.geteuid(),
        gid=os.getegid(),
        version=__version__,
        trees=trees,
        plans=plans,
        uploads=uploads,
        wake=Wake(_suspended),
        compute=InThread(),
    )


def _suspended() -> float:
    """Seconds that this machine has been suspended since it started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _weight(manifest: Manifest) -> int:
    return max(MOST_ENTRIES // 4, min(MOST_ENTRIES, len(manifest.entries)))


def check_made(configuration: Configuration, project: str) -> None:
    """Raise ProjectNotFound where the default bucket is not there: an empty one is not it."""
    directory = unquote(urlsplit(configuration.bucket).path)
    if configuration.is_default_bucket and not os.path.isdir(directory):
        raise ProjectNotFound(
            f"there is no project {project!r}: {configuration.bucket} is not there",
            remedy="if it was, bring that directory back: what is published is in it, and what is"
            " not is kept (pdfs recover list); for a new project in a new bucket: --create",
        )


async def check_exists(ctx: StageContext) -> None:
    """Raise ProjectNotFound unless the stage has a key in the bucket."""
    for prefix in (ctx.keys.internal_prefix, ctx.keys.plain_prefix):
        if await _has_keys(ctx, prefix):
            return
    if await _has_keys(ctx, f"{ctx.keys.project}/"):
        raise ProjectNotFound(
            f"project {ctx.keys.project!r} has no stage {ctx.keys.stage!r} in {ctx.store.name}",
            remedy="look at its stages with pdfs ls, or make a new one with --create",
        )
    raise ProjectNotFound(
        f"there is no project {ctx.keys.project!r} in {ctx.store.name}",
        remedy="look at the projects with pdfs ls, or make a new one with --create",
    )


async def _has_keys(ctx: StageContext, prefix: str) -> bool:
    async def ask() -> bool:
        async with aclosing(ctx.store.list(prefix)) as pages:  # type: ignore[type-var]  # a generator
            async for page in pages:
                if page:
                    return True
        return False

    return await ctx.patience.ask(ask)


class OnThisMachine(Protocol):
    """A session whose state is here."""

    @property
    def session(self) -> SessionId: ...
    @property
    def is_held(self) -> bool: ...


def claimant_of(
    ctx: StageContext,
    here: Iterable[OnThisMachine] = (),
    *,
    agreed: bool = False,
    take_over: bool = False,
) -> Claimant:
    """Who works by `ctx`, as one that wants the lock and knows of the sessions `here`."""
    found = list(here)
    return Claimant(
        user=ctx.owner.user,
        session=ctx.owner.session,
        run=ctx.owner.run,
        crashed=frozenset(each.session for each in found if not each.is_held),
        alive=frozenset(each.session for each in found if each.is_held),
        agreed=agreed,
        take_over=take_over,
    )
