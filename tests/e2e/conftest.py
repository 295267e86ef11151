"""Real servers for real mounts; a server or FUSE that does not work fails the tests."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.machines import Bucket, Machine, directory_bucket, make_project, server_bucket
from tests.store.running import sampled_server

MakeMachine = Callable[..., Machine]


@pytest.fixture(params=["file", "seaweed", *sampled_server("moto", "r2")])
def any_bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    """Each kind of bucket in turn, empty."""
    if request.param == "file":
        return directory_bucket(tmp_path / "bucket")
    return server_bucket(request.getfixturevalue(request.param), uuid.uuid4().hex)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    """A directory that plays the bucket, empty."""
    return directory_bucket(tmp_path / "bucket")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[MakeMachine]:
    """Makes machines; what they leave running or mounted is ended."""
    made: list[Machine] = []

    def make(bucket: Bucket, name: str = "ws7", **given: object) -> Machine:
        number = len(made)
        made.append(Machine(home=tmp_path / f"{name}-{number}", bucket=bucket, name=name, **given))  # type: ignore[arg-type]  # the fields of Machine
        return made[-1]

    yield make
    for each in made:
        each.clean_up()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small plant project of real files."""
    return make_project(tmp_path / "project")
