"""A bucket that refuses one key: what is set aside is named until it is there, and tried again."""

import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import LIMIT, PDFS, PROJECT, Bucket, Machine
from tests.e2e.races import relayed_bucket
from tests.store.relay import Answered, Asked, Forward, refusal
from tests.store.servers import Server

NAMED = "set aside, older or missing for other tools: refused.dwg"


@dataclass(slots=True)
class Refusing:
    """A rule: no write to one key is allowed, as long as that is said."""

    key_end: str
    is_on: bool = True
    tried: int = 0

    def __call__(self, asked: Asked, forward: Forward) -> Answered:
        if self.is_on and asked.is_write and asked.key.endswith(self.key_end):
            self.tried += 1
            return refusal(403, "AccessDenied", "not this one")
        return forward(asked)


@pytest.fixture
def refusing() -> Refusing:
    return Refusing("/planning/refused.dwg")


@pytest.fixture
def picky(moto: Server, refusing: Refusing) -> Iterator[Bucket]:
    with relayed_bucket(moto, uuid.uuid4().hex, refusing) as (bucket, _):
        yield bucket


def refused_publish(here: Machine) -> subprocess.Popen[str]:
    """A `pdfs publish` that can't end, once that is known."""
    publishing = subprocess.Popen(
        [PDFS, "publish", PROJECT], env=here.environ, stderr=subprocess.PIPE, text=True
    )
    here.wait_logged("trouble", kind="StoreRefused")
    return publishing


def aside_on(here: Machine) -> list[str]:
    (session,) = here.sessions()
    found: list[str] = session["aside"]
    return found


def test_only_what_is_refused_is_set_aside_and_every_session_names_and_tries_it(
    picky: Bucket, refusing: Refusing, machine: MakeMachine
) -> None:
    here = machine(picky)
    mounted = here.mount("--create")
    for name in ("refused.dwg", "fine.dwg"):
        (mounted / name).write_text(f"{name}\n")
    with refused_publish(here) as publishing:
        (session,) = here.sessions()
        assert list(session["refused"]) == ["refused.dwg"]
        for name in ("fine.dwg", "unheard of"):
            ended = here.run("publish", PROJECT, "--set-aside", name)
            assert (ended.code, "nothing was set aside" in ended.err) == (3, True), ended
        ended = here.run("publish", PROJECT, "--set-aside", mounted / "refused.dwg")
        assert (ended.code, NAMED in ended.err) == (0, True), ended
        _, said = publishing.communicate(timeout=LIMIT)
        assert (publishing.returncode, NAMED in said) == (0, True)
    assert aside_on(here) == ["refused.dwg"]
    (mounted / "later.dwg").write_text("later\n")
    ended = here.run("umount", mounted)
    assert (ended.code, NAMED in ended.err) == (0, True), ended
    assert sorted(picky.plain_texts()) == ["fine.dwg", "later.dwg"]
    assert "refused.dwg" in here.pdfs("check", PROJECT)

    there = machine(picky, "ws8", user="berta")
    for name, is_named in (("refused", True), ("taken", False)):
        refusing.is_on, refusing.tried = is_named, 0
        ended = there.run("mount", PROJECT, there.mountpoint)
        assert (ended.code, NAMED in ended.err) == (0, True), (name, ended)
        assert aside_on(there) == ["refused.dwg"]
        assert (there.mountpoint / "refused.dwg").read_text() == "refused.dwg\n"
        ended = there.run("umount", there.mountpoint)
        assert (ended.code, NAMED in ended.err) == (0, is_named), (name, ended)
        assert refusing.tried == is_named
    assert picky.plain_texts()["refused.dwg"] == "refused.dwg\n"
    assert there.run("mount", PROJECT, there.mountpoint).err == ""
    assert aside_on(there) == []
    there.pdfs("umount", there.mountpoint)


def test_a_word_just_before_the_unmount_is_not_forgotten_by_it(
    picky: Bucket, machine: MakeMachine
) -> None:
    here = machine(picky)
    mounted = here.mount("--create")
    (mounted / "refused.dwg").write_text("drawn\n")
    with refused_publish(here) as publishing:
        (mounted / "refused.dwg").write_text("drawn on\n")
        (mounted / "later.dwg").write_text("later\n")
        word = subprocess.Popen(
            [PDFS, "publish", PROJECT, "--set-aside", "refused.dwg"], env=here.environ
        )
        here.wait_logged("set_aside")
        ended = here.run("umount", mounted)
        assert (ended.code, NAMED in ended.err) == (0, True), ended
        assert word.wait(LIMIT) == 0
        publishing.communicate(timeout=LIMIT)
    assert picky.plain_texts() == {"later.dwg": "later\n"}


def test_a_stage_that_publishes_by_itself_goes_on_beside_what_is_set_aside(
    picky: Bucket, refusing: Refusing, machine: MakeMachine
) -> None:
    here = machine(picky)
    mounted = here.mount("--create", "--every", "1s")
    (mounted / "refused.dwg").write_text("drawn\n")
    here.wait_logged("trouble", kind="StoreRefused")
    assert here.run("publish", PROJECT, "--set-aside", "refused.dwg").code == 0
    for number in (1, 2):
        (mounted / "refused.dwg").write_text(f"drawn {number}\n")
        (mounted / "later.dwg").write_text(f"later {number}\n")
        here.wait_logged("published", 1 + number)
    assert picky.plain_texts()["later.dwg"] == "later 2\n"
    refusing.is_on = False
    assert NAMED not in here.run("umount", mounted).err
    assert picky.plain_texts()["refused.dwg"] == "drawn 2\n"
