"""The protocols on real S3 servers: every step of a stage's life, in one process."""

import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError

from pdfs.core.ids import Path
from pdfs.core.keys import StageKeys
from pdfs.core.lease import LockState, Unpublished
from pdfs.core.timing import Timing
from pdfs.stage.context import Sizes, StageContext
from pdfs.stage.lock import read_lock
from pdfs.store.retry import Patience
from pdfs.store.s3 import S3Store
from tests.stage.contexts import Site
from tests.stage.works import sit_down
from tests.store.running import each_server
from tests.store.servers import Server, admin_client

pytestmark = pytest.mark.real_clock

BIG, SMALL, GONE, MOVED = Path("scan.e57"), Path("list.csv"), Path("old.dxf"), Path("sub/new.dxf")
THEIRS = b"by another tool"
SIZES = Sizes(small=1 << 10, pack=1 << 12, part=5 << 20, whole=6 << 20)
"""Parts of the smallest size that S3 takes."""
TIMING = Timing(delete_valid=10.0, foreign_plan_wait=11.0)


def context(site: Site, store: S3Store, user: str) -> StageContext:
    """A process of `user` at a server, with the intervals of real life."""
    ctx = site.context(user, store=store)
    patience = Patience(TIMING, site.chance.random)
    return replace(ctx, sizes=SIZES, timing=TIMING, patience=patience, uploads=ctx.uploads)


def change_behind(server: Server, store: S3Store, key: str) -> None:
    """Another tool replaces an object."""
    with closing(admin_client(server)) as client:
        while True:
            try:
                client.put_object(Bucket=server.bucket, Key=f"{prefix_of(store)}{key}", Body=THEIRS)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 429:
                    raise
            else:
                return


def prefix_of(store: S3Store) -> str:
    return store.name.partition(" at ")[0].split("/", 3)[3] + "/"


@pytest.fixture(params=each_server("seaweed", "r2"))
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def store(server: Server, s3_store: Callable[[Server], S3Store]) -> S3Store:
    return s3_store(server)


async def test_a_stage_lives_through_every_step_where_a_key_takes_one_write_a_second(
    server: Server, store: S3Store, seed: int
) -> None:
    """One right after the other: start, publish, renew, settle, conflict, end, release, start."""
    site = Site(seed=seed, keys=StageKeys("Kraftwerk", "planning"))
    drawn = random.Random(seed).randbytes(12 << 20)

    anna = await sit_down(site, context(site, store, "anna"))
    for path, data in {BIG: drawn, SMALL: b"1;2;3", GONE: b"old"}.items():
        anna.editor.write(path, data)
    await anna.publish()
    await anna.lock.renew(state=LockState.DRAINING, pending=Unpublished(files=3, bytes=9))
    await anna.catch_up()
    anna.editor.write_at(BIG, 5 << 20, b"edited")
    anna.editor.write(SMALL, b"ours")
    anna.editor.delete(GONE)
    anna.editor.write(MOVED, b"new")
    change_behind(server, store, site.keys.plain(SMALL))
    await anna.publish()
    caught = await anna.catch_up(ends=True)
    (copy,) = caught.conflicts
    assert anna.root.root.fence == 1, "a write was given up, and the session began anew"
    await anna.lock.release(Unpublished())

    seen = await read_lock(anna.ctx)
    assert seen is None or (seen.lock and seen.lock.state is LockState.RELEASED)
    bert = await sit_down(site, context(site, store, "bert"))
    edited = drawn[: 5 << 20] + b"edited" + drawn[(5 << 20) + 6 :]
    expected = {BIG: edited, SMALL: THEIRS, MOVED: b"new", copy: b"ours"}
    shown = {path: await bert.work.read(node, 0, node.size) for path, node in bert.editor.files()}
    assert shown == expected
    await bert.discard()
    await store.aclose()
