"""Fixtures: the S3 servers, each started once when it is first asked for, and stores on them.

`PDFS_TEST_SERVERS` is a directory of programs that are no packages (`scripts/servers` builds them);
whatever runs on each S3 server then runs on those, too.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from pdfs.store.objects import ObjectStore, Traits
from pdfs.store.probe import probe
from pdfs.store.s3 import Access, S3Settings, S3Store, open_access
from tests.lengths import Length
from tests.store.r2 import r2_of
from tests.store.servers import (
    ACCESS_KEY,
    SECRET_KEY,
    Server,
    garage_server,
    minio_server,
    moto_server,
    rclone_s3,
    seaweedfs,
    versitygw_server,
)

_BUILT = os.environ.get("PDFS_TEST_SERVERS")
_SEED = int(os.environ.get("PDFS_TEST_SEED", "0"))
TURNS = 8
"""Commits, on average, until a test that is `in_turn` has its turn."""

_LENGTH = Length(os.environ.get("PDFS_TEST_LENGTH", Length.SAMPLE))


def each_server(*names: str) -> list[object]:
    """Parameters: the fixtures named, and of the servers that were built those that are there."""
    built = [name for name in ("minio", "versitygw") if _BUILT and Path(_BUILT, name).exists()]
    return [*names, *(pytest.param(name, marks=pytest.mark.built_server) for name in built)]


def each_that_ignores_conditions() -> list[object]:
    """Parameters: the fixtures of real stores that answer 200 to a PUT whose condition is false."""
    is_there = _BUILT and Path(_BUILT, "garage").exists()
    built = [pytest.param("garage", marks=pytest.mark.built_server)] if is_there else []
    return ["rclone", *built]


def sampled_server(*names: str, full: bool = True) -> list[object]:
    """The same; but of those named only one, another with each commit, where a sample will do.

    Without `full` it does for all but the longest runs.
    """
    one = names[_SEED // TURNS % len(names)]  # a test `in_turn` has each of them at times
    takes_all = _LENGTH == Length.LONG or (full and _LENGTH == Length.FULL)
    return each_server(*(names if takes_all else (one,)))


def in_turn(number: int) -> pytest.MarkDecorator:
    """Of the tests that a sample can't afford, it has those of one number below TURNS."""
    is_on = _LENGTH != Length.SAMPLE or number == _SEED % TURNS or bool(_BUILT)
    return pytest.mark.skipif(not is_on, reason="a sample has one of these, in turn")


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Server]:
    with seaweedfs() as server:
        yield server


@pytest.fixture(scope="session")
def rclone() -> Iterator[Server]:
    with rclone_s3() as server:
        yield server


@pytest.fixture(scope="session")
def r2(moto: Server) -> Iterator[Server]:
    """Cloudflare R2, as far as PDFS can tell."""
    with r2_of(moto) as relay:
        yield relay.server


@pytest.fixture(scope="session")
def r2_unlimited(moto: Server) -> Iterator[Server]:
    """The same, but an object can be written as often as one likes."""
    with r2_of(moto, interval=0.0) as relay:
        yield relay.server


@pytest.fixture(scope="session")
def minio() -> Iterator[Server]:
    assert _BUILT is not None
    with minio_server(Path(_BUILT, "minio")) as server:
        yield server


@pytest.fixture(scope="session")
def versitygw() -> Iterator[Server]:
    assert _BUILT is not None
    with versitygw_server(Path(_BUILT, "versitygw")) as server:
        yield server


@pytest.fixture(scope="session")
def garage() -> Iterator[Server]:
    assert _BUILT is not None
    with garage_server(Path(_BUILT, "garage")) as server:
        yield server


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that every test server takes, where all S3 tools look for them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


def settings_of(server: Server, *, prefix: str = "") -> S3Settings:
    return S3Settings(
        bucket=server.bucket, prefix=prefix, endpoint=server.endpoint, region=server.region
    )


@dataclass(frozen=True, slots=True)
class Opened:
    """What is made once per server, for it takes a while."""

    access: Access
    traits: Traits


@pytest.fixture(scope="session")
def opened() -> dict[str, Opened]:
    return {}


@pytest.fixture
def s3_store(credentials: None, opened: dict[str, Opened]) -> Callable[[Server], S3Store]:
    """Makes a store on a prefix of its own, with the traits that its server proved."""

    def make(server: Server) -> S3Store:
        if server.endpoint not in opened:
            access = open_access(settings_of(server))
            opened[server.endpoint] = Opened(access, trio.run(_traits, S3Store(access)))
        known = opened[server.endpoint]
        settings = settings_of(server, prefix=f"{uuid.uuid4().hex}/")
        store = S3Store(replace(known.access, settings=settings))
        store.believe(known.traits)
        return store

    return make


async def _traits(store: ObjectStore) -> Traits:
    return await probe(store, prefix="", ids=lambda: uuid.uuid4().hex)
